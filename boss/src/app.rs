//! What every handler and the reconciler share.

use std::sync::Arc;

use boss_api::ErrorCode;
use boss_db::{PgConnection, PgPool, Postgres, Transaction, settings, term};
use boss_model::settings::Settings;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::AppError;
use crate::pace::Pace;
use crate::power::{Command, Machine, Power, SwitchError};
use crate::sealing::BossKeys;
use crate::store::{Gate, ImageStore, Room, Staging};

/// The parts of a running boss. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The database.
    pub pool: PgPool,
    /// Flags, environment and file, resolved.
    pub config: Arc<Config>,
    /// Images and swap state.
    pub store: Arc<dyn ImageStore>,
    /// How much the store may still take.
    pub room: Arc<Room>,
    /// How fast images may travel.
    pub pace: Arc<Pace>,
    /// What of captures has arrived.
    pub staging: Arc<Staging>,
    /// Machines on and off.
    pub power: Power,
    /// boss's own signing key and those it believes.
    pub keys: Arc<BossKeys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The term this boss rules in: every effect carries it.
    pub term: u64,
    /// Whether it still rules over the store.
    pub gate: Arc<Gate>,
    /// Wakes the reconciler and waiting polls: something changed. Losing a wake-up costs a moment, never correctness.
    pub changed: Arc<Notify>,
}

impl App {
    /// Begins a transaction that changes something: it fails once another boss rules, and none can take over inside.
    ///
    /// # Errors
    /// [`boss_db::DbError::TermOver`]; what the database says.
    pub async fn begin(&self) -> boss_db::Outcome<Transaction<'static, Postgres>> {
        let mut tx = boss_db::begin(&self.pool).await?;
        term::fence(&mut tx, self.term).await?;
        Ok(tx)
    }

    /// Gives a command to the power of a machine, if this boss rules at this moment.
    ///
    /// # Errors
    /// As [`Power::switch`].
    pub async fn switch(&self, machine: &Machine, command: Command<'_>) -> Result<(), SwitchError> {
        self.power.switch((&self.pool, self.term), machine, command).await
    }

    /// Returns the present.
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Returns the site's variables as they are in force now.
    ///
    /// # Errors
    /// When one in the database does not parse; what the database says.
    pub async fn settings(&self, conn: &mut PgConnection) -> Result<Settings, AppError> {
        let changed = settings::all(conn).await?;
        Settings::of(changed.iter().map(|(name, text)| (name.as_str(), text.as_str())))
            .map_err(|error| AppError::new(ErrorCode::WrongState, format!("a site variable is refused: {error}")))
    }
}
