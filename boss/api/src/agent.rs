//! What a node's agent asks of boss, on a listener of its own, under `/agent/v1`.
//!
//! | Request | Body -> answer |
//! |---|---|
//! | `POST register` | [`Register`] -> [`Registered`]; no authorization but the boot token in it |
//! | `POST poll` | [`Poll`] -> [`Task`]; waits up to [`Poll::wait_ms`] for something to do |
//! | `POST captures/{id}/{attempt}/begin` | -> 204: the disks are frozen, the scan begins |
//! | `POST captures/{id}/{attempt}/offer` | [`Offer`] -> [`Lacking`] |
//! | `PUT captures/{id}/{attempt}/frames/{digest}` | stored bytes of a frame -> 204 |
//! | `POST captures/{id}/{attempt}/progress` | [`CaptureProgress`] -> 204 |
//! | `POST captures/{id}/{attempt}/finish` | `sigs::zdi::Contents::to_wire` -> 204: received |
//! | `POST captures/{id}/{attempt}/failed` | [`Failure`] -> 204 |
//! | `GET objects/{digest}` | -> bytes of an object that the agent's task names |
//! | `POST writes/{id}/progress` | [`WriteProgress`] -> 204 |
//! | `POST writes/{id}/done` | [`WriteDone`] -> 204 |
//! | `POST writes/{id}/failed` | [`Failure`] -> 204 |
//!
//! Every request but `register` carries `Authorization: Bearer` with the agent's own secret, hexadecimal.
//! Every request may be repeated. An answer of code `stale` means: this boot or attempt is over, stop.
//! Every answer carries [`TERM_HEADER`]; one of a lower term than was heard before is not believed, whatever it says.

use serde::{Deserialize, Serialize};
use sigs::seal::Sealed;
use sigs::{ByteLen, Digest, Root, SectorSize};

use crate::ids::{CaptureId, JobId, WriteId};
use crate::names::Name;

/// The version of this protocol; boss refuses another.
pub const PROTOCOL: u32 = 1;
/// The header of every answer that says in which term the boss rules that gave it.
pub const TERM_HEADER: &str = "ebb-term";
/// The most digests in one offer.
pub const MAX_OFFER: usize = 4096;
/// How long one poll may wait.
pub const MAX_POLL_MS: u64 = 20_000;

/// What boss gives an agent with its boot: by a file that only the agent reads, or an inherited descriptor.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootParameters {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Where boss listens for agents, such as `http://127.0.0.1:4711`.
    pub boss_url: String,
    /// This machine's name.
    pub node: Name,
    /// Exchanged once for the agent's own secret; hexadecimal.
    pub boot_token: String,
    /// The keys (PEM) whose permits and swap points are believed.
    pub boss_keys: Vec<String>,
    /// The keys (PEM) whose base images are believed.
    pub base_keys: Vec<String>,
    /// This machine's disks, by name, and where they are.
    pub disks: Vec<BootDisk>,
}

impl std::fmt::Debug for BootParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootParameters").field("node", &self.node).field("disks", &self.disks).finish_non_exhaustive()
    }
}

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootDisk {
    /// Its name.
    pub name: Name,
    /// A device, or a regular file with its serial beside it in `PATH.serial`.
    pub path: String,
}

/// Says: this boot is alive, and these are its disks. Repeatable with the same secret; another secret revokes both.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// From the boot parameters.
    pub boot_token: String,
    /// SHA-256 of the 32 bytes of the secret that the agent made in RAM; their hexadecimal is its bearer from now on.
    pub secret_hash: Digest,
    /// The disks as found.
    pub disks: Vec<FoundDisk>,
}

impl std::fmt::Debug for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Register").field("disks", &self.disks).finish_non_exhaustive()
    }
}

/// A disk as the agent found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundDisk {
    /// Its name.
    pub name: Name,
    /// Its serial number, as the disk says.
    pub serial: String,
    /// Its size.
    pub bytes: ByteLen,
    /// The size of its logical sectors.
    pub sector_size: SectorSize,
}

/// The answer to [`Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// How often the machine changed hands; effects of an older epoch are refused.
    pub epoch: u64,
}

/// Asks what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// How long boss may keep the answer back while there is nothing to do; at most [`MAX_POLL_MS`].
    pub wait_ms: u64,
}

/// What to do now. The answer is level-triggered: it is repeated until the work is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Task {
    /// Nothing; poll again.
    Idle,
    /// Save these disks.
    Capture {
        /// For whom.
        job: JobId,
        /// How.
        command: SwapCommand,
        /// What.
        orders: Vec<CaptureOrder>,
    },
    /// Write these disks.
    Write {
        /// For whom.
        job: JobId,
        /// What.
        orders: Vec<WriteOrder>,
    },
    /// Shut down; this boot is over.
    PowerOff,
}

/// How disks are saved: the settings of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapCommand {
    /// The program: an absolute path, or a bare name looked up beside the agent's own program.
    pub program: String,
    /// The zstd level.
    pub zstd_level: i32,
}

