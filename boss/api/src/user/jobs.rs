//! Jobs: what was asked for and can be watched.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::JobId;

/// How long one request for a job may wait.
pub const MAX_WAIT_MS: u64 = 30_000;

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Being worked on.
    Running,
    /// Done.
    Done,
    /// Ended without success; nothing is held.
    Failed,
    /// Waits for a person.
    Held,
}

/// What a person asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Load machines and give them to the experiment.
    SwapIn,
    /// Save and release its machines.
    SwapOut,
    /// Release its machines for good.
    Terminate,
    /// Load an image on one machine.
    Load,
    /// Take a swap-out back: its machines go back to their own systems.
    Cancel,
    /// Release the machines of a held swap-in; what was saved before stays.
    GiveUp,
}

/// What becomes of saved nodes when another of the experiment could not be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// They are freed.
    ReleaseVerified,
    /// They are held, too.
    HoldAll,
}

/// A job as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub kind: JobKind,
    /// What became of it.
    pub state: JobState,
    /// Whether it saves: the *Save swap state* box when a swap-out was asked for.
    pub saves: bool,
    /// What it does when a node cannot be saved: `swap/on_failure` when it was asked for. Only of one that saves.
    pub on_failure: Option<OnFailure>,
    /// Why, where that needs words.
    pub detail: Option<String>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}
