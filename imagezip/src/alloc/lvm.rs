//! LVM2: a physical volume whose group has no other, read strictly, and its logical volumes read like partitions.
//!
//! The metadata are believed when the checksums of label, area header and text are valid, every field is known, all
//! areas in use hold the same, the group has this one physical volume, and the extents of its volumes are apart and
//! inside. Then an extent of no volume is free, and a plain volume is a disk of its own whose free space is free here.
//! A volume that is not plain, or whose content is not understood, is data. So is everything outside the extents:
//! label, areas, and what is behind the last extent.

mod area;
mod checksum;
mod fields;
mod group;
mod label;
mod mapped;
mod text;
mod volume;

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, ByteOffset, ByteRange};

use super::content::Content;
use super::disk::Treatment;
use super::doubt::{Doubt, Stop, SurveyError};
use super::filesystem::{Evidence, FileSystem, Probed, probe};
use super::swap::SwapDoubt;
use super::table::Kind;
use super::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
use area::Area;
use group::Group;
use label::Label;
use mapped::{Mapped, Part};
use volume::Volume;

/// The label is in the first four sectors.
const LABELS_END: u64 = 2048;

/// Why a physical volume, or one of the logical volumes on it, is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LvmDoubt {
    /// Something is wrong with the label.
    #[error("the label of the physical volume {0}")]
    Label(&'static str),
    /// All but one are stale.
    #[error("the physical volume has several labels")]
    SeveralLabels,
    /// Something is wrong with a metadata area.
    #[error("a metadata area of the physical volume {0}")]
    Area(&'static str),
    /// The metadata are on other disks, if anywhere.
    #[error("the physical volume has no metadata in use")]
    NoArea,
    /// Nothing says what is on it.
    #[error("the physical volume belongs to no volume group")]
    NoGroup,
    /// One of them is not current.
    #[error("the metadata areas of the physical volume differ: {first} and {second} changes")]
    AreasDiffer {
        /// How many changes one has seen.
        first: u64,
        /// How many another has seen.
        second: u64,
    },
    /// The label and the metadata contradict each other.
    #[error("the label of the physical volume and the metadata of its group do not agree on the {0}")]
    LabelDiffers(&'static str),
    /// The text is not understood.
    #[error("the metadata of the volume group are malformed at byte {at} of the text")]
    Text {
        /// Where.
        at: usize,
    },
    /// A field that is missing, of the wrong kind, or impossible.
    #[error("the metadata of the volume group have no usable {0:?}")]
    Field(&'static str),
    /// A field that may change the meaning of the others.
    #[error("the metadata of the volume group have the unknown field {0:?}")]
    UnknownField(String),
    /// A flag that is unknown or not handled.
    #[error("it has the status {0:?}")]
    Status(String),
    /// The group is not one this machine has for itself.
    #[error("the volume group {0}")]
    Group(&'static str),
    /// The extents of a volume overlap others, lie outside, or do not follow each other.
    #[error("the extents of the logical volume {volume} cannot be right")]
    Extents {
        /// The volume.
        volume: String,
    },
    /// A segment that uses the physical volume in a way that is not known.
    #[error("a segment of the kind {kind:?} lies on the physical volume itself")]
    OnPhysical {
        /// The kind.
        kind: String,
    },
    /// A volume with a segment that is not a plain piece of the physical volume.
    #[error("it has a segment of the kind {kind:?}")]
    Segment {
        /// The kind.
        kind: String,
    },
    /// A volume that others are made of.
    #[error("another logical volume is made of it")]
    Part,
    /// A volume that only LVM uses.
    #[error("only LVM uses it")]
    Hidden,
}

/// What was found out about a logical volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Group and volume, as in `group/volume`.
    pub name: String,
    /// How long it is on the physical volume; nothing for one that is made of others.
    pub len: ByteLen,
    /// What was recognised in it.
    pub content: Content,
    /// Whether the content was believed.
    pub treatment: Treatment,
    /// How much of it is allocated.
    pub allocated: ByteLen,
}

/// A physical volume that proved what it has allocated.
#[derive(Debug)]
pub struct Lvm {
    evidence: Evidence,
    allocated: Extents,
}

impl Lvm {
    /// Reads the whole proof, and what is in the logical volumes.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let group = read_group(window)?;
        let Group { name, extent_bytes, physical, volumes, .. } = group;
        let mut found = Vec::new();
        for volume in &volumes {
            found.push(Found::read(window, &name, volume, physical.start, extent_bytes)?);
        }
        let mut parts: Vec<_> =
            found.iter().flat_map(|found| found.parts.iter().map(move |part| (*part, &found.allocated))).collect();
        parts.sort_unstable_by_key(|(part, _)| part.physical);

        let mut list = ExtentsBuilder::new();
        list.push(0, physical.start);
        for (part, allocated) in parts {
            let inside = ByteRange { start: ByteOffset::new(part.logical), len: ByteLen::new(part.len) };
            for range in allocated.within(inside) {
                // A part was compared with the length of the window, so no sum overflows.
                let start = range.start.get() - part.logical + part.physical;
                list.push(start, start + range.len.get());
            }
        }
        list.push(physical.end, window.range().len.get());

        let allocated = list.finish();
        let evidence = Evidence::LvmExtents {
            group: name,
            extent_size: ByteLen::new(extent_bytes),
            free: ByteLen::new(window.range().len.get().saturating_sub(allocated.total().get())),
            volumes: found.into_iter().map(|found| found.report).collect(),
        };
        Ok(Self { evidence, allocated })
    }
}

impl FileSystem for Lvm {
    fn name(&self) -> Content {
        Content::Lvm2
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter())
    }
}

/// Reads label and metadata, and lets each confirm the other.
fn read_group(window: &Window<'_>) -> Result<Group, Stop> {
    let label = Label::read(window)?;
    let mut group: Option<Group> = None;
    for place in &label.metadata {
        let text = match area::read(window, *place)? {
            Area::Ignored => continue,
            Area::Empty => return Err(LvmDoubt::NoGroup.into()),
            Area::Text(text) => text,
        };
        let here = Group::parse(&text)?;
        match &group {
            Some(other) if *other != here => {
                return Err(LvmDoubt::AreasDiffer { first: other.sequence, second: here.sequence }.into());
            }
            _ => group = Some(here),
        }
    }
    let group = group.ok_or(LvmDoubt::NoArea)?;
    let physical = &group.physical;
    if physical.id.as_bytes() != label.id {
        return Err(LvmDoubt::LabelDiffers("id").into());
    }
    let extents = ByteRange::between(ByteOffset::new(physical.start), ByteOffset::new(physical.end));
    let extents = extents.ok_or(LvmDoubt::Field("pe_count"))?;
    // A length of zero is "all the rest".
    let [data] = label.data.as_slice() else { return Err(LvmDoubt::LabelDiffers("data area").into()) };
    if data.start != extents.start || (!data.len.is_zero() && data.len < extents.len) {
        return Err(LvmDoubt::LabelDiffers("data area").into());
    }
    let reserved = label.metadata.iter().chain(&label.boot);
    if physical.start < LABELS_END || reserved.into_iter().any(|area| overlap(*area, extents)) {
        return Err(LvmDoubt::LabelDiffers("place of the metadata").into());
    }
    if physical.end > window.range().len.get() {
        return Err(LvmDoubt::Group("is larger than what it is on").into());
    }
    Ok(group)
}

fn overlap(a: ByteRange, b: ByteRange) -> bool {
    // An area that has no end overlaps everything behind its start.
    let behind = |a: ByteRange, b: ByteRange| a.checked_end().is_some_and(|end| end <= b.start);
    !behind(a, b) && !behind(b, a)
}

/// Returns the logical volumes that are plain disks of their own, with their names.
pub(crate) fn volumes<'a>(window: &Window<'a>) -> Result<Vec<(String, Mapped<'a>)>, Stop> {
    let Group { name, extent_bytes, physical, volumes, .. } = read_group(window)?;
    let plain = volumes.iter().filter(|volume| volume.doubt.is_none());
    let mapped = |volume: &Volume| Mapped::new(*window, parts_of(volume, physical.start, extent_bytes));
    Ok(plain.map(|volume| (format!("{name}/{}", volume.name), mapped(volume))).collect())
}

