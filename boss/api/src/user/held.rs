//! What is asked for about machines that are held.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::names::Name;

/// Lets what is held go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryHeld {
    /// Save whole disks, compared with nothing: when a base image or its signature is what is in the way.
    #[serde(default)]
    pub full_image: bool,
}

/// That somebody means it, and is who the token says: for what cannot be undone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The experiment's name, typed once more: its `eid`.
    pub typed: String,
    /// The caller's password; at most 1024 bytes.
    pub password: String,
}

impl std::fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confirmation").field("typed", &self.typed).finish_non_exhaustive()
    }
}

/// Gives up what is on the disks of a held node that could not be saved. For leaders of the project.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardNode {
    /// The node, as the experiment calls it.
    pub vname: Name,
    /// Says that it is meant.
    pub confirmation: Confirmation,
}

/// Gives a held swap-in up; the experiment is swapped out again, with what was saved before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveUp {
    /// Needed when a node runs already: what was written on it since is lost. For leaders of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
}

/// The longest note on a held machine, in characters.
pub const MAX_NOTE: usize = 500;

/// Puts a note on a held machine, for people: leave it alone. Nothing acts on it, also not when the time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepNode {
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Why; at most [`MAX_NOTE`] characters.
    pub note: String,
}

/// What is on the disks of a held machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldDisks {
    /// What its experiment left, saved nowhere.
    Unsaved,
    /// What its experiment left, saved or not to be saved.
    Settled,
    /// What boss writes to them, or nothing of anybody.
    Ours,
}

/// A note on a held machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptView {
    /// Who wants it left alone.
    pub by: Name,
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Why.
    pub note: String,
}
