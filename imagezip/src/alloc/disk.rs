//! One answer for a whole disk: the partition table, what is in each partition, and everything in between.

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, ByteRange, SectorSize};

use super::content::Content;
use super::doubt::{Doubt, Stop, SurveyError};
use super::filesystem::{Evidence, FileSystem, Probed, probe};
use super::ntfs::NtfsDoubt;
use super::partclone::Partclone;
use super::swap::SwapDoubt;
use super::table::{self, Kind, Partition, TableKind};
use super::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
use crate::io::ReadAt;
use crate::io::patient::Patient;

/// The number of what stands for the disk itself, as in Linux.
pub const WHOLE_DISK: u32 = 0;

/// How a disk is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct SurveyOptions<'a> {
    /// Believe nothing: everything is data.
    pub raw: bool,
    /// What it means when the table or the metadata of a file system cannot be read.
    pub unreadable: Unreadable,
    /// Permission to ask partclone about file systems that count only with a second opinion; without it they are data.
    pub partclone: Option<&'a Partclone<'a>>,
}

/// What a survey does about sectors it needs and cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends with an error.
    #[default]
    Fail,
    /// Nothing is proved, so the partition, or the disk, is data.
    Whole,
}

/// What is allocated on a disk, and why the rest is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The size of a sector: that of the GPT, otherwise what the medium says.
    pub sector_size: SectorSize,
    /// The partition table.
    pub table: TableKind,
    /// The partitions in disk order. A disk without a table, or with one that is not believed, has a single one
    /// of number [`WHOLE_DISK`]. Extended partitions are not listed, only the logical ones inside.
    pub partitions: Vec<PartitionReport>,
    /// What is allocated: sorted, merged, inside the disk. Everything between and behind the partitions is in it.
    pub allocated: Extents,
}

/// What was found out about a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Its number, as Linux counts.
    pub number: u32,
    /// Where it lies on the disk.
    pub range: ByteRange,
    /// What the partition table calls it.
    pub kind: String,
    /// What was recognised in it.
    pub content: Content,
    /// Whether the content was believed.
    pub treatment: Treatment,
    /// How much of it is allocated.
    pub allocated: ByteLen,
}

/// Whether the free space of a partition is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Free space is proven.
    Proven {
        /// How.
        evidence: Evidence,
    },
    /// All of the partition is data.
    Whole {
        /// Why.
        reason: String,
    },
}

/// Finds out what is allocated on a disk.
///
/// # Errors
/// [`SurveyError::Read`] when the disk cannot be read. Strange content is no error: what holds it is data.
pub fn survey(disk: &dyn ReadAt, options: SurveyOptions<'_>) -> Result<Survey, SurveyError> {
    let disk: &dyn ReadAt = &Patient(disk);
    let whole = Window::whole(disk);
    let medium = disk.sector_size();
    if options.raw {
        return Ok(all_data(&whole, medium, TableKind::NotRead, &Doubt::Raw));
    }
    let table = match table::read(&whole, medium) {
        Ok(table) => table,
        Err(Stop::Read(error)) => {
            let doubt = options.unreadable.doubt(error)?;
            let kind = TableKind::Doubtful { reason: doubt.to_string() };
            return Ok(all_data(&whole, medium, kind, &doubt));
        }
        Err(Stop::Doubt(doubt)) => {
            let kind = TableKind::Doubtful { reason: doubt.to_string() };
            return Ok(all_data(&whole, medium, kind, &doubt));
        }
    };
    let (sector_size, table, partitions) = match table {
        Some(table) => (table.sector_size, table.kind, table.partitions),
        None => (medium, TableKind::None, vec![itself(&whole)]),
    };
    let mut found = Vec::new();
    for partition in partitions {
        // The table was checked against the disk; a partition that is not a part of it is data like any gap.
        let Some(window) = Window::new(disk, partition.range) else { continue };
        let probed = match probe(&window, &partition.kind, options.partclone) {
            Ok(probed) => probed,
            Err(error) => Probed::Doubted(Content::Unknown, options.unreadable.doubt(error)?),
        };
        found.push((partition, probed));
    }
    doubt_beside_hibernation(&mut found);
    let mut allocated = ExtentsBuilder::new();
    let mut reports = Vec::new();
    let mut behind = 0;
    for (partition, found) in found {
        let start = partition.range.start.get();
        let (report, ranges) = report(&partition, &found);
        allocated.push(behind, start);
        for range in &ranges {
            let from = start.saturating_add(range.start.get());
            allocated.push(from, from.saturating_add(range.len.get()));
        }
        behind = start.saturating_add(partition.range.len.get());
        reports.push(report);
    }
    allocated.push(behind, disk.len().get());
    Ok(Survey { sector_size, table, partitions: reports, allocated: allocated.finish() })
}

