//! The manifest: what an image is. JSON, kept and signed as exact bytes, never re-encoded.

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Digest, Root};
use crate::image_map::MapEncoding;
use crate::map::{BlockCounts, Geometry, MAX_DISK_BYTES};
use crate::units::{BlockCount, BlockSize, ByteLen, ByteOffset, ByteRange};

/// The most bytes a manifest may have.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The most ranges of bad sectors a manifest may list.
pub const MAX_BAD_RANGES: usize = 1 << 16;

/// The version of a manifest. Each has exactly its own fields; all are read, the newest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestFormat {
    /// Has no list of bad sectors: a disk with unreadable sectors could not be captured.
    #[serde(rename = "ebb.manifest/1")]
    V1,
    /// Lists the sectors that could not be read; `min_disk_bytes` is the true least size; the map leaves out places that
    /// go without saying.
    #[serde(rename = "ebb.manifest/2")]
    V2,
}

impl ManifestFormat {
    /// What is written today.
    pub const CURRENT: Self = Self::V2;

    /// Returns how the map of such an image is written down.
    pub const fn map_encoding(self, block_size: BlockSize) -> MapEncoding {
        match self {
            Self::V1 => MapEncoding::Explicit,
            Self::V2 => MapEncoding::Implied { frame_blocks: block_size.blocks_per_chunk() },
        }
    }
}

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
    /// Which version this is.
    pub format: ManifestFormat,
    /// Full or delta.
    pub kind: ImageKind,
    /// How the disk is cut.
    pub geometry: Geometry,
    /// The least number of bytes a target must have for this state. In format 1 the end of the last block that is not
    /// FREE, which may be more than that.
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
    /// The sectors that could not be read when the image was made, and count as zeros: whole sectors, in disk order, not
    /// touching each other. Nothing in format 1, and only there; see [`Manifest::bad_sectors`].
    #[serde(default, deserialize_with = "ranges", skip_serializing_if = "Option::is_none")]
    pub bad_sectors: Option<Vec<ByteRange>>,
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
        match (manifest.format, &manifest.bad_sectors) {
            (ManifestFormat::V1, None) => {}
            (ManifestFormat::V2, Some(list)) => {
                check_bad_sectors(list, &manifest.geometry)?;
                if manifest.min_disk_bytes > manifest.geometry.disk_bytes {
                    let least = manifest.min_disk_bytes;
                    return refuse(format!("it needs {least} bytes, more than the disk it was made of has"));
                }
            }
            (ManifestFormat::V1, Some(_)) => return refuse("format 1 has no list of bad sectors".into()),
            (ManifestFormat::V2, None) => return refuse("its list of bad sectors is missing".into()),
        }
        Ok(manifest)
    }

    /// Returns the sectors that could not be read when the image was made; none means that the image is complete.
    pub fn bad_sectors(&self) -> &[ByteRange] {
        self.bad_sectors.as_deref().unwrap_or_default()
    }

    /// Returns true when every allocated sector of the disk was read.
    pub fn is_complete(&self) -> bool {
        self.bad_sectors().is_empty()
    }

    /// Returns the exact bytes to store and to sign.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has only strings and numbers, which JSON always takes")
    }
}

/// Takes a list that is there: a field that is null is neither a list nor absent.
fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ByteRange>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

