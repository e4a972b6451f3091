//! Machines on and off: the seam behind which local processes, QEMU, Redfish and IPMI look alike.

mod limited;
mod process;
mod switch;

use std::pin::Pin;

use boss_api::Name;
use boss_api::agent::BootParameters;
use boss_api::user::PowerConfig;

pub use limited::Limited;
pub use process::ProcessDriver;
pub use switch::{Command, Power, SwitchError};

/// What a driver returns.
pub type PowerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, PowerError>> + Send + 'a>>;

/// A machine and how it is switched.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: Name,
    /// How it is switched on and off.
    pub power: PowerConfig,
}

/// What a machine runs, as far as can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerStatus {
    /// Nothing.
    Off,
    /// The memory file system with our agent.
    Mfs,
    /// Its own system, from its own disk.
    OwnDisk,
}

/// Why a machine could not be switched.
#[derive(Debug, thiserror::Error)]
#[error("{what} of {node}")]
pub struct PowerError {
    /// Which machine.
    pub node: Name,
    /// What was tried.
    pub what: &'static str,
    /// Why it did not work.
    #[source]
    pub source: std::io::Error,
}

impl PowerError {
    /// Returns whether there was no room for what belongs to a boot, in the state directory of boss.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}

/// Says what a machine boots.
pub trait BootControl: Send + Sync + std::fmt::Debug {
    /// Boots the memory file system. What ran before is off first; repeating it boots again.
    fn boot_mfs<'a>(&'a self, machine: &'a Machine, parameters: &'a BootParameters) -> PowerFuture<'a, ()>;

    /// Boots the machine's own system from its own disk. Repeating it changes nothing.
    fn boot_disk<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()>;
}

/// Switches machines.
pub trait PowerDriver: BootControl {
    /// Asks the running system to shut down. It may refuse or hang: the caller has a deadline.
    fn shut_down<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()>;

    /// Switches the machine off, whatever runs. It is off when this returns.
    fn power_off<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()>;

    /// Returns what the machine runs.
    fn status<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, PowerStatus>;
}
