//! Swap points and how far they are.

use serde::{Deserialize, Serialize};
use sigs::{Digest, Root};
use time::OffsetDateTime;

use crate::ids::CaptureId;
use crate::names::Name;

/// Which work a progress is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskActivity {
    /// Saving.
    Capture,
    /// Loading an image.
    Load,
    /// Putting a saved state back.
    Restore,
    /// Overwriting for the next experiment.
    Sanitize,
}

/// How far the work on one disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskProgress {
    /// The disk.
    pub disk: Name,
    /// The work.
    pub activity: DiskActivity,
    /// Bytes scanned or written so far.
    pub done_bytes: u64,
    /// Bytes to scan or write; 0 while not known.
    pub total_bytes: u64,
    /// Bytes that differ from the base, so far.
    pub changed_bytes: u64,
    /// Bytes sent to boss, so far.
    pub sent_bytes: u64,
    /// When the work began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
}

/// A swap point as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapPointView {
    /// Numbered from 1 within the experiment.
    pub number: u32,
    /// `open`, `complete` or `incomplete`.
    pub state: SwapPointState,
    /// When saving began.
    #[serde(with = "time::serde::rfc3339")]
    pub opened_at: OffsetDateTime,
    /// When it was decided.
    #[serde(with = "time::serde::rfc3339::option")]
    pub closed_at: Option<OffsetDateTime>,
    /// Its captures.
    pub captures: Vec<CaptureView>,
}

/// Whether all nodes were saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapPointState {
    /// Being saved.
    Open,
    /// Every capture is VERIFIED.
    Complete,
    /// Some are not.
    Incomplete,
}

/// The capture of one disk as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureView {
    /// Its id.
    pub id: CaptureId,
    /// The virtual node.
    pub vname: Name,
    /// The machine it was taken from.
    pub node: Name,
    /// The disk.
    pub disk: Name,
    /// `planned`, `frozen`, `streaming`, `received`, `verified`, `retired` or `failed`.
    pub state: String,
    /// Bytes scanned.
    pub scanned_bytes: u64,
    /// Bytes that differ from the base.
    pub changed_bytes: u64,
    /// The size of the delta image.
    pub delta_bytes: Option<u64>,
    /// The root of the saved state.
    pub target_root: Option<Root>,
    /// The digest of the delta image.
    pub zdi: Option<Digest>,
    /// Milliseconds from the beginning of the first attempt to VERIFIED.
    pub took_ms: Option<u64>,
    /// Why it failed.
    pub failure: Option<String>,
}
