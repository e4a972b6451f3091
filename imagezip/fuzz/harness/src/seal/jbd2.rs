//! The journal of ext, with checksums of version 3: its superblock, descriptors with their tags, revocations, commits.

use super::{be32, crc32c, le16, le32, put};
use crate::image::Disk;

const MAGIC: u32 = 0xC03B_3998;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const TAG: usize = 16;
const FLAG_SAME_UUID: u32 = 2;
const FLAG_LAST: u32 = 8;

pub(super) fn seal(disk: &mut Disk<'_>) {
    let ext = disk.read(1024, 1024);
    if le16(&ext, 0x38) != 0xEF53 || le32(&ext, 0x18) > 2 {
        return;
    }
    let len = 1024_usize << le32(&ext, 0x18);
    let step = u64::try_from(len).unwrap();
    let blocks = disk.places().iter();
    let starts = blocks.flat_map(|block| (block * 4096..block * 4096 + 4096).step_by(len));
    let mut seed = None;
    for at in starts {
        let block = disk.read(at, len);
        if be32(&block, 0) != MAGIC {
            continue;
        }
        if matches!(be32(&block, 4), 3 | 4) && be32(&block, 40) & INCOMPAT_CSUM_V3 != 0 {
            seed = Some(crc32c(u32::MAX, &[&block[48..64]]));
            let crc = crc32c(u32::MAX, &[&block[..252], &[0; 4], &block[256..1024]]);
            disk.write(at + 252, &crc.to_be_bytes());
        } else if let Some(seed) = seed {
            seal_block(disk, at, step, block, seed);
        }
    }
}

/// Seals a block of the log; the blocks of a descriptor follow it, in images where no log goes round its end.
fn seal_block(disk: &mut Disk<'_>, at: u64, step: u64, mut block: Vec<u8>, seed: u32) {
    let tail = block.len() - 4;
    match be32(&block, 4) {
        1 => {
            let mut tag = 12;
            let mut content = at + step;
            while tag + TAG <= tail {
                let flags = be32(&block, tag + 4);
                let data = disk.read(content, block.len());
                let crc = crc32c(seed, &[&block[8..12], &data]);
                put(&mut block, tag + 12, &crc.to_be_bytes());
                tag += if flags & FLAG_SAME_UUID == 0 { TAG + 16 } else { TAG };
                content += step;
                if flags & FLAG_LAST != 0 {
                    break;
                }
            }
        }
        2 => {
            let crc = crc32c(seed, &[&block[..16], &[0; 4], &block[20..]]);
            put(&mut block, 16, &crc.to_be_bytes());
            disk.write(at, &block);
            return;
        }
        5 => {}
        _ => return,
    }
    let crc = crc32c(seed, &[&block[..tail], &[0; 4]]);
    put(&mut block, tail, &crc.to_be_bytes());
    disk.write(at, &block);
}
