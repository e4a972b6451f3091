//! Partition tables: where the partitions lie. What is in them is found out elsewhere.
//!
//! A table is believed as a whole or not at all. The rules follow what Linux sees, because that is what the
//! user's system saw, and are stricter wherever two readings are possible.

pub mod backup;
pub mod gpt;
pub mod kind;
pub mod mbr;
mod whole;

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use super::content;
use super::doubt::{Doubt, Stop};
use super::window::Window;
use gpt::Which;
pub(crate) use kind::{Kind, Purpose};

/// Which kind of partition table a disk has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TableKind {
    /// None: one content covers all of the disk, or nothing known does.
    None,
    /// A DOS table, perhaps with logical partitions.
    Mbr,
    /// A GUID partition table.
    Gpt,
    /// A GUID partition table of which only the backup at the end of the disk is valid.
    GptBackup {
        /// What is wrong with the primary one.
        primary: String,
    },
    /// Something that cannot be trusted, so that the disk is data as a whole.
    Doubtful {
        /// Why.
        reason: String,
    },
    /// Not looked at, because everything was asked for.
    NotRead,
}

/// Why a partition table is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableDoubt {
    /// Two partitions share sectors.
    #[error("partitions {first} and {second} overlap")]
    Overlap {
        /// The one that begins earlier.
        first: u32,
        /// The one that begins inside it.
        second: u32,
    },
    /// A partition reaches out of the disk, or lies on the table itself.
    #[error("partition {number} lies where no partition can be")]
    OutOfRange {
        /// The partition.
        number: u32,
    },
    /// A DOS entry has a size but no type.
    #[error("partition {number} has a size but no type")]
    Untyped {
        /// The partition.
        number: u32,
    },
    /// More than one entry opens a chain of logical partitions.
    #[error("there is more than one extended partition")]
    TwoExtended,
    /// The chain of logical partitions is broken at this sector.
    #[error("the extended partition table at sector {sector} is not valid")]
    Chain {
        /// The sector.
        sector: u64,
    },
    /// The chain does not end.
    #[error("the chain of logical partitions is a loop or too long")]
    Loop,
    /// The DOS table protects a GPT and has a partition that is none of the GPT.
    #[error("the partition table is a hybrid of MBR and GPT, which disagree on partition {number} of the MBR")]
    Hybrid {
        /// The partition in the DOS table.
        number: u32,
    },
    /// There is a protective entry but no valid GPT.
    #[error("a GPT is announced, but neither of its copies is valid: {primary}; {backup}")]
    NoGpt {
        /// What is wrong with the primary one.
        primary: String,
        /// What is wrong with the backup.
        backup: String,
    },
    /// There is a valid GPT, but the first sector does not announce it.
    #[error("there is a GPT without a protective MBR")]
    Unprotected,
    /// There are valid GPTs for two sector sizes.
    #[error("there are GPTs for two sector sizes")]
    TwoSectorSizes,
    /// Both copies of the GPT are valid and say different things.
    #[error("the two copies of the GPT differ")]
    CopiesDiffer,
    /// There is a partition table, and the superblock of something that covers the whole disk.
    #[error("there is a partition table, and {0} that covers the whole disk")]
    AlsoWhole(content::Content),
}

/// A partition as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) number: u32,
    pub(crate) range: ByteRange,
    pub(crate) kind: Kind,
}

/// What a table says, before its parts are compared with each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) partitions: Vec<Partition>,
    /// The sectors of the table itself.
    pub(crate) reserved: Vec<ByteRange>,
}

/// A believed partition table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) kind: TableKind,
    pub(crate) sector_size: SectorSize,
    /// In disk order, not overlapping, inside the disk.
    pub(crate) partitions: Vec<Partition>,
}

