//! What every handler and the reconciler share.

use std::sync::Arc;

use boss_db::PgPool;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Config;
use crate::power::PowerDriver;
use crate::sealing::BossKeys;
use crate::store::{ImageStore, Staging};

/// The parts of a running boss. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// Flags, environment and file, resolved.
    pub config: Arc<Config>,
    /// Images and swap state.
    pub store: Arc<dyn ImageStore>,
    /// What of captures has arrived.
    pub staging: Arc<Staging>,
    /// Machines on and off.
    pub power: Arc<dyn PowerDriver>,
    /// boss's own signing key and those it believes.
    pub keys: Arc<BossKeys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The term this boss rules in: every effect carries it.
    pub term: u64,
    /// Wakes the reconciler and waiting polls: something changed. Losing a wake-up costs a moment, never correctness.
    pub changed: Arc<Notify>,
}
