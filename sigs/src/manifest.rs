//! The manifest: what an image is. JSON, kept and signed as exact bytes, never re-encoded.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Root};
use crate::map::{BlockCounts, Geometry, MAX_DISK_BYTES};
use crate::units::{BlockCount, ByteLen, ByteOffset};

/// The only format of a manifest there is so far.
pub const MANIFEST_FORMAT: &str = "ebb.manifest/1";
/// The most bytes a manifest may have.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Whether an image stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// Holds every DATA block.
    Full,
    /// Refers to blocks of its bases.
    Delta,
}

impl std::fmt::Display for ImageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full image",
            Self::Delta => "delta image",
        })
    }
}

/// What was found in one partition, and how it was treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionSummary {
    /// The number the system gives it; 0 is a disk without a table.
    pub number: u32,
    /// Where it begins.
    pub start: ByteOffset,
    /// How long it is.
    pub len: ByteLen,
    /// The type its table gives it.
    pub kind: String,
    /// What was found inside, such as `ext4`.
    pub content: String,
    /// How many of its bytes are allocated.
    pub allocated: ByteLen,
    /// Why the whole partition counts as data, or nothing when its free blocks are proven.
    pub whole: Option<String>,
    /// What the proof rests on, or nothing.
    pub evidence: Option<String>,
}

/// What an image is: kind, roots, geometry, and the digests that bind its map and frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: String,
    /// Full or delta.
    pub kind: ImageKind,
    /// How the disk is cut.
    pub geometry: Geometry,
    /// The least number of bytes a target must have for this state.
    pub min_disk_bytes: ByteLen,
    /// The hash algorithm of blocks.
    pub hash: String,
    /// The roots of the bases a delta refers to, in the order of their numbers in the map; empty for a full image.
    pub base_roots: Vec<Root>,
    /// The root of the state this image restores.
    pub target_root: Root,
    /// How many blocks of the target are what.
    pub counts: BlockCounts,
    /// How many DATA blocks lie in the frames of this image; the others come from the bases.
    pub stored_blocks: BlockCount,
    /// The digest of the frame table.
    pub frame_table: Digest,
    /// The digest of the encoded map.
    pub map: Digest,
    /// The zstd level of the frames.
    pub zstd_level: i32,
    /// Partitions as found when the image was made.
    pub partitions: Vec<PartitionSummary>,
    /// The program and version that made the image.
    pub tool: String,
}

/// A manifest that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the right shape.
    #[error("parse the manifest")]
    Json(#[from] serde_json::Error),
    /// The right shape, but it contradicts itself.
    #[error("the manifest is refused: {0}")]
    Refused(String),
}

impl Manifest {
    /// Parses and checks the exact bytes of a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] when they are malformed or contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let refuse = |reason: String| Err(ManifestError::Refused(reason));
        if ByteLen::of(bytes).get() > MAX_MANIFEST_BYTES {
            return refuse(format!("it has {} bytes, at most {MAX_MANIFEST_BYTES} are accepted", bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.format != MANIFEST_FORMAT {
            return refuse(format!("the format {:?} is not known here", manifest.format));
        }
        if manifest.hash != "sha256" {
            return refuse(format!("the hash {:?} is not known here", manifest.hash));
        }
        if manifest.geometry.disk_bytes.get() > MAX_DISK_BYTES {
            let bytes = manifest.geometry.disk_bytes;
            return refuse(format!("a disk of {bytes} bytes is larger than the {MAX_DISK_BYTES} that are accepted"));
        }
        match (manifest.kind, manifest.base_roots.len()) {
            (ImageKind::Full, 0) | (ImageKind::Delta, 1..=64) => {}
            (kind, bases) => return refuse(format!("a {kind} does not have {bases} bases")),
        }
        let BlockCounts { data, zero, free } = manifest.counts;
        let total = data.get().checked_add(zero.get()).and_then(|sum| sum.checked_add(free.get()));
        if total != Some(manifest.geometry.blocks().get()) {
            return refuse("its counts do not add up to the blocks of the disk".into());
        }
        let stored = manifest.stored_blocks;
        if stored > data || (manifest.kind == ImageKind::Full && stored != data) {
            return refuse(format!("{stored} blocks are stored of {data} that are data"));
        }
        Ok(manifest)
    }

    /// Returns the exact bytes to store and to sign.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has only strings and numbers, which JSON always takes")
    }
}
