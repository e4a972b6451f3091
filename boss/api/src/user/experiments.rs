//! Experiments: made, changed, shown.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::jobs::JobView;
use super::nodes::NodeStateView;
use super::points::{DiskProgress, SwapPointView};
use crate::ids::ExperimentId;
use crate::names::{ExperimentName, Name};

/// The most virtual nodes of one experiment.
pub const MAX_VIRTUAL_NODES: usize = 256;

/// Asks for a new experiment, swapped out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateExperiment {
    /// The project.
    pub pid: Name,
    /// The name.
    pub eid: Name,
    /// The *Save swap state* box.
    pub save_swap_state: bool,
    /// The nodes it needs, 1 to [`MAX_VIRTUAL_NODES`].
    pub nodes: Vec<VirtualNodeSpec>,
}

/// One node of a new experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualNodeSpec {
    /// Its name within the experiment.
    pub vname: Name,
    /// The base image to load: `name`, `name/version`, of the project or of the site.
    pub image: ImageSelector,
}

/// Names an image, and perhaps a version; without one the newest that is not retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageSelector {
    /// The image.
    pub name: Name,
    /// The version.
    pub version: Option<u32>,
}

impl std::str::FromStr for ImageSelector {
    type Err = crate::names::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((name, version)) = text.split_once('/')
            && let Ok(version) = version.parse()
        {
            return Ok(Self { name: name.parse()?, version: Some(version) });
        }
        Ok(Self { name: text.parse()?, version: None })
    }
}

impl TryFrom<String> for ImageSelector {
    type Error = crate::names::BadName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageSelector> for String {
    fn from(selector: ImageSelector) -> Self {
        selector.to_string()
    }
}

impl std::fmt::Display for ImageSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}/{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// Changes an experiment; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModifyExperiment {
    /// The *Save swap state* box; can be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_swap_state: Option<bool>,
}

/// Emulab's states of an experiment, and HELD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExperimentState {
    /// Has no machines.
    Swapped,
    /// Its machines are being loaded.
    Activating,
    /// Its machines run.
    Active,
    /// Its machines are being saved and released.
    Swapping,
    /// Its machines are being released for good.
    Terminating,
    /// Over.
    Ended,
    /// A node is held: see which, and why.
    Held,
}

impl std::fmt::Display for ExperimentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Swapped => "swapped",
            Self::Activating => "activating",
            Self::Active => "active",
            Self::Swapping => "swapping",
            Self::Terminating => "terminating",
            Self::Ended => "ended",
            Self::Held => "held",
        })
    }
}

/// An experiment as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentView {
    /// Its id, never reused.
    pub id: ExperimentId,
    /// The project.
    pub pid: Name,
    /// The name.
    pub eid: Name,
    /// The state.
    pub state: ExperimentState,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub state_since: OffsetDateTime,
    /// The *Save swap state* box.
    pub save_swap_state: bool,
    /// Who made it.
    pub creator: Name,
    /// Its nodes.
    pub nodes: Vec<VirtualNodeView>,
    /// The running or held job.
    pub job: Option<JobView>,
    /// The newest swap point.
    pub last_point: Option<SwapPointView>,
}

impl ExperimentView {
    /// Returns `pid/eid`.
    pub fn full_name(&self) -> ExperimentName {
        ExperimentName { pid: self.pid.clone(), eid: self.eid.clone() }
    }
}

/// A virtual node as shown, with the machine it has now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualNodeView {
    /// Its name.
    pub vname: Name,
    /// The image it is made from: `name/version`.
    pub image: ImageSelector,
    /// The machine.
    pub node: Option<Name>,
    /// The machine's state.
    pub node_state: Option<NodeStateView>,
    /// What is being done to its disks now.
    pub progress: Vec<DiskProgress>,
}
