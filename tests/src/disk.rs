//! System disks to work on: a GPT with two ext4 file systems, made without root.
//!
//! The table is written here, since `sfdisk` is not on every machine; that it is a good one is checked with `partx`,
//! which is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::{tools, tree};

/// A MiB.
pub const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const ENTRIES: u64 = 128;
const ENTRY_BYTES: u64 = 128;
const TABLE_SECTORS: u64 = ENTRIES * ENTRY_BYTES / SECTOR;
/// "Linux filesystem data" as a GPT writes it.
const LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// A partition with an ext4 file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Where it begins on the disk.
    pub start: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

/// How a disk is cut. All disks of one run are cut alike.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its size.
    pub bytes: u64,
    /// The file systems.
    pub partitions: [Partition; 2],
}

impl Layout {
    /// A system partition and a data partition, of so many MiB.
    pub fn new(system_mib: u64, data_mib: u64) -> Self {
        let system = Partition { start: MIB, bytes: system_mib * MIB };
        // A gap between the two: it belongs to the disk as well.
        let data = Partition { start: system.start + system.bytes + MIB, bytes: data_mib * MIB };
        Self { bytes: data.start + data.bytes + 2 * MIB, partitions: [system, data] }
    }
}

/// What is on a disk that is made.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// Makes identifiers repeatable and different from other disks'.
    pub seed: u8,
    /// The tree of the system partition.
    pub system: &'a Path,
    /// The tree of the data partition.
    pub data: &'a Path,
}

/// Makes a disk.
///
/// # Errors
/// When the file systems do not fit, or a tool fails.
pub fn make(path: &Path, layout: &Layout, contents: &Contents<'_>) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    file.set_len(layout.bytes)?;
    write_table(&file, layout, contents.seed).context("write the partition table")?;
    drop(file);
    // The second has blocks of 1 KiB: smaller than those we compare.
    let kinds = [("4096", contents.system, "system"), ("1024", contents.data, "data")];
    for ((block, tree, label), partition) in kinds.into_iter().zip(layout.partitions) {
        let mut command = tools::program("mke2fs");
        command.args(["-q", "-F", "-t", "ext4", "-b", block, "-L", label, "-d"]).arg(tree);
        command.arg("-E").arg(format!("offset={},nodiscard,root_owner=0:0", partition.start));
        tools::run(command.arg(path).arg(format!("{}k", partition.bytes / 1024)))?;
    }
    check(path, layout)
}

/// Asks programs that are not ours whether the table and the file systems are good.
///
/// # Errors
/// When they are not.
pub fn check(path: &Path, layout: &Layout) -> anyhow::Result<()> {
    let table =
        tools::output(tools::program("partx").args(["--noheadings", "--raw", "-o", "NR,START,SECTORS"]).arg(path))?;
    let expected: Vec<_> = (1..)
        .zip(layout.partitions)
        .map(|(number, partition)| format!("{number} {} {}", partition.start / SECTOR, partition.bytes / SECTOR))
        .collect();
    ensure!(
        table.lines().map(str::trim).eq(expected.iter().map(String::as_str)),
        "partx reads {table:?} from {}",
        path.display()
    );
    for partition in layout.partitions {
        tools::run(tools::program("e2fsck").arg("-fn").arg(at(path, partition)))?;
    }
    Ok(())
}

/// Names a file system inside a disk, as e2fsprogs understand it.
pub fn at(disk: &Path, partition: Partition) -> String {
    format!("{}?offset={}", disk.display(), partition.start)
}

/// The trees that base disks are made of.
#[derive(Debug)]
pub struct Trees {
    /// The system.
    pub system: PathBuf,
    /// The data.
    pub data: PathBuf,
}

impl Trees {
    /// Copies files of this machine.
    ///
    /// # Errors
    /// When there are too few.
    pub fn make(folder: &Path, system_bytes: u64, data_bytes: u64) -> anyhow::Result<Self> {
        let trees = Self { system: folder.join("system"), data: folder.join("data") };
        for (path, bytes) in [(&trees.system, system_bytes), (&trees.data, data_bytes)] {
            fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
            tree::fill(path, bytes)?;
        }
        Ok(trees)
    }

    /// Removes them again: the disk has its own copy.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove(self) -> anyhow::Result<()> {
        for path in [self.system, self.data] {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }
}

fn write_table(file: &File, layout: &Layout, seed: u8) -> anyhow::Result<()> {
    let sectors = layout.bytes / SECTOR;
    let mut entries = vec![0; usize::try_from(ENTRIES * ENTRY_BYTES)?];
    for (number, (entry, partition)) in (1..).zip(entries.chunks_mut(128).zip(layout.partitions)) {
        entry[..16].copy_from_slice(&LINUX);
        entry[16..32].fill(seed);
        entry[31] = number;
        entry[32..40].copy_from_slice(&(partition.start / SECTOR).to_le_bytes());
        entry[40..48].copy_from_slice(&((partition.start + partition.bytes) / SECTOR - 1).to_le_bytes());
    }
    let backup_table = sectors - 1 - TABLE_SECTORS;
    let places = [(1, sectors - 1, 2), (sectors - 1, 1, backup_table)];
    for (here, other, table) in places {
        let header = header(here, other, table, sectors, seed, crc32(&entries));
        file.write_all_at(&header, here * SECTOR)?;
        file.write_all_at(&entries, table * SECTOR)?;
    }
    // The protective MBR: one partition of type 0xee over everything.
    let mut mbr = [0; 512];
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&mbr, 0)?;
    Ok(())
}

fn header(here: u64, other: u64, table: u64, sectors: u64, seed: u8, table_crc: u32) -> [u8; 512] {
    let mut header = [0; 512];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
    let (first, last) = (2 + TABLE_SECTORS, sectors - 2 - TABLE_SECTORS);
    for (offset, value) in [(24, here), (32, other), (40, first), (48, last), (72, table)] {
        header[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[56..72].fill(seed);
    header[80..84].copy_from_slice(&128_u32.to_le_bytes());
    header[84..88].copy_from_slice(&128_u32.to_le_bytes());
    header[88..92].copy_from_slice(&table_crc.to_le_bytes());
    let crc = crc32(&header[..92]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The checksum of a GPT, bit by bit: a table is small.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
