//! I12, bounded doubt: from every state there is, with no further fault, all work comes to an end or is held for a
//! person who can let it go on. Shown by doing it: everybody takes the next step there is, until there is none.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use boss_api::user::{ExperimentState, JobState};
use boss_model::experiment::{self, ExperimentEvent};

use super::chores::Chore;
use super::protocol::{Action, Protocol, Who};
use super::site::{Place, Site, Tenant};

/// More steps than any work takes that ends.
const STEPS: usize = 400;
const SHARDS: usize = 64;

/// States from which all work is known to end, so that what many states have in common is walked once.
#[derive(Debug)]
pub(super) struct Settled {
    shards: Vec<Mutex<HashSet<u64>>>,
}

impl Default for Settled {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Settled {
    fn shard(&self, print: u64) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        let at = usize::try_from(print % 64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, print: u64) -> bool {
        self.shard(print).contains(&print)
    }

    fn learn(&self, print: u64) {
        self.shard(print).insert(print);
    }
}

fn print(site: &Site) -> u64 {
    let mut hasher = DefaultHasher::new();
    site.hash(&mut hasher);
    hasher.finish()
}

impl Protocol {
    /// Returns whether all work ends from here, when nothing goes wrong any more.
    pub(super) fn settles(&self, site: &Site) -> bool {
        let mut walked = vec![print(site)];
        let mut at = None;
        for _ in 0..STEPS {
            let now = at.as_ref().unwrap_or(site);
            let known = walked.last().is_some_and(|print| self.settled.knows(*print));
            let next = if known { None } else { self.progress(now) };
            let Some(next) = next else {
                let ends = known || is_settled(now);
                if ends {
                    walked.into_iter().for_each(|print| self.settled.learn(print));
                }
                return ends;
            };
            walked.push(print(&next));
            at = Some(next);
        }
        false
    }

    /// Returns the next state when nothing goes wrong: who was late comes first, then boss, then agents, then what boss
    /// finds when it looks.
    fn progress(&self, site: &Site) -> Option<Site> {
        let going = [Action::Go(Who::Paused), Action::Upload(Who::Paused), Action::Go(Who::Ruling)];
        let nodes = 0..self.scene.nodes;
        let deliveries = site.messages.iter().copied().map(Action::Deliver);
        let orders = site.orders.iter().copied().filter(|order| {
            // One that was kept is taken by mischance only.
            site.machines[usize::from(order.node)].agent().is_some_and(|agent| agent.boot == order.boot)
        });
        let agents = nodes.clone().flat_map(|node| {
            let slots = [0, 1].map(|slot| Action::Close(node, slot)).into_iter();
            slots.chain([0, 1].map(|slot| Action::Open(node, slot))).chain([Action::Read(node)])
        });
        going
            .into_iter()
            .chain([Action::Upload(Who::Ruling)])
            .chain(deliveries)
            .chain(agents)
            .chain(orders.map(Action::Take))
            .chain(nodes.map(Action::Answer))
            .chain(Chore::ALL.map(Action::Step))
            .find_map(|action| self.next(site, action))
    }
}

/// Returns whether nothing is left to do but what a person decides, and that there is such a person.
fn is_settled(site: &Site) -> bool {
    let experiments = Tenant::ALL.into_iter().all(|of| {
        let row = site.db.experiment(of);
        match row.job {
            Some(job) => {
                job.state == JobState::Held
                    && experiment::apply(row.state, ExperimentEvent::Resume(Some(job.kind))).is_ok()
            }
            None => matches!(
                row.state,
                ExperimentState::Swapped | ExperimentState::Active | ExperimentState::Ended | ExperimentState::Held
            ),
        }
    });
    // A machine that is held waits for the job of its experiment; after a restored database, for an operator.
    let held = site.db.nodes.iter().all(|row| match (row.place, row.of) {
        (Place::Held(_), Some((of, _))) => site.db.experiment(of).job.is_some_and(|job| job.state == JobState::Held),
        (Place::Held(_), None) => false,
        (Place::At(_), _) => true,
    });
    experiments && (held || site.restored)
}
