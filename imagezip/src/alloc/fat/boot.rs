//! The boot sector: where the tables are and where the clusters.
//!
//! ```text
//! 11 bytes per sector  13 sectors per cluster  14 reserved sectors  16 tables  17 entries of the root directory
//! 19 sectors  21 medium  22 sectors per table  32 sectors, if the number at 19 is 0
//! FAT12, FAT16: 37 state  54 name
//! FAT32: 36 sectors per table  40 tables in use  42 version  44 root  48 counts  50 copy  65 state  82 name
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::FatDoubt;
use crate::alloc::bytes::{has, u8_at, u16_at, u32_at};
use crate::alloc::doubt::{Stop, SurveyError};
use crate::alloc::window::Window;

/// The part of a boot sector that says where things are; behind it is code.
const FIELDS: std::ops::Range<usize> = 11..90;
/// Where FAT32 has its state, which is changed in the first boot sector only.
const STATE_FAT32: usize = 65;
const STATE: usize = 37;
/// In use, errors seen.
const STATE_BAD: u8 = 0x3;

/// The width of the entries of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum FatKind {
    Fat12,
    Fat16,
    Fat32,
}

impl fmt::Display for FatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        })
    }
}

impl FatKind {
    fn of_name(bytes: &[u8]) -> Option<Self> {
        let names = [(Self::Fat12, 54, b"FAT12   "), (Self::Fat16, 54, b"FAT16   "), (Self::Fat32, 82, b"FAT32   ")];
        let mut found = names.into_iter().filter(|(_, at, name)| has(bytes, *at, *name)).map(|(kind, ..)| kind);
        found.next().filter(|_| found.next().is_none())
    }

    /// Returns true if a volume of this kind can have so many clusters. Windows tells the kinds apart by the
    /// number, Linux takes a small FAT32 for what it is, as firmware does.
    fn goes_with(self, clusters: u32) -> bool {
        match self {
            Self::Fat12 => (1..4085).contains(&clusters),
            Self::Fat16 => (4085..65525).contains(&clusters),
            Self::Fat32 => (1..0x0FFF_FFF5).contains(&clusters),
        }
    }

    /// Returns how many bits an entry has.
    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }
}

/// Where everything is, in bytes from the start of the partition. All of it was proved to be inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) kind: FatKind,
    pub(super) medium: u8,
    pub(super) tables: [u64; 2],
    /// How much of a table has entries.
    pub(super) table_len: u64,
    /// Where the first cluster is, number 2.
    pub(super) clusters_at: u64,
    pub(super) cluster_size: u64,
    pub(super) clusters: u32,
    /// The first cluster of the root directory; it has a place of its own before FAT32.
    pub(super) root: Option<u32>,
    counts_at: Option<u64>,
}