/// Takes every partition whole when there is a hibernation image on the disk.
///
/// The machine goes on with the file systems as it has them in memory. There may be blocks in use which the disk has as
/// free: data are written before the metadata that say so.
fn doubt_beside_hibernation(found: &mut [(Partition, Probed)]) {
    let is_hibernated = |probed: &Probed| {
        use Doubt::{Ntfs, Swap};
        matches!(probed, Probed::Doubted(_, Swap(SwapDoubt::Hibernated) | Ntfs(NtfsDoubt::Hibernated)))
    };
    if !found.iter().any(|(_, probed)| is_hibernated(probed)) {
        return;
    }
    for (_, probed) in found {
        if let Probed::Proven(file_system) = probed {
            *probed = Probed::Doubted(file_system.name(), Doubt::Hibernated);
        }
    }
}

impl Unreadable {
    /// Returns the doubt that takes the place of an error, or the error.
    fn doubt(self, error: SurveyError) -> Result<Doubt, SurveyError> {
        match (self, error) {
            (Self::Fail, error) => Err(error),
            (Self::Whole, SurveyError::Read { offset, .. }) => Ok(Doubt::Unreadable { offset }),
        }
    }
}

/// Returns where a partition lies, [`WHOLE_DISK`] included; `None` when there is none of that number or the
/// partition table cannot be trusted.
///
/// # Errors
/// [`SurveyError::Read`] when the disk cannot be read.
pub fn partition_range(disk: &dyn ReadAt, number: u32) -> Result<Option<ByteRange>, SurveyError> {
    let whole = Window::whole(disk);
    if number == WHOLE_DISK {
        return Ok(Some(whole.range()));
    }
    match table::read(&whole, disk.sector_size()) {
        Ok(table) => {
            let mut partitions = table.into_iter().flat_map(|table| table.partitions);
            Ok(partitions.find(|partition| partition.number == number).map(|partition| partition.range))
        }
        Err(Stop::Doubt(_)) => Ok(None),
        Err(Stop::Read(error)) => Err(error),
    }
}

fn itself(whole: &Window<'_>) -> Partition {
    Partition { number: WHOLE_DISK, range: whole.range(), kind: Kind::disk() }
}

fn all_data(whole: &Window<'_>, sector_size: SectorSize, table: TableKind, doubt: &Doubt) -> Survey {
    let partition = itself(whole);
    let range = partition.range;
    let report = PartitionReport {
        number: partition.number,
        range,
        kind: partition.kind.name,
        content: Content::Unknown,
        treatment: Treatment::Whole { reason: doubt.to_string() },
        allocated: range.len,
    };
    Survey { sector_size, table, partitions: vec![report], allocated: Extents::of(range) }
}

/// Returns the report on a partition and what is allocated of it, in bytes from its start.
fn report(partition: &Partition, found: &Probed) -> (PartitionReport, Extents) {
    let (content, treatment, ranges) = match found {
        Probed::Proven(file_system) => {
            let ranges = allocated_of(file_system.as_ref(), partition.range.len);
            (file_system.name(), Treatment::Proven { evidence: file_system.evidence() }, ranges)
        }
        Probed::Doubted(content, doubt) => {
            let all = ByteRange { start: sigs::ByteOffset::ZERO, len: partition.range.len };
            (*content, Treatment::Whole { reason: doubt.to_string() }, Extents::of(all))
        }
    };
    let report = PartitionReport {
        number: partition.number,
        range: partition.range,
        kind: partition.kind.name.clone(),
        content,
        treatment,
        allocated: ranges.total(),
    };
    (report, ranges)
}

/// Collects what a file system says, kept inside its partition whatever it says.
fn allocated_of(file_system: &dyn FileSystem, partition: ByteLen) -> Extents {
    let mut list = ExtentsBuilder::new();
    for range in file_system.allocated() {
        let end = range.start.get().saturating_add(range.len.get());
        list.push(range.start.get(), end.min(partition.get()));
    }
    list.finish()
}
