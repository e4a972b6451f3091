//! The one way to a disk opened for writing: a permit that was checked against the machine as it is now.
//!
//! [`VerifiedPermit`] has no constructor but [`VerifiedPermit::check`], and [`DiskWriter`] none but
//! [`DiskWriter::open`], which takes one. Nothing else in this crate opens a disk for writing.

use std::fs::File;
use std::path::{Path, PathBuf};

use boss_api::agent::{Permit, WriteOrder};
use boss_api::client::{LowerTerm, TermMemory as _};
use boss_api::ids::{JobId, WriteId};
use boss_api::names::Name;
use imagezip::io::{Disk, DiskError, DiskIo};
use rustix::fs::{FlockOperation, flock};
use sigs::ByteLen;
use sigs::seal::{SealError, SealKind, TrustedKeys};

use super::memory::Memory;
use crate::disk::{IdentifyError, identify};

/// Who a permit must be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This machine.
    pub node: Name,
    /// Its epoch, as boss said when this boot registered.
    pub epoch: u64,
}

/// Why a disk is not written. It is untouched.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    /// No good seal of a boss that is trusted.
    #[error("the permit is refused")]
    Seal(#[source] SealError),
    /// Sealed, but not a permit.
    #[error("the permit is not understood")]
    Json(#[source] serde_json::Error),
    /// Sealed, but for something else.
    #[error("the permit is for {what} {permitted}, this is {found}")]
    Other {
        /// What differs.
        what: &'static str,
        /// What the permit says.
        permitted: String,
        /// What is.
        found: String,
    },
    /// Sealed by a boss that another followed. The ruling one has sealed it anew, if it still holds.
    #[error("the permit is of term {permitted}, and a boss rules in term {ruling}")]
    OldTerm {
        /// What the permit says.
        permitted: u64,
        /// The highest that was heard.
        ruling: u64,
    },
    /// The disk does not say what it is.
    #[error("the disk to write cannot be identified")]
    Identify(#[source] IdentifyError),
}

/// Leave to write one disk of this machine, checked.
#[derive(Debug)]
pub struct VerifiedPermit {
    permit: Permit,
    disk: Name,
    path: PathBuf,
}

impl VerifiedPermit {
    /// Checks the seal of a permit, and everything it says against the order, this boot, the bosses that were heard, and
    /// the disk as it is now.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn check(
        order: &WriteOrder,
        job: JobId,
        (identity, memory): (&Identity, &Memory),
        boss_keys: &TrustedKeys,
        path: &Path,
    ) -> Result<Self, PermitError> {
        let statement = order.permit.verify(SealKind::Permit, boss_keys).map_err(PermitError::Seal)?;
        let permit: Permit = serde_json::from_str(statement).map_err(PermitError::Json)?;
        same("write", &permit.write, &order.write)?;
        same("job", &permit.job, &job)?;
        same("node", &permit.node, &identity.node)?;
        same("epoch", &permit.epoch, &identity.epoch)?;
        memory
            .hear(permit.term)
            .map_err(|LowerTerm { said, heard }| PermitError::OldTerm { permitted: said, ruling: heard })?;
        let permit = Self { permit, disk: order.disk.clone(), path: path.to_owned() };
        permit.check_disk()?;
        Ok(permit)
    }

    /// Compares the permit with what the disk says of itself now.
    fn check_disk(&self) -> Result<(), PermitError> {
        let found = identify(&self.disk, &self.path).map_err(PermitError::Identify)?;
        same("the disk with serial", &self.permit.serial, &found.serial)?;
        same("a disk of so many bytes:", &self.permit.bytes, &found.bytes)
    }

    /// Returns the size of the disk it is for.
    pub const fn disk_bytes(&self) -> ByteLen {
        self.permit.bytes
    }

    /// Returns the write it allows.
    pub const fn write(&self) -> WriteId {
        self.permit.write
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &'static str, permitted: &T, found: &T) -> Result<(), PermitError> {
    if permitted == found {
        return Ok(());
    }
    Err(PermitError::Other { what, permitted: permitted.to_string(), found: found.to_string() })
}

/// A disk that could not be opened for writing. It is untouched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused, or it is in use.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process holds its lock.
    #[error("lock {path}: another program uses this disk")]
    Lock {
        /// The disk.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is not the disk any more that was checked.
    #[error(transparent)]
    Permit(#[from] PermitError),
}

/// A disk open for writing, under a permit, locked against every other program that asks.
#[derive(Debug)]
pub struct DiskWriter {
    disk: Disk,
    // Held for its lock.
    _lock: File,
}

impl DiskWriter {
    /// Opens the disk that a permit is for. This is the only place where a disk is opened for writing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(permit: &VerifiedPermit) -> Result<Self, OpenError> {
        let path = &permit.path;
        let locked = |source| OpenError::Lock { path: path.clone(), source };
        let lock = File::open(path).map_err(locked)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| locked(error.into()))?;
        let disk = Disk::open_for_writing(path)?;
        // Between the check and now the path may have come to mean another disk.
        permit.check_disk()?;
        Ok(Self { disk, _lock: lock })
    }

    /// Returns the disk.
    pub fn disk(&self) -> &dyn DiskIo {
        &self.disk
    }
}