/// Returns where the pieces of a volume lie on the physical one.
fn parts_of(volume: &Volume, start: u64, extent: u64) -> Vec<Part> {
    let mut reached = 0;
    let part = |piece: &volume::Piece| {
        // All extents are apart and were compared with the end of the physical volume: nothing overflows.
        let len = piece.count.saturating_mul(extent);
        let physical = piece.physical.saturating_mul(extent).saturating_add(start);
        let part = Part { logical: reached, physical, len };
        reached += len;
        part
    };
    volume.pieces.iter().map(part).collect()
}

/// A logical volume and what is allocated of it, in bytes from its start.
struct Found {
    report: VolumeReport,
    parts: Vec<Part>,
    allocated: Extents,
}

impl Found {
    fn read(window: &Window<'_>, group: &str, volume: &Volume, start: u64, extent: u64) -> Result<Self, Stop> {
        let parts = parts_of(volume, start, extent);
        let len = ByteLen::new(parts.last().map_or(0, |last| last.logical.saturating_add(last.len)));
        let name = format!("{group}/{}", volume.name);
        let probed = match &volume.doubt {
            Some(doubt) => Probed::Doubted(Content::Unknown, Doubt::Lvm(doubt.clone())),
            None => {
                let mapped = Mapped::new(*window, parts.clone());
                probe(&Window::whole(&mapped), &Kind::logical(&name), None).map_err(|error| {
                    let SurveyError::Read { offset, source } = error;
                    SurveyError::Read { offset: mapped.place(offset), source }
                })?
            }
        };
        let (content, treatment, allocated) = match probed {
            Probed::Proven(file_system) => {
                let mut list = ExtentsBuilder::new();
                for range in file_system.allocated() {
                    let end = range.start.get().saturating_add(range.len.get());
                    list.push(range.start.get(), end.min(len.get()));
                }
                (file_system.name(), Treatment::Proven { evidence: file_system.evidence() }, list.finish())
            }
            // It speaks of all of the disk.
            Probed::Doubted(_, doubt @ Doubt::Swap(SwapDoubt::Hibernated)) => return Err(doubt.into()),
            Probed::Doubted(content, doubt) => {
                let all = ByteRange { start: ByteOffset::ZERO, len };
                (content, Treatment::Whole { reason: doubt.to_string() }, Extents::of(all))
            }
        };
        let report = VolumeReport { name, len, content, treatment, allocated: allocated.total() };
        Ok(Self { report, parts, allocated })
    }
}
