//! Disks that lie: the answer is well formed, and after one byte of damage it has everything that it had before.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use imagezip::alloc::partclone::Partclone;
use imagezip::alloc::{Survey, SurveyOptions, TableKind, Treatment, partition_range, survey as look};
use imagezip::layout::Layout;
use sigs::{ByteLen, ByteOffset, ByteRange, ReadAt as _};

use crate::files::read_all;
use crate::image::{Disk, Image};
use crate::input::Changes;
use crate::resize;

/// The largest disk of which an image is made.
const MOST_SAVED: u64 = 16 << 20;

/// An image that is changed, and what a survey says of it as it is.
#[derive(Debug)]
pub struct Base {
    /// Its name in `images/`.
    pub name: &'static str,
    /// Every structure of it has a checksum, and no log counts: one changed byte cannot free anything.
    pub sealed: bool,
    packed: &'static [u8],
    state: OnceLock<(Image, Survey)>,
}

impl Base {
    /// Returns the disk, and what is allocated on it.
    pub fn state(&self) -> &(Image, Survey) {
        self.state.get_or_init(|| state(Image::unpack(self.packed)))
    }
}

macro_rules! bases {
    ($($set:ident { $($name:literal $sealed:literal)* })*) => {
        $(static $set: LazyLock<Vec<Base>> = LazyLock::new(|| vec![$(Base {
            name: $name,
            sealed: $sealed,
            packed: include_bytes!(concat!("../../images/", $name, ".zst")),
            state: OnceLock::new(),
        }),*]);)*
        /// Returns all images: the target they belong to, their number there, and the image.
        pub fn bases() -> impl Iterator<Item = (&'static str, usize, &'static Base)> {
            let sets = [$((stringify!($set), &$set)),*].into_iter();
            sets.flat_map(|(target, set)| set.iter().enumerate().map(move |(number, base)| (target, number, base)))
        }
    };
}

bases! {
    EXT { "ext4" true "ext4-journal" false "ext4-fast-commit" false "ext3-journal" false "ext2" false "bigalloc" true }
    BTRFS { "btrfs" true "btrfs-log" false "btrfs-mixed" true }
    XFS { "xfs" true "xfs-log" false "xfs-v4" false }
    NTFS { "ntfs" false }
    EXFAT { "exfat" false }
    FAT { "fat12" false "fat16" false "fat32" false }
    SWAP { "swap" false }
    LVM { "lvm" false }
    TABLE { "gpt" false "gpt-4k" false "mbr" false }
}

/// A disk of zeros.
pub static NOTHING: LazyLock<Image> = LazyLock::new(|| Image::zeros(4 << 20));

fn state(image: Image) -> (Image, Survey) {
    let survey = look(&Disk::new(&image), options()).unwrap();
    (image, survey)
}

/// ext2, ext3, ext4, and the journal.
pub fn ext(input: &[u8]) -> bool {
    proven(&EXT, input)
}

/// btrfs.
pub fn btrfs(input: &[u8]) -> bool {
    proven(&BTRFS, input)
}

/// XFS.
pub fn xfs(input: &[u8]) -> bool {
    proven(&XFS, input)
}

/// Files on ext2, ext3 and ext4.
pub fn files(input: &[u8]) -> bool {
    let Some(changes) = Changes::parse(input) else { return false };
    let (image, _) = EXT[changes.image(EXT.len())].state();
    read_all(&changes.disk(image)).is_ok_and(|sound| sound)
}

/// NTFS, without a second opinion: accepted is what asks for one.
pub fn ntfs(input: &[u8]) -> bool {
    changed(&NTFS, input).is_some_and(|found| wants_opinion(&found))
}

/// exFAT, in the same way.
pub fn exfat(input: &[u8]) -> bool {
    changed(&EXFAT, input).is_some_and(|found| wants_opinion(&found))
}

/// Returns true if something is consistent as far as it goes, and partclone would have to agree.
pub fn wants_opinion(found: &Survey) -> bool {
    let asks = |treatment: &Treatment| match treatment {
        Treatment::Whole { reason } => reason == "losetup is not installed",
        Treatment::Proven { .. } => false,
    };
    found.partitions.iter().any(|partition| asks(&partition.treatment))
}