/// Bytes in boss's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Their digest, which is their name.
    pub digest: Digest,
    /// Their length.
    pub bytes: ByteLen,
}

/// A disk to save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureOrder {
    /// The capture.
    pub capture: CaptureId,
    /// The attempt; effects of an older one are refused.
    pub attempt: u32,
    /// The disk, by name.
    pub disk: Name,
    /// It must have this serial.
    pub serial: String,
    /// It must have this size.
    pub bytes: ByteLen,
    /// What it was loaded from; empty: save everything.
    pub bases: Vec<CaptureBase>,
}

/// A base to compare a disk with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureBase {
    /// Its signature file.
    pub sig: ObjectRef,
    /// The root the signature must have.
    pub root: Root,
}

/// Asks which frames boss lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Digests of stored bytes, at most [`MAX_OFFER`].
    pub frames: Vec<Digest>,
}

/// The answer to [`Offer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// The digests to send.
    pub frames: Vec<Digest>,
}

/// How far a capture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureProgress {
    /// Allocated bytes read and hashed.
    pub scanned_bytes: u64,
    /// Allocated bytes there are.
    pub total_bytes: u64,
    /// Bytes that differ from the base.
    pub changed_bytes: u64,
    /// Bytes sent to boss or found there.
    pub sent_bytes: u64,
}

/// A disk to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOrder {
    /// The write, and its permit's id.
    pub write: WriteId,
    /// The attempt.
    pub attempt: u32,
    /// The leave to do so: a [`Permit`], sealed by boss.
    pub permit: Sealed,
    /// The disk, by name.
    pub disk: Name,
    /// The base image to restore; none: zero the whole disk.
    pub image: Option<ImageOrder>,
    /// The delta on top of it.
    pub delta: Option<DeltaOrder>,
    /// What FREE blocks become.
    pub free: FreeTreatment,
    /// The root the disk must have in the end; none when the whole disk is zeroed.
    pub target_root: Option<Root>,
}

/// What FREE blocks become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FreeTreatment {
    /// Left as they are.
    Keep,
    /// Zeroed, and read back as zero.
    Zero,
    /// Discarded.
    Discard,
}

/// A base image to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOrder {
    /// Its `.zdi` file.
    pub zdi: ObjectRef,
    /// Its seal, over a `sigs::seal::BaseStatement`.
    pub sealed: Sealed,
}

/// A delta image to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaOrder {
    /// Its `.zdi` file.
    pub zdi: ObjectRef,
    /// The capture it is.
    pub capture: CaptureId,
    /// The seal of its swap point, over a [`SwapPointStatement`] that names the capture.
    pub sealed: Sealed,
}

/// Leave to write to one disk of one node in one epoch, for one purpose. The statement of a seal of kind permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// The write it allows.
    pub write: WriteId,
    /// The node.
    pub node: Name,
    /// The disk's serial number.
    pub serial: String,
    /// The disk's size.
    pub bytes: ByteLen,
    /// The node's epoch.
    pub epoch: u64,
    /// The boss's term.
    pub term: u64,
    /// The job.
    pub job: JobId,
    /// Why it is written.
    pub purpose: WritePurpose,
    /// Why nothing is lost by it, in words, naming captures or the waiver.
    pub evidence: String,
}

/// Why a disk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WritePurpose {
    /// To load an image.
    Load,
    /// To put a saved state back.
    Restore,
    /// To remove what the last experiment left.
    Sanitize,
}

/// What boss says of a swap point. The statement of a seal of kind swap-point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapPointStatement {
    /// The project.
    pub pid: Name,
    /// The experiment's name.
    pub eid: Name,
    /// The experiment; its name may be reused, this never.
    pub experiment: crate::ids::ExperimentId,
    /// The swap point's number.
    pub number: u32,
    /// Its captures.
    pub captures: Vec<CaptureStatement>,
}

/// One capture in a [`SwapPointStatement`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureStatement {
    /// The capture.
    pub capture: CaptureId,
    /// The virtual node.
    pub vname: Name,
    /// The disk.
    pub disk: Name,
    /// The digest of the `.zdi` file.
    pub zdi: Digest,
    /// Its size.
    pub zdi_bytes: ByteLen,
    /// The root of its base, when it is a delta.
    pub base_root: Option<Root>,
    /// The root of the saved state.
    pub target_root: Root,
}

/// How far a write is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteProgress {
    /// Bytes written and read back, counted once each way.
    pub done_bytes: u64,
    /// Bytes to write and read back.
    pub total_bytes: u64,
}

/// Says that a disk was written, flushed and read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteDone {
    /// The root as read back; none when the whole disk was zeroed and read back as zero.
    pub root: Option<Root>,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// Something outside: a network, a full disk, a process that was killed. A new attempt can help.
    Transient,
    /// Bytes, a seal, a permit or a root did not verify. A new attempt must not be made.
    Corruption,
    /// The machine: a missing disk, a read or write error.
    Machine,
}

/// Says that the work ended without success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Whether trying again can help.
    pub class: FailureClass,
    /// What happened, to what, why; at most 2000 characters are kept.
    pub reason: String,
}