/// Reads the partition table of a disk, or `None` when it has none.
pub(crate) fn read(disk: &Window<'_>, medium: SectorSize) -> Result<Option<Table>, Stop> {
    let first = disk.fetch(0, 512)?;
    let primary = gpt::find_primary(disk, medium)?;
    let entries = mbr::entries(&first);
    let protective = entries.iter().flatten().any(mbr::Entry::is_protective);

    if !protective && primary.is_ok() {
        return Err(TableDoubt::Unprotected.into());
    }
    let (kind, sector_size, places) = if protective {
        if !entries.iter().flatten().any(mbr::Entry::protects) {
            return Err(TableDoubt::Unprotected.into());
        }
        let (kind, sector_size, mut places) = read_gpt(disk, primary, medium)?;
        mbr::reconcile(&entries, sector_size, &mut places)?;
        (kind, sector_size, places)
    } else if entries.iter().flatten().next().is_some() {
        (TableKind::Mbr, medium, mbr::places(disk, medium, &entries)?)
    } else if gpt::find_backup(disk, medium)?.is_ok() {
        // The start of a partitioned disk was wiped; what else is found at its start may be older still.
        return Err(TableDoubt::Unprotected.into());
    } else {
        return Ok(None);
    };
    let mut partitions = checked(disk.range().len, places)?;
    whole::refuse(disk, &partitions)?;
    settle_hashes(&mut partitions);
    Ok(Some(Table { kind, sector_size, partitions }))
}

/// Decides whether what may be covered by hashes is: a table with a partition of hashes says so.
fn settle_hashes(partitions: &mut [Partition]) {
    let hashes = partitions.iter().any(|partition| partition.kind.purpose == Purpose::Verity);
    let settled = if hashes { Purpose::Hashed } else { Purpose::Linux };
    for partition in partitions.iter_mut().filter(|partition| partition.kind.purpose == Purpose::System) {
        partition.kind.purpose = settled;
    }
}

fn read_gpt(
    disk: &Window<'_>,
    primary: gpt::Found,
    medium: SectorSize,
) -> Result<(TableKind, SectorSize, Places), Stop> {
    let invalid = match primary {
        Ok((gpt, sector_size)) => {
            // The copy named by the primary is the one that counts: on a disk that grew, or got the image of a
            // smaller one, the last sector holds nothing or something stale.
            let copy = gpt::read(disk, sector_size, Which::Backup { lba: gpt.other_lba })?;
            let mut places = gpt.places(sector_size)?;
            if let Ok(copy) = copy {
                if copy.entries != gpt.entries || copy.disk_guid != gpt.disk_guid {
                    return Err(TableDoubt::CopiesDiffer.into());
                }
                places.reserved.extend(copy.areas);
            }
            return Ok((TableKind::Gpt, sector_size, places));
        }
        Err(invalid) => invalid.to_string(),
    };
    match gpt::find_backup(disk, medium)? {
        Ok((gpt, sector_size)) => {
            Ok((TableKind::GptBackup { primary: invalid }, sector_size, gpt.places(sector_size)?))
        }
        Err(backup) => Err(TableDoubt::NoGpt { primary: invalid, backup: backup.to_string() }.into()),
    }
}

/// Returns the partitions in disk order, proved to be inside the disk, apart from each other and from the table.
fn checked(disk: ByteLen, places: Places) -> Result<Vec<Partition>, Doubt> {
    let Places { mut partitions, reserved } = places;
    partitions.sort_by_key(|partition| partition.range.start);
    let mut earlier: Option<(u32, ByteOffset)> = None;
    for Partition { number, range, .. } in &partitions {
        let number = *number;
        let end = range.checked_end().filter(|end| end.get() <= disk.get());
        let end = end.filter(|_| !reserved.iter().any(|table| overlap(*range, *table)));
        let Some(end) = end else { return Err(TableDoubt::OutOfRange { number }.into()) };
        if let Some((first, earlier_end)) = earlier
            && range.start < earlier_end
        {
            return Err(TableDoubt::Overlap { first, second: number }.into());
        }
        earlier = Some((number, end));
    }
    Ok(partitions)
}

fn overlap(a: ByteRange, b: ByteRange) -> bool {
    Some(a.start) < b.checked_end() && Some(b.start) < a.checked_end()
}

/// Returns the bytes of `count` sectors from `first`, or `None` past the number range.
fn sectors(size: SectorSize, first: u64, count: u64) -> Option<ByteRange> {
    let bytes = u64::from(size.bytes());
    let start = ByteOffset::new(first.checked_mul(bytes)?);
    let range = ByteRange { start, len: ByteLen::new(count.checked_mul(bytes)?) };
    range.checked_end().map(|_| range)
}
