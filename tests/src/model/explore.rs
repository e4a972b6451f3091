//! Explores a scene to the end, or until a property is refuted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use stateright::{Checker as _, HasDiscoveries, Model as _, Path};

use super::planted::Planted;
use super::protocol::{Action, Protocol, Watched};
use super::scenes::Scene;
use super::site::Site;

/// What an exploration found.
#[derive(Clone, Debug)]
pub struct Explored {
    /// How many states were seen.
    pub states: usize,
    /// How many steps the longest way to one has.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// No state is left that was not seen.
    pub complete: bool,
    /// The properties that were found, each with the steps that lead there.
    pub found: Vec<(&'static str, Vec<String>)>,
}

/// Explores a scene until it is complete or an invariant does not hold.
pub fn whole(scene: Scene, limit: Duration) -> Explored {
    run(Protocol::new(scene, None, Watched::Invariants), HasDiscoveries::AnyFailures, limit)
}

/// Explores a scene with a planted defect until the property that must find it does.
pub fn defect(scene: Scene, planted: Planted, limit: Duration) -> Explored {
    let watched = Watched::One(planted.found_by());
    run(Protocol::new(scene, Some(planted), watched), HasDiscoveries::All, limit)
}

/// Explores a scene until everything was seen that must be seen in it.
pub fn sights(scene: Scene, limit: Duration) -> Explored {
    let wanted = BTreeSet::from_iter(scene.sights.iter().copied());
    run(Protocol::new(scene, None, Watched::Sights), HasDiscoveries::AllOf(wanted), limit)
}

fn run(protocol: Protocol, until: HasDiscoveries, limit: Duration) -> Explored {
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = protocol.checker().threads(threads).timeout(limit).finish_when(until).spawn_bfs().join();
    let took = begin.elapsed();
    let found: Vec<_> = checker.discoveries().into_iter().map(|(name, path)| (name, steps(path))).collect();
    let complete = found.is_empty() && took < limit;
    Explored { states: checker.unique_state_count(), depth: checker.max_depth(), took, complete, found }
}

fn steps(path: Path<Site, Action>) -> Vec<String> {
    path.into_actions().into_iter().map(|action| format!("{action:?}")).collect()
}
