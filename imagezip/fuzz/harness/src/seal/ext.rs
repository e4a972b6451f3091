//! Ext with metadata_csum: bitmaps, descriptors, inodes of the first group that count, then the superblock.

use super::{crc32c, le16, le32, put};
use crate::image::Disk;

const SUPERBLOCK_AT: u64 = 1024;
const RO_METADATA_CSUM: u32 = 0x400;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const INCOMPAT_64BIT: u32 = 0x80;
/// The images have fewer; a lie about the number gets no further.
const MOST_GROUPS: u32 = 64;
/// The files of the images are among the first.
const MOST_INODES: u32 = 40;
/// What the last entry of a folder is when it holds a checksum.
const TAIL: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0xDE];

/// What the checksums need of the superblock.
struct Shape {
    seed: u32,
    block: u64,
    first: u64,
    groups: u32,
    clusters_per_group: u32,
    descriptor: usize,
    inode: u16,
}

pub(super) fn seal(disk: &mut Disk<'_>) {
    let superblock = disk.read(SUPERBLOCK_AT, 1024);
    let Some(shape) = Shape::of(&superblock) else { return };
    for group in 0..shape.groups {
        shape.seal_group(disk, group);
    }
    let crc = crc32c(u32::MAX, &[&superblock[..0x3FC]]);
    disk.write(SUPERBLOCK_AT + 0x3FC, &crc.to_le_bytes());
}

/// Seals the first blocks of folders among those that were changed.
pub(super) fn seal_folders(disk: &mut Disk<'_>, touched: &[u64]) {
    let Some(shape) = Shape::of(&disk.read(SUPERBLOCK_AT, 1024)) else { return };
    let len = usize::try_from(shape.block).unwrap().min(4096);
    let table = u64::from(le32(&disk.read((shape.first + 1).saturating_mul(shape.block), 12), 8));
    let inode_at = |number: u32| table.saturating_mul(shape.block) + u64::from(number - 1) * u64::from(shape.inode);
    for at in touched.iter().flat_map(|block| (block * 4096..block * 4096 + 4096).step_by(len)) {
        let block = disk.read(at, len);
        let number = le32(&block, 0);
        let (names, tail) = block.split_at(len - 12);
        // The first entry is the folder itself, which is mixed into the checksum.
        if tail.starts_with(&TAIL) && names[6..].starts_with(&[1, 2, b'.']) && (1..=MOST_INODES).contains(&number) {
            let generation = disk.read(inode_at(number) + 100, 4);
            let crc = crc32c(shape.seed, &[&number.to_le_bytes(), &generation, names]);
            disk.write(at + u64::try_from(len - 4).unwrap(), &crc.to_le_bytes());
        }
    }
}

impl Shape {
    fn of(superblock: &[u8]) -> Option<Self> {
        let (incompat, ro_compat) = (le32(superblock, 0x60), le32(superblock, 0x64));
        if le16(superblock, 0x38) != 0xEF53 || ro_compat & RO_METADATA_CSUM == 0 || le32(superblock, 0x18) > 6 {
            return None;
        }
        let seeded = incompat & INCOMPAT_CSUM_SEED != 0;
        let blocks_per_group = le32(superblock, 0x20).max(1);
        let wide = incompat & INCOMPAT_64BIT != 0;
        Some(Self {
            seed: if seeded { le32(superblock, 0x270) } else { crc32c(u32::MAX, &[&superblock[0x68..0x78]]) },
            block: 1024 << le32(superblock, 0x18),
            first: u64::from(le32(superblock, 0x14)),
            groups: le32(superblock, 0x04).div_ceil(blocks_per_group).min(MOST_GROUPS),
            clusters_per_group: le32(superblock, 0x24),
            descriptor: if wide { usize::from(le16(superblock, 0xFE)).clamp(32, 1024) } else { 32 },
            inode: le16(superblock, 0x58).clamp(128, 4096),
        })
    }

    fn seal_group(&self, disk: &mut Disk<'_>, group: u32) {
        let length = u64::try_from(self.descriptor).unwrap();
        // The images have their descriptors behind the superblock.
        let at = (self.first + 1).saturating_mul(self.block) + u64::from(group) * length;
        let mut bytes = disk.read(at, self.descriptor);
        let wide = self.descriptor >= 64;
        let place = |bytes: &[u8], low, high| {
            let high = if wide { le32(bytes, high) } else { 0 };
            (u64::from(le32(bytes, low)) | u64::from(high) << 32).saturating_mul(self.block)
        };
        let covered = usize::try_from(self.clusters_per_group / 8).unwrap().min(1 << 16);
        let bitmap = disk.read(place(&bytes, 0, 32), covered);
        let [a, b, c, d] = crc32c(self.seed, &[&bitmap]).to_le_bytes();
        put(&mut bytes, 24, &[a, b]);
        if wide {
            put(&mut bytes, 56, &[c, d]);
        }
        let (before, behind) = (&bytes[..30], &bytes[32..]);
        let [a, b, ..] = crc32c(self.seed, &[&group.to_le_bytes(), before, &[0; 2], behind]).to_le_bytes();
        put(&mut bytes, 30, &[a, b]);
        disk.write(at, &bytes);
        if group == 0 {
            let table = place(&bytes, 8, 40);
            (1..=MOST_INODES).for_each(|number| self.seal_inode(disk, number, table));
        }
    }

    fn seal_inode(&self, disk: &mut Disk<'_>, number: u32, table: u64) {
        let at = table.saturating_add(u64::from(number - 1) * u64::from(self.inode));
        let mut bytes = disk.read(at, usize::from(self.inode));
        if bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        let wide = self.inode > 130 && le16(&bytes, 128) >= 4;
        put(&mut bytes, 124, &[0; 2]);
        if wide {
            put(&mut bytes, 130, &[0; 2]);
        }
        let [a, b, c, d] = crc32c(self.seed, &[&number.to_le_bytes(), &bytes[100..104], &bytes]).to_le_bytes();
        put(&mut bytes, 124, &[a, b]);
        if wide {
            put(&mut bytes, 130, &[c, d]);
        }
        disk.write(at, &bytes);
    }
}