impl Boot {
    /// Reads the boot sector, and its copy where there is one.
    pub(super) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let bytes = window.fetch(0, 512)?;
        let kind = FatKind::of_name(&bytes).ok_or(FatDoubt::Geometry("name"))?;
        let boot = Self::parse(kind, &bytes, window.range().len.get()).ok_or(FatDoubt::Geometry("layout"))??;
        let state = u8_at(&bytes, if kind == FatKind::Fat32 { STATE_FAT32 } else { STATE });
        if state.is_none_or(|state| state & STATE_BAD != 0) {
            return Err(FatDoubt::Dirty.into());
        }
        if kind == FatKind::Fat32 {
            check_copy(window, &bytes)?;
        }
        Ok(boot)
    }

    /// Returns `None` where a number is not there or too large.
    fn parse(kind: FatKind, bytes: &[u8], partition: u64) -> Option<Result<Self, FatDoubt>> {
        let is_fat32 = kind == FatKind::Fat32;
        let sector = u64::from(u16_at(bytes, 11)?);
        let per_cluster = u64::from(u8_at(bytes, 13)?);
        let reserved = u64::from(u16_at(bytes, 14)?);
        let tables = u8_at(bytes, 16)?;
        let root_sectors = (u64::from(u16_at(bytes, 17)?) * 32).checked_div(sector)?;
        let medium = u8_at(bytes, 21)?;
        let (few, many) = (u64::from(u16_at(bytes, 19)?), u64::from(u32_at(bytes, 32)?));
        let (short, long) = (u64::from(u16_at(bytes, 22)?), u64::from(u32_at(bytes, 36)?));
        let sane = sector.is_power_of_two()
            && (512..=4096).contains(&sector)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (u64::from(u16_at(bytes, 17)?) * 32).is_multiple_of(sector)
            && (root_sectors == 0) == is_fat32
            && (medium == 0xF0 || medium >= 0xF8)
            && (few == 0 || many == 0 || few == many)
            && (short == 0) == is_fat32
            && (!is_fat32 || u16_at(bytes, 42) == Some(0))
            && has(bytes, 510, &[0x55, 0xAA]);
        if !sane {
            return Some(Err(FatDoubt::Geometry("field")));
        }
        if tables != 2 || (is_fat32 && u16_at(bytes, 40)? & 0x80 != 0) {
            return Some(Err(FatDoubt::Tables(tables)));
        }
        let sectors = few.max(many);
        if sectors.checked_mul(sector)? > partition {
            return Some(Err(FatDoubt::LargerThanPartition));
        }
        let per_table = if is_fat32 { long } else { short };
        let clusters_at = reserved.checked_add(per_table.checked_mul(2)?)?.checked_add(root_sectors)?;
        let clusters = u32::try_from(sectors.checked_sub(clusters_at)? / per_cluster).ok()?;
        if !kind.goes_with(clusters) {
            return Some(Err(FatDoubt::Kind { says: kind, clusters }));
        }
        let table_len = ((u64::from(clusters) + 2) * kind.bits()).div_ceil(8);
        if table_len > per_table * sector {
            return Some(Err(FatDoubt::Geometry("length of a table")));
        }
        let root = if is_fat32 { Some(u32_at(bytes, 44)?) } else { None };
        let counts = u64::from(u16_at(bytes, 48)?);
        let has_counts = is_fat32 && counts != 0 && counts < reserved;
        Some(Ok(Self {
            kind,
            medium,
            tables: [reserved * sector, (reserved + per_table) * sector],
            table_len,
            clusters_at: clusters_at * sector,
            cluster_size: per_cluster * sector,
            clusters,
            root,
            counts_at: has_counts.then_some(counts * sector),
        }))
    }

    /// Returns how many clusters are said to be free, where that is said.
    pub(super) fn stated_free(&self, window: &Window<'_>) -> Result<Option<u32>, SurveyError> {
        let Some(at) = self.counts_at else { return Ok(None) };
        let counts = window.fetch(at, 512)?;
        let signed = has(&counts, 0, b"RRaA") && has(&counts, 484, b"rrAa");
        Ok(u32_at(&counts, 488).filter(|free| signed && *free != u32::MAX))
    }

    /// Returns the first byte behind the last cluster.
    pub(super) fn clusters_end(&self) -> u64 {
        self.clusters_at.saturating_add(u64::from(self.clusters).saturating_mul(self.cluster_size))
    }
}

/// Compares the boot sector of FAT32 with its copy.
fn check_copy(window: &Window<'_>, bytes: &[u8]) -> Result<(), Stop> {
    let sector = u64::from(u16_at(bytes, 11).unwrap_or(0));
    let copy_at = u64::from(u16_at(bytes, 50).unwrap_or(0));
    // No copy: 0 by the specification, all ones by habit.
    if copy_at == 0 || copy_at == 0xFFFF {
        return Ok(());
    }
    let copy = window.fetch(copy_at * sector, 512)?;
    let fields = |sector: &[u8]| {
        let mut fields = sector.get(FIELDS).map(<[u8]>::to_vec)?;
        *fields.get_mut(STATE_FAT32 - FIELDS.start)? = 0;
        Some(fields)
    };
    if fields(&copy) == fields(bytes) { Ok(()) } else { Err(FatDoubt::BackupDiffers.into()) }
}
