//! What people's programs ask of boss, under `/api/v1`.
//!
//! | Request | Body -> answer |
//! |---|---|
//! | `POST login` | [`LoginRequest`] -> [`LoginAnswer`] |
//! | `POST logout`, `GET whoami` | -> [`Whoami`] |
//! | `GET experiments`, `POST experiments` | [`CreateExperiment`] -> [`ExperimentView`] |
//! | `GET experiments/{pid}/{eid}`, `PATCH` | [`ModifyExperiment`] -> [`ExperimentView`] |
//! | `POST experiments/{pid}/{eid}/{swapin,swapout,terminate,cancel}` | -> [`JobView`] |
//! | `POST experiments/{pid}/{eid}/retry` | [`RetryHeld`] -> [`JobView`] |
//! | `POST experiments/{pid}/{eid}/discard` | [`DiscardNode`] -> [`JobView`] |
//! | `POST experiments/{pid}/{eid}/giveup` | [`GiveUp`] -> [`JobView`] |
//! | `GET experiments/{pid}/{eid}/{points,events}` | -> [`SwapPointView`]s, [`EventView`]s |
//! | `GET jobs/{id}?wait_ms=N` | -> [`JobView`], after a change or so long |
//! | `GET nodes`, `GET nodes/{name}`, `POST nodes` | [`RegisterNode`] -> [`NodeView`] |
//! | `POST nodes/{name}/load` | [`LoadNode`] -> [`JobView`] |
//! | `POST nodes/{name}/retry` | -> [`NodeView`] |
//! | `POST nodes/{name}/keep` | [`KeepNode`] -> [`NodeView`] |
//! | `HEAD objects/{digest}` | -> 200 is there, 404 is not |
//! | `PUT objects/{digest}` | raw bytes -> 201 stored, 200 was there |
//! | `GET images`, `POST images` | [`RegisterImage`] -> [`ImageView`] |
//! | `GET images/{project}/{name}`, `POST images/{project}/{name}/{version}/retire` | -> [`ImageView`] |
//! | `GET settings`, `PUT settings/{name}` | [`ChangeSetting`] -> [`SettingView`] |

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, Digest, Root};
use time::OffsetDateTime;

use crate::ids::{CaptureId, ExperimentId, JobId, NodeId};
use crate::names::{ExperimentName, Name};

/// The most virtual nodes of one experiment.
pub const MAX_VIRTUAL_NODES: usize = 256;
/// How long one request for a job may wait.
pub const MAX_WAIT_MS: u64 = 30_000;

/// Asks for a token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Who.
    pub user: String,
    /// The password; at most 1024 bytes.
    pub password: String,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Gives a token, to be sent as `Authorization: Bearer`.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoginAnswer {
    /// The token: a secret.
    pub token: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for LoginAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginAnswer").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a user may do on the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Uses own projects.
    Member,
    /// Also deals with machines.
    Operator,
    /// Also with users, keys, images and settings.
    Admin,
}

/// Who is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// The user.
    pub user: Name,
    /// The role.
    pub role: UserRole,
    /// The projects.
    pub projects: Vec<Name>,
}

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

impl NodeStateView {
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

/// Registers a sealed base image whose files were uploaded as objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterImage {
    /// The project; `system` for the site's own.
    pub project: Name,
    /// The image.
    pub name: Name,
    /// The exact bytes of the sealed file (`.manifest`).
    pub sealed: String,
}

/// An image as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// The project.
    pub project: Name,
    /// The image.
    pub name: Name,
    /// Its versions, newest first.
    pub versions: Vec<ImageVersionView>,
}

/// A version of an image as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVersionView {
    /// Numbered from 1.
    pub version: u32,
    /// The digest of the `.zdi` file.
    pub zdi: Digest,
    /// Its size.
    pub zdi_bytes: ByteLen,
    /// The root of the state.
    pub root: Root,
    /// The size of the disk it was made from.
    pub disk_bytes: ByteLen,
    /// Who sealed it.
    pub key: sigs::seal::KeyId,
    /// Retired images are not loaded any more; states saved against them still restore.
    pub retired: bool,
    /// When it was registered.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// An event as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Rises with time.
    pub id: i64,
    /// A word for programs.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// The machine it is about.
    pub node: Option<Name>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Changes a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSetting {
    /// The new value, as text; absent: back to the default.
    pub value: Option<String>,
}

/// A setting as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Such as `swap/stall_timeout_s`.
    pub name: String,
    /// In force.
    pub value: String,
    /// When nobody changed it.
    pub default: String,
    /// What it does.
    pub help: String,
}
