//! Machines and their disks.

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, Root};
use time::OffsetDateTime;

use super::experiments::ImageSelector;
use super::held::{HeldDisks, KeptView};
use crate::ids::NodeId;
use crate::names::Name;

/// The state of a machine as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum NodeStateView {
    /// Nobody's.
    Free,
    /// Taken for an experiment.
    Reserved,
    /// Being loaded.
    Restoring,
    /// Loaded and proved equal.
    Checked,
    /// Running its own system.
    InUse,
    /// Being shut down and booted into the MFS.
    Quiescing,
    /// Being saved.
    Capturing,
    /// Saved and verified, or by waiver not to be saved.
    Releasable,
    /// Being overwritten with the site's default base.
    Sanitizing,
    /// Going back to its own system.
    Rebooting,
    /// Doubt: nothing is overwritten until somebody decides.
    Held {
        /// What happened.
        reason: String,
        /// Who should look at it.
        owner: String,
        /// What to do next.
        next: String,
        /// What is on its disks, as far as boss knows.
        disks: HeldDisks,
        /// What somebody noted on it.
        kept: Option<KeptView>,
    },
}

impl NodeStateView {
    /// Returns whether a machine of a swap-in may have been written to by its user since it was loaded.
    pub const fn may_hold_new_work(&self) -> bool {
        matches!(self, Self::Checked | Self::InUse | Self::Held { disks: HeldDisks::Unsaved, .. })
    }

    /// Returns the word for people.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Reserved => "reserved",
            Self::Restoring => "restoring",
            Self::Checked => "checked",
            Self::InUse => "in use",
            Self::Quiescing => "shutting down",
            Self::Capturing => "saving",
            Self::Releasable => "saved",
            Self::Sanitizing => "sanitizing",
            Self::Rebooting => "rebooting",
            Self::Held { .. } => "held",
        }
    }
}

/// Registers a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterNode {
    /// Its name.
    pub name: Name,
    /// How it is switched on and off.
    pub power: PowerConfig,
    /// Its disks; the first is the one it boots from. 1 to 32.
    pub disks: Vec<RegisterDisk>,
}

/// A disk of a machine to register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterDisk {
    /// Its name, such as `sda`.
    pub name: Name,
    /// Its serial number.
    pub serial: String,
    /// Its size.
    pub bytes: ByteLen,
    /// The size of its logical sectors.
    pub sector_size: sigs::SectorSize,
}

/// How a machine is switched on and off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase", deny_unknown_fields)]
pub enum PowerConfig {
    /// A local node: its agent is a process, its disks are files. Each file has a serial beside it, in `FILE.serial`.
    Process {
        /// For each disk, by name, its file: an absolute path.
        disks: std::collections::BTreeMap<Name, String>,
    },
}

/// A machine as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Its state.
    pub state: NodeStateView,
    /// How often it changed hands.
    pub epoch: u64,
    /// The experiment that has it: `pid/eid`.
    pub experiment: Option<String>,
    /// The virtual node it is.
    pub vname: Option<Name>,
    /// Its disks.
    pub disks: Vec<DiskView>,
}

/// A disk as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskView {
    /// Its name.
    pub name: Name,
    /// Its serial number.
    pub serial: String,
    /// Its size.
    pub bytes: ByteLen,
    /// What it was loaded from, by place.
    pub segments: Vec<SegmentView>,
}

/// A range of a disk and the image it was loaded from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentView {
    /// Where it begins.
    pub start: sigs::ByteOffset,
    /// How long it is.
    pub bytes: ByteLen,
    /// The image: `name/version`.
    pub image: ImageSelector,
    /// Its root.
    pub root: Root,
    /// When it was loaded.
    #[serde(with = "time::serde::rfc3339")]
    pub loaded_at: OffsetDateTime,
}

/// Asks to load an image on a machine of an experiment, now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadNode {
    /// The image.
    pub image: ImageSelector,
}
