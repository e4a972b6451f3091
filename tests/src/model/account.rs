//! What the explorations found, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use super::explore::{self, Explored};
use super::planted::Planted;
use super::scenes::Scene;
use crate::talk;
use crate::torture::report::{Method, Row};

/// The longest one exploration may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// A scene that was explored.
#[derive(Clone, Debug, Serialize)]
pub struct SceneLine {
    /// Its name.
    pub scene: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What may happen in it.
    pub bounds: String,
    /// How many states it has.
    pub states: usize,
    /// How many steps the longest way to one has, counted from the first state.
    pub depth: usize,
    /// How long it took.
    pub seconds: f64,
    /// No state is left that was not seen, and every property holds in all of them.
    pub complete: bool,
}

/// A planted defect.
#[derive(Clone, Debug, Serialize)]
pub struct DefectLine {
    /// Its name.
    pub defect: String,
    /// The property that must find it.
    pub property: &'static str,
    /// In this scene.
    pub scene: &'static str,
    /// How many states were seen until then.
    pub states: usize,
    /// The steps that lead there; none: it was not found.
    pub steps: Vec<String>,
}

/// The account of all of it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// How many states were seen, those with planted defects too.
    pub tried: usize,
    /// How many states the scenes have.
    pub states: usize,
    /// How long all of it took.
    pub took: Duration,
    /// What went wrong, in words; empty when all is well.
    pub failures: Vec<String>,
    /// The scenes.
    pub scenes: Vec<SceneLine>,
    /// The planted defects.
    pub planted: Vec<DefectLine>,
}

impl Account {
    /// Explores scenes, and looks for planted defects.
    pub fn take(scenes: &[Scene], planted: &[Planted], limit: Duration) -> Self {
        let mut account = Self::default();
        for scene in scenes {
            account.explore(scene, limit);
        }
        for defect in planted {
            account.search(*defect, limit);
        }
        account
    }

    /// Returns whether every scene is complete, every property holds, and every defect was found.
    pub fn is_well(&self) -> bool {
        self.failures.is_empty()
    }

    /// Returns it as a row of the report: found is what was planted and found.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn row(self) -> anyhow::Result<Row> {
        let bounds: Vec<_> = self.scenes.iter().map(|line| format!("{}: {}", line.scene, line.bounds)).collect();
        let more = serde_json::json!({
            "states": self.states,
            "complete": self.scenes.iter().all(|line| line.complete),
            "bounds": bounds,
            "scenes": self.scenes,
            "planted": self.planted,
        });
        let found = self.planted.iter().filter(|line| !line.steps.is_empty()).count();
        Ok(Row {
            method: Method::Model,
            tried: u64::try_from(self.tried)?,
            found: u64::try_from(found)?,
            expected: u64::try_from(self.planted.len())?,
            seconds: self.took.as_secs_f64(),
            failures: self.failures,
            more: serde_json::from_value(more)?,
        })
    }

    fn add(&mut self, explored: &Explored) {
        self.tried += explored.states;
        self.took += explored.took;
    }

    fn explore(&mut self, scene: &Scene, limit: Duration) {
        let whole = explore::whole(scene.clone(), limit);
        self.add(&whole);
        for (property, steps) in &whole.found {
            let way = steps.join("\n    ");
            self.failures.push(format!("{}: {property} does not hold after\n    {way}", scene.name));
        }
        if !whole.complete && whole.found.is_empty() {
            let (states, seconds) = (whole.states, limit.as_secs());
            self.failures.push(format!("{}: not done within {seconds} s, after {states} states", scene.name));
        }
        let seen = explore::sights(scene.clone(), limit);
        self.add(&seen);
        let unseen = scene.sights.iter().filter(|sight| !seen.found.iter().any(|(name, _)| name == *sight));
        self.failures.extend(unseen.map(|sight| format!("{}: never {sight}", scene.name)));
        let line = SceneLine {
            scene: scene.name,
            about: scene.about,
            bounds: scene.bounds(),
            states: whole.states,
            depth: whole.depth,
            seconds: whole.took.as_secs_f64(),
            complete: whole.complete,
        };
        talk::say(format!("{line}"));
        self.states += whole.states;
        self.scenes.push(line);
    }

    fn search(&mut self, defect: Planted, limit: Duration) {
        let scene = defect.scene();
        let name = scene.name;
        let explored = explore::defect(scene, defect, limit);
        self.add(&explored);
        let steps = explored.found.into_iter().next().map(|(_, steps)| steps).unwrap_or_default();
        let line = DefectLine {
            defect: format!("{defect:?}"),
            property: defect.found_by(),
            scene: name,
            states: explored.states,
            steps,
        };
        talk::say(format!("{line}"));
        if line.steps.is_empty() {
            self.failures.push(format!("{} was not found by {:?} in {name}", line.defect, line.property));
        }
        self.planted.push(line);
    }
}

impl std::fmt::Display for SceneLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scene, states, depth, seconds, complete, .. } = self;
        let complete = if *complete { "complete" } else { "NOT COMPLETE" };
        write!(f, "{scene:<10} {states:>9} states, depth {depth:>3}, {seconds:>6.1} s, {complete}")
    }
}

impl std::fmt::Display for DefectLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { defect, property, scene, states, steps } = self;
        match steps.len() {
            0 => write!(f, "{defect:<24} NOT FOUND in {scene} ({states} states)"),
            steps => write!(f, "{defect:<24} after {steps:>2} steps in {scene:<8} by {property}"),
        }
    }
}

/// Explores everything.
///
/// # Errors
/// When what was found cannot be written as JSON.
pub fn run() -> anyhow::Result<Row> {
    Account::take(&Scene::all(), Planted::ALL, LIMIT).row()
}
