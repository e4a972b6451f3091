//! NTFS: the bitmap of clusters, compared with every run of clusters in the file table.
//!
//! The format has no checksums of content. Its word is taken when the boot sector agrees with its copy, the volume is
//! clean (the flag in `$Volume`, the log, no hibernated Windows), every record of the table is whole, and every cluster
//! that a record names is marked in `$Bitmap`. A cluster is free when partclone says so as well.
//!
//! - `boot`: where everything is
//! - `record`: a record of the file table and its attributes
//! - `runs`: where the content of an attribute is
//! - `log`: whether the log was closed
//! - `scan`: all records

mod boot;
mod log;
mod record;
mod runs;
mod scan;

use sigs::ByteLen;

use super::bytes::{u8_at, u16_at};
use super::clusters::{Clusters, Marked, PIECE};
use super::doubt::Stop;
use super::filesystem::CrossCheck;
use super::partclone::OwnWord;
use super::window::Window;
use crate::extents::Extents;
use boot::Boot;
use record::{Attribute, Record};
use runs::Content;

/// The records with a fixed number.
const TABLE: u64 = 0;
const LOG: u64 = 2;
const VOLUME: u64 = 3;
const BITMAP: u64 = 6;
/// In use, or a change is not finished: dirty, the log to be resized, an upgrade, object ids to be repaired, a check.
const UNFINISHED: u16 = 0x4027;

/// Why an NTFS volume is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NtfsDoubt {
    /// A number that makes no sense.
    #[error("the boot sector has an impossible {0}")]
    Boot(&'static str),
    /// The copy at the end is another one.
    #[error("the boot sector and its copy at byte {at} of the partition differ")]
    BackupDiffers {
        /// Where the copy should be.
        at: u64,
    },
    /// Part of it is not there.
    #[error("the file system is larger than its partition")]
    LargerThanPartition,
    /// It was not unmounted, or a check is due.
    #[error("the volume is marked as in use or unfinished (flags {0:#x})")]
    Dirty(u16),
    /// Changes are in the log only.
    #[error("the log of the volume {0}")]
    Log(&'static str),
    /// Windows means to go on with what it has in memory.
    #[error("Windows is hibernated on it")]
    Hibernated,
    /// A version that is not known.
    #[error("the volume has version {major}, not 3")]
    Version {
        /// The first number.
        major: u8,
    },
    /// A record of the file table is damaged, or not understood.
    #[error("record {record} of the file table {what}")]
    Record {
        /// Its number.
        record: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file has a cluster that the bitmap calls free.
    #[error("record {record} of the file table has clusters that the bitmap calls free")]
    NotMarked {
        /// Its number.
        record: u64,
    },
}

/// A volume and its file table.
#[derive(Debug)]
struct Volume<'a> {
    window: &'a Window<'a>,
    boot: Boot,
    table: Content,
}

/// Reads what the volume says of itself.
pub(crate) fn read(window: &Window<'_>) -> Result<OwnWord, Stop> {
    let boot = Boot::read(window)?;
    let mut volume = Volume { window, boot, table: Content::default() };
    let first = volume.fetch_record(volume.boot.table)?;
    let table = Record::parse(TABLE, &first)?.ok_or(NtfsDoubt::Record { record: TABLE, what: "is not in use" })?;
    volume.table = Content::of(TABLE, &table.data()?, boot.clusters)?;
    volume.check_state()?;
    log::check(&volume.content(LOG)?, window)?;
    let (allocated, marked) = volume.bitmap()?;
    let records = scan::check(&mut volume, &allocated)?;
    Ok(OwnWord {
        allocated,
        end: boot.clusters.end(),
        cluster_size: ByteLen::new(boot.clusters.size),
        cross_check: CrossCheck::NtfsRecords { records, clusters: marked },
    })
}

impl Volume<'_> {
    /// Reads a record at a place of the partition.
    fn fetch_record(&self, at: u64) -> Result<Vec<u8>, Stop> {
        Ok(self.window.fetch(at, self.boot.record)?)
    }

    /// Reads a record with a fixed number.
    fn record(&self, number: u64) -> Result<Vec<u8>, Stop> {
        let missing = NtfsDoubt::Record { record: number, what: "is not there" };
        let at = number.checked_mul(self.boot.record).ok_or_else(|| missing.clone())?;
        let bytes = self.table.fetch(self.window, at, self.boot.record)?;
        Ok(bytes.ok_or(missing)?)
    }

    /// Finds the unnamed content of a file with a fixed number.
    fn content(&self, number: u64) -> Result<Content, Stop> {
        let bytes = self.record(number)?;
        let record =
            Record::parse(number, &bytes)?.ok_or(NtfsDoubt::Record { record: number, what: "is not in use" })?;
        if record.has(Attribute::LIST) {
            return Err(NtfsDoubt::Record { record: number, what: "goes on in other records" }.into());
        }
        Ok(Content::of(number, &record.data()?, self.boot.clusters)?)
    }

    /// Looks at the flags of the volume.
    fn check_state(&self) -> Result<(), Stop> {
        let bytes = self.record(VOLUME)?;
        let missing = |what| NtfsDoubt::Record { record: VOLUME, what };
        let record = Record::parse(VOLUME, &bytes)?.ok_or_else(|| missing("is not in use"))?;
        let state = record.attributes()?.into_iter().find(|attribute| attribute.kind == Attribute::VOLUME_INFORMATION);
        let state = state.and_then(|attribute| attribute.resident()).ok_or_else(|| missing("has no state"))?;
        let (major, flags) = u8_at(state, 8).zip(u16_at(state, 10)).ok_or_else(|| missing("has no state"))?;
        if major != 3 {
            return Err(NtfsDoubt::Version { major }.into());
        }
        if flags & UNFINISHED != 0 {
            return Err(NtfsDoubt::Dirty(flags).into());
        }
        Ok(())
    }

    /// Reads the bitmap. Returns what is allocated of the partition, and how many clusters are marked.
    fn bitmap(&self) -> Result<(Extents, u64), Stop> {
        let clusters: Clusters = self.boot.clusters;
        let short = || NtfsDoubt::Record { record: BITMAP, what: "has a bitmap that is too short" };
        let content = self.content(BITMAP)?;
        let len = clusters.bitmap_bytes();
        if content.len < len {
            return Err(short().into());
        }
        let mut marked = Marked::new(clusters);
        let mut at = 0;
        while at < len {
            let piece = content.fetch(self.window, at, PIECE.min(len - at))?.ok_or_else(short)?;
            marked.push(piece);
            at += PIECE;
        }
        Ok(marked.finish(self.window.range().len).ok_or_else(short)?)
    }
}
