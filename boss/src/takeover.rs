//! How a boss comes to rule: in one transaction it takes the next term and settles what the last boss left open.
//!
//! Open permits are sealed anew, because agents refuse those of an older term. But when the store has seen more than
//! the database knows of, the database is an older one, put back: then none is, and every machine is held, for its row
//! may say "free" or "to be overwritten" of a machine that somebody has worked on since.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boss_db::{PgConnection, PgPool, boots, nodes, term, writes};
use boss_model::term::Standing;
use time::OffsetDateTime;

use crate::error::AppError;
use crate::reconcile::hold::{Doubt, Ruling, Whom, hold_for};
use crate::reconcile::permits;
use crate::sealing::BossKeys;
use crate::store::{Gate, StoreError};

/// The longest that a change in the store takes: one write, one flush.
const CHANGE: Duration = Duration::from_secs(60);
/// How often it is looked whether it is over; a lock on a file cannot be waited for with a deadline.
const LOOK: Duration = Duration::from_millis(20);

/// A boss that rules.
#[derive(Clone, Debug)]
pub struct Rule {
    /// In this term.
    pub term: u64,
    /// And may change the store.
    pub gate: Arc<Gate>,
    /// The database was put back from a backup: what no row refers to in the store may be what it lost.
    pub keep_unreferenced: bool,
}

/// Why a boss does not come to rule.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The store's marker cannot be read or raised.
    #[error("take the store over")]
    Store(#[from] StoreError),
    /// The database did not take it, or may have: a start after this one finds out.
    #[error("take the next term")]
    Database(#[from] boss_db::DbError),
    /// What was left open cannot be settled.
    #[error("settle what the last boss left open: {}", .0.told().message)]
    Settle(AppError),
}

impl From<AppError> for TakeoverError {
    fn from(error: AppError) -> Self {
        // Its cause is for the log, and nobody else writes it.
        error.log();
        Self::Settle(error)
    }
}

/// Takes over from whoever ruled before.
///
/// # Errors
/// [`TakeoverError`]; then nobody new rules.
pub async fn take_over(
    pool: &PgPool,
    state: &Path,
    keys: &BossKeys,
    at: OffsetDateTime,
) -> Result<Rule, TakeoverError> {
    let last = Gate::last(state)?;
    let mut tx = pool.begin().await.map_err(boss_db::DbError::from)?;
    let takeover = term::take(&mut tx, last).await?;
    let term = takeover.term;
    if takeover.database_is_older {
        tracing::error!(term, "the store has seen more than the database knows of: every machine is held");
        hold_all(Ruling { term, at }, &mut tx).await?;
    } else {
        for write in writes::open(&mut tx).await? {
            permits::renew(keys, term, &mut tx, &write).await?;
        }
    }
    let moves = term::standing(&mut tx).await?.moves;
    // Also of a start before this one that did not come to it.
    let keep_unreferenced = term::keeps_unreferenced(&mut tx).await?;
    tx.commit().await.map_err(boss_db::DbError::from)?;
    // Only now: a marker above the database would mean that the database was put back.
    let gate = raise(state, Standing { term, moves }).await?;
    Ok(Rule { term, gate, keep_unreferenced })
}

/// Raises the marker of the store, after the change that another boss may be in the middle of. One that stands still there
/// keeps us for this long, and is then named instead.
async fn raise(state: &Path, to: Standing) -> Result<Arc<Gate>, StoreError> {
    let until = Instant::now() + CHANGE;
    loop {
        match Gate::raise(state, to) {
            Err(StoreError::Busy(_)) if Instant::now() < until => tokio::time::sleep(LOOK).await,
            raised => return raised,
        }
    }
}

async fn hold_all(ruling: Ruling, tx: &mut PgConnection) -> Result<(), AppError> {
    for node in nodes::all(&mut *tx).await? {
        if let Some(boot) = boots::alive(&mut *tx, node.id).await? {
            boots::end(&mut *tx, boot.id).await?;
        }
        let doubt = Doubt::new(
            "the database is older than the store: it was restored from a backup, so what it says of this machine may \
             be over",
            "find out whose work is on its disks, then retry it if the database is right about it",
        );
        hold_for(Whom::Site, ruling, &mut *tx, node.id, doubt).await?;
    }
    Ok(())
}