/// Returns how a disk is looked at: partclone seems to be there, but not what it needs, so that nothing is run.
pub fn options() -> SurveyOptions<'static> {
    static PROGRAMS: LazyLock<Partclone<'static>> = LazyLock::new(|| Partclone {
        disk: PathBuf::from("/nowhere"),
        start: ByteOffset::ZERO,
        folders: vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/programs"))],
        patience: Duration::ZERO,
        cancel: &CANCEL,
    });
    SurveyOptions { partclone: Some(&PROGRAMS), ..SurveyOptions::default() }
}

static CANCEL: AtomicBool = AtomicBool::new(false);

/// FAT12, FAT16, FAT32.
pub fn fat(input: &[u8]) -> bool {
    proven(&FAT, input)
}

/// Swap.
pub fn swap(input: &[u8]) -> bool {
    proven(&SWAP, input)
}

/// LVM2.
pub fn lvm(input: &[u8]) -> bool {
    proven(&LVM, input)
}

/// MBR and GPT.
pub fn table(input: &[u8]) -> bool {
    changed(&TABLE, input).is_some_and(|found| is_table(&found.table))
}

/// A disk of zeros of which everything that counts is written by the input.
pub fn survey(input: &[u8]) -> bool {
    Changes::parse(input).is_some_and(|changes| is_proven(&look_at(&NOTHING, &changes)))
}

/// Changes one of the images, and says whether something was believed.
fn proven(bases: &[Base], input: &[u8]) -> bool {
    changed(bases, input).is_some_and(|found| is_proven(&found))
}

fn is_proven(found: &Survey) -> bool {
    found.partitions.iter().any(|partition| matches!(partition.treatment, Treatment::Proven { .. }))
}

/// Changes one of the images, and looks at it.
fn changed(bases: &[Base], input: &[u8]) -> Option<Survey> {
    let changes = Changes::parse(input)?;
    let base = &bases[changes.image(bases.len())];
    let (image, truth) = base.state();
    let found = look_at(image, &changes);
    if base.sealed && changes.unsealed && changes.is_one_byte() {
        assert!(covers(&found, truth), "one byte of damage freed something on {}", base.name);
    }
    Some(found)
}

fn look_at(image: &Image, changes: &Changes) -> Survey {
    let disk = changes.disk(image);
    let found = checked(&disk);
    if changes.resize && disk.len <= MOST_SAVED && is_table(&found.table) {
        resize::fit(&disk, &Layout::from_survey(disk.len(), &found).unwrap());
    }
    found
}

fn is_table(table: &TableKind) -> bool {
    matches!(table, TableKind::Mbr | TableKind::Gpt | TableKind::GptBackup { .. })
}

/// Looks at a disk, and asserts what is true of every answer.
fn checked(disk: &Disk<'_>) -> Survey {
    let found = look(disk, options()).unwrap();
    let mut reached = None;
    for range in found.allocated.iter() {
        let start = range.start.get();
        assert!(reached.is_none_or(|reached| start > reached), "ranges touch or go back at {start}");
        assert!(!range.len.is_zero(), "an empty range at {start}");
        reached = range.checked_end().map(ByteOffset::get);
        assert!(reached.is_some_and(|end| end <= disk.len), "a range leaves the disk at {start}");
    }
    let mut behind = 0;
    for partition in &found.partitions {
        let range = partition.range;
        assert!(range.start.get() >= behind, "partitions overlap or go back");
        let inside: u64 = found.allocated.within(range).map(|range| range.len.get()).sum();
        assert_eq!(inside, partition.allocated.get(), "another sum");
        let gap = range.start.get() - behind;
        assert_eq!(allocated_in(&found, behind, gap), gap, "a gap between partitions is free");
        behind = range.checked_end().unwrap().get();
        assert_eq!(partition_range(disk, partition.number).unwrap(), Some(range), "{}", partition.number);
    }
    assert!(behind <= disk.len, "partitions leave the disk");
    assert_eq!(allocated_in(&found, behind, disk.len - behind), disk.len - behind, "the rest of the disk is free");
    Layout::from_survey(disk.len(), &found).unwrap();
    found
}

fn allocated_in(found: &Survey, start: u64, len: u64) -> u64 {
    let range = ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) };
    found.allocated.within(range).map(|range| range.len.get()).sum()
}

fn covers(found: &Survey, truth: &Survey) -> bool {
    truth.allocated.iter().all(|range| allocated_in(found, range.start.get(), range.len.get()) == range.len.get())
}
