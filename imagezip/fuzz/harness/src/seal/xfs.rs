//! XFS version 5: headers of one sector and tree blocks of 4 KiB by their magic numbers, and records of the log.

use super::{be32, crc32c, put};
use crate::image::{BLOCK, Disk};

/// Magic number, place of the checksum, and how much it covers.
const SEALED: [(&[u8; 4], usize, usize); 8] = [
    (b"XFSB", 224, 512),
    (b"XAGF", 216, 512),
    (b"XAGI", 312, 512),
    (b"XAFL", 32, 512),
    (b"AB3B", 52, BLOCK),
    (b"AB3C", 52, BLOCK),
    (b"IAB3", 52, BLOCK),
    (b"RMB3", 52, BLOCK),
];
const RECORD: [u8; 4] = [0xFE, 0xED, 0xBA, 0xBE];
const MOST_RECORD: usize = 256 << 10;

pub(super) fn seal(disk: &mut Disk<'_>, at: u64) {
    // Version 4 has other fields where the checksums are.
    if disk.read(101, 1)[0] & 0xF != 5 {
        return;
    }
    for at in (at..at + 4096).step_by(512) {
        let mut bytes = disk.read(at, BLOCK);
        let Some((_, place, len)) = SEALED.iter().find(|(magic, _, _)| bytes.starts_with(*magic)) else { continue };
        put(&mut bytes, *place, &[0; 4]);
        let crc = !crc32c(u32::MAX, &[&bytes[..*len]]);
        disk.write(at + u64::try_from(*place).unwrap(), &crc.to_le_bytes());
    }
}

/// Seals the records of the log that were changed. The first, by mkfs.xfs, has no checksum.
pub(super) fn seal_log(disk: &mut Disk<'_>, touched: &[u64]) {
    let (Some(first), Some(last)) = (touched.first(), touched.last()) else { return };
    for block in disk.places() {
        for at in (block * 4096..block * 4096 + 4096).step_by(512) {
            let header = disk.read(at, 512);
            if !header.starts_with(&RECORD) || be32(&header, 32) == 0 {
                continue;
            }
            let len = usize::try_from(be32(&header, 12)).unwrap().min(MOST_RECORD);
            let headers = len.div_ceil(32 << 10).max(1);
            let end = at + u64::try_from(headers * 512 + len).unwrap();
            if last * 4096 + 4096 <= at || first * 4096 >= end {
                continue;
            }
            let bytes = disk.read(at, headers * 512 + len);
            let (heads, data) = bytes.split_at(headers * 512);
            let crc = crc32c(u32::MAX, &[&heads[..32], &[0; 4], &heads[36..328]]);
            let crc = heads.chunks(512).skip(1).fold(crc, |crc, more| crc32c(crc, &[&more[..260]]));
            disk.write(at + 32, &(!crc32c(crc, &[data])).to_le_bytes());
        }
    }
}
