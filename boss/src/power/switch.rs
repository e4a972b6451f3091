//! Commands to the power of machines: given only by the boss that rules.
//!
//! A machine's power knows no terms, so the term is looked at right before each command, here and nowhere else. What is
//! left is the moment between that look and the command: a boss that stands still in it gives that one command when it
//! goes on, under whoever rules by then.

use std::sync::Arc;

use boss_api::agent::BootParameters;
use boss_db::{DbError, PgPool, term};

use super::{Machine, PowerDriver, PowerError, PowerStatus};

/// The power of all machines. Anybody may look at it; who commands says in which term.
#[derive(Clone, Debug)]
pub struct Power(Arc<dyn PowerDriver>);

/// What a machine is to do.
#[derive(Debug)]
pub enum Command<'a> {
    /// See [`super::BootControl::boot_mfs`].
    BootMfs(&'a BootParameters),
    /// See [`super::BootControl::boot_disk`].
    BootDisk,
    /// See [`PowerDriver::shut_down`].
    ShutDown,
    /// See [`PowerDriver::power_off`].
    PowerOff,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It was not given: another boss rules, or the database does not say.
    #[error(transparent)]
    NotGiven(#[from] DbError),
    /// It was given, and did not work.
    #[error(transparent)]
    Power(#[from] PowerError),
}

impl Power {
    /// Commands machines through a driver.
    pub fn new(driver: Arc<dyn PowerDriver>) -> Self {
        Self(driver)
    }

    /// Returns what a machine runs.
    ///
    /// # Errors
    /// [`PowerError`].
    pub async fn status(&self, machine: &Machine) -> Result<PowerStatus, PowerError> {
        self.0.status(machine).await
    }

    /// Gives a machine a command if the boss of this term rules at this moment.
    ///
    /// # Errors
    /// [`SwitchError::NotGiven`] when it does not; [`SwitchError::Power`].
    pub(crate) async fn switch(
        &self,
        (pool, term): (&PgPool, u64),
        machine: &Machine,
        command: Command<'_>,
    ) -> Result<(), SwitchError> {
        let mut conn = pool.acquire().await.map_err(DbError::from)?;
        term::check(&mut conn, term).await?;
        // Nothing comes between this look and the command.
        drop(conn);
        let driver = &self.0;
        let given = match command {
            Command::BootMfs(parameters) => driver.boot_mfs(machine, parameters),
            Command::BootDisk => driver.boot_disk(machine),
            Command::ShutDown => driver.shut_down(machine),
            Command::PowerOff => driver.power_off(machine),
        };
        Ok(given.await?)
    }
}