fn check_bad_sectors(list: &[ByteRange], geometry: &Geometry) -> Result<(), ManifestError> {
    let refuse = |reason: String| Err(ManifestError::Refused(reason));
    if list.len() > MAX_BAD_RANGES {
        return refuse(format!("it lists {} ranges of bad sectors, at most {MAX_BAD_RANGES} are accepted", list.len()));
    }
    let (sector, disk) = (u64::from(geometry.sector_size.bytes()), geometry.disk_bytes.get());
    let mut reached = None;
    for range in list {
        let start = range.start.get();
        let end = range.checked_end().map(ByteOffset::get).filter(|end| *end <= disk && *end > start);
        // Only a disk that ends inside a sector has a short one.
        let end = end.filter(|end| start.is_multiple_of(sector) && (end.is_multiple_of(sector) || *end == disk));
        let Some(end) = end else {
            return refuse(format!("{} bytes at {start} are not whole sectors of the disk", range.len));
        };
        if reached.is_some_and(|reached| start <= reached) {
            return refuse(format!("the bad sectors at {start} are out of order or touch those before them"));
        }
        reached = Some(end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(format: &str, bad_sectors: Option<Value>) -> Value {
        let digest = "00".repeat(32);
        let mut value = json!({
            "format": format, "kind": "full",
            "geometry": {"disk_bytes": 10_000, "sector_size": 512, "block_size": 4096},
            "min_disk_bytes": 10_000, "hash": "sha256", "base_roots": [], "target_root": digest,
            "counts": {"data": 0, "zero": 3, "free": 0}, "stored_blocks": 0, "frame_table": digest, "map": digest,
            "zstd_level": 3, "partitions": [], "tool": "tests",
        });
        if let Some(list) = bad_sectors {
            value["bad_sectors"] = list;
        }
        value
    }

    fn parse(value: &Value) -> Result<Manifest, ManifestError> {
        Manifest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn each_version_has_exactly_its_own_fields() {
        assert!(parse(&value("ebb.manifest/1", None)).unwrap().is_complete());
        assert!(parse(&value("ebb.manifest/2", Some(json!([])))).unwrap().is_complete());
        for (format, list) in [
            ("ebb.manifest/1", Some(json!([]))),
            ("ebb.manifest/1", Some(json!(null))),
            ("ebb.manifest/2", None),
            ("ebb.manifest/2", Some(json!(null))),
            ("ebb.manifest/3", Some(json!([]))),
        ] {
            assert!(parse(&value(format, list.clone())).is_err(), "{format} {list:?}");
        }
        let mut unknown = value("ebb.manifest/2", Some(json!([])));
        unknown["more"] = json!(1);
        assert!(parse(&unknown).is_err());
        let mut too_large = value("ebb.manifest/2", Some(json!([])));
        too_large["min_disk_bytes"] = json!(10_001);
        assert!(parse(&too_large).is_err());
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for wanted in [
            value("ebb.manifest/1", None),
            value("ebb.manifest/2", Some(json!([{"start": 512, "len": 512}, {"start": 9728, "len": 272}]))),
        ] {
            let manifest = parse(&wanted).unwrap();
            let written: Value = serde_json::from_slice(&manifest.to_bytes()).unwrap();
            assert_eq!(written, wanted);
            assert_eq!(parse(&written).unwrap(), manifest);
        }
    }

    #[test]
    fn bad_sectors_are_whole_in_order_apart_inside_and_few_enough() {
        let list = |ranges: &[(u64, u64)]| {
            let ranges: Vec<_> = ranges.iter().map(|(start, len)| json!({"start": start, "len": len})).collect();
            parse(&value("ebb.manifest/2", Some(json!(ranges))))
        };
        let good = list(&[(0, 512), (1024, 1024), (9728, 272)]).unwrap();
        assert_eq!((good.bad_sectors().len(), good.is_complete()), (3, false));
        for bad in [
            &[(1, 512)][..],
            &[(0, 511)],
            &[(0, 0)],
            &[(9728, 512)],
            &[(9728, 270)],
            &[(10_240, 512)],
            &[(u64::MAX - 511, 512)],
            &[(512, u64::MAX)],
            &[(0, 512), (512, 512)],
            &[(1024, 512), (0, 512)],
            &[(0, 1024), (512, 1024)],
        ] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
        let mut strange = value("ebb.manifest/2", Some(json!([{"start": 0, "len": 512, "why": "?"}])));
        assert!(parse(&strange).is_err());
        strange["geometry"]["disk_bytes"] = json!(1_u64 << 40);
        strange["counts"]["zero"] = json!(1 << 28);
        let many = |count: u64| (0..count).map(|at| json!({"start": at * 1024, "len": 512})).collect::<Vec<_>>();
        strange["bad_sectors"] = json!(many(1 << 16));
        assert!(parse(&strange).is_ok());
        strange["bad_sectors"] = json!(many((1 << 16) + 1));
        assert!(parse(&strange).is_err());
    }
}
