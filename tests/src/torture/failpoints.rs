//! Every named place with an error, a crash and a delay: one cycle each, and every disk is right in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use super::arming::Fault;
use super::points::{POINTS, Point, Scene};
use super::report::{Method, Row};
use super::turnover::{Trouble, Turn, Turnover};
use super::workers::Worker;
use super::{commands, uploads, workers};
use crate::talk;

/// What is to go wrong in one run.
pub type Case = (Point, Fault);

/// Returns every place with every fault.
pub fn all() -> Vec<Case> {
    POINTS.iter().flat_map(|point| Fault::ALL.map(|fault| (*point, fault))).collect()
}

/// In which turns a place is come by.
type Turns = BTreeMap<String, Vec<Turn>>;

/// What the runs found, so far.
#[derive(Debug, Default)]
struct Account {
    fired: u64,
    trouble: Trouble,
    failures: Vec<String>,
}

/// Runs the cases, by so many workers, each with a site of its own in `folder`.
///
/// # Errors
/// When not even a cycle in which nothing goes wrong works.
pub fn run(folder: &Path, cases: &[Case], workers: usize) -> anyhow::Result<Row> {
    let began = Instant::now();
    let mut first = Turnover::start(&folder.join("worker-0")).context("start a site")?;
    let (turns, passed) = learn(&mut first).context("a cycle in which nothing goes wrong")?;
    let mut account = Account::default();
    let told = |index: usize, (Point { name, .. }, fault): &Case, ended: anyhow::Result<Trouble>| {
        let place = format!("[{}/{}] {name} {fault}", index + 1, cases.len());
        match ended {
            Ok(trouble) => {
                let Trouble { held, restarts, .. } = &trouble;
                talk::say(format!("{place}: held {}, boss started again {restarts}", held.len()));
                account.fired += 1;
                account.trouble.add(trouble);
            }
            Err(error) => {
                talk::say(format!("{place}: {error:#}"));
                account.failures.push(format!("{name} {fault}: {error:#}"));
            }
        }
    };
    workers::share(folder, first, workers, cases, |worker, index, case| one(worker, index, case, &turns), told);
    let Account { fired, trouble, failures } = account;
    let tried = u64::try_from(cases.len()).unwrap_or(u64::MAX);
    let mut more = serde_json::Map::new();
    more.insert("points".into(), json!(POINTS.len()));
    more.insert("passed_in_one_cycle".into(), json!(passed));
    more.insert("held".into(), json!(trouble.held.len()));
    more.insert("restarts".into(), json!(trouble.restarts));
    Ok(Row {
        method: Method::Failpoints,
        tried,
        found: fired,
        expected: tried,
        seconds: began.elapsed().as_secs_f64(),
        failures,
        more,
    })
}

/// Takes every turn once, and notes in which of them each place is come by, and how often any is.
fn learn(turnover: &mut Turnover) -> anyhow::Result<(Turns, u32)> {
    let (mut turns, mut passed) = (Turns::new(), 0);
    for turn in Turn::ALL {
        turnover.arming().clear()?;
        let trouble = turnover.turn(turn)?;
        ensure!(trouble == Trouble::default(), "{turn:?}: {trouble:?}");
        for (name, times) in turnover.arming().hits() {
            turns.entry(name).or_default().push(turn);
            passed += times;
        }
    }
    Ok((turns, passed))
}

fn one(worker: &mut Worker, index: usize, (point, fault): &Case, turns: &Turns) -> anyhow::Result<Trouble> {
    match point.scene {
        Scene::Command => commands::run(&worker.folder(&format!("command-{index}")), point, *fault),
        Scene::Upload => uploads::run(worker.turnover()?, point, *fault, index),
        Scene::Turns | Scene::After(..) => cycle(worker.turnover()?, point, *fault, turns),
    }
}

/// One cycle, with something that goes wrong in one of its turns.
fn cycle(turnover: &mut Turnover, point: &Point, fault: Fault, turns: &Turns) -> anyhow::Result<Trouble> {
    let chosen = match point.scene {
        Scene::After(..) => Turn::FirstOut,
        _ => {
            let known = turns.get(point.name).with_context(|| format!("never hit: no turn comes by {}", point.name))?;
            // Another turn for each fault, as far as there are some.
            known[fault as usize % known.len()]
        }
    };
    let mut trouble = Trouble::default();
    for turn in Turn::ALL {
        turnover.arming().clear()?;
        if turn == chosen {
            if let Scene::After(before, how) = point.scene {
                turnover.arming().arm(before, how, 1)?;
            }
            turnover.arming().arm(point.name, fault, point.at)?;
        }
        trouble.add(turnover.turn(turn).with_context(|| format!("in {turn:?}, armed in {chosen:?}"))?);
        if turn == chosen {
            ensure!(turnover.arming().has_fired(point.name), "never hit in {chosen:?}");
        }
    }
    Ok(trouble)
}
