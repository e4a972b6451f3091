//! What is read to be proved comes from the medium: on a loop device its file can be changed behind the cache.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use imagezip::io::{Disk, DiskIo as _, ReadAt as _};
use sigs::{ByteLen, ByteOffset, ByteRange};

use crate::mounted::Loop;

/// Not a whole number of pages.
const LEN: u64 = 40 * 4096 + 512;

fn bytes_at(disk: &Disk, offset: u64, medium: bool) -> Vec<u8> {
    let mut found = vec![0; 512];
    let offset = ByteOffset::new(offset);
    let read = if medium { disk.read_from_medium(&mut found, offset) } else { disk.read_exact_at(&mut found, offset) };
    read.unwrap();
    found
}

#[test]
fn neither_first_nor_last_sector_is_read_back_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    for place in [0, 8 * 4096 + 1024, LEN - 512] {
        fs::write(&path, vec![0; usize::try_from(LEN).unwrap()]).unwrap();
        let Some(device) = Loop::new(&path, "512") else { return };
        let disk = Disk::open_for_writing(Path::new(device.device())).unwrap();
        let file = File::options().write(true).open(&path).unwrap();

        disk.write_all_at(&[1; 512], ByteOffset::new(place)).unwrap();
        disk.flush().unwrap();
        // The medium loses it, and the cache does not know.
        file.write_all_at(&[2; 512], place).unwrap();
        assert_eq!(bytes_at(&disk, place, true), [2; 512], "at {place}");

        // Told to forget, the cache does, the last page as well.
        bytes_at(&disk, place, false);
        file.write_all_at(&[3; 512], place).unwrap();
        disk.drop_cache(ByteRange { start: ByteOffset::ZERO, len: ByteLen::new(LEN) }).unwrap();
        assert_eq!(bytes_at(&disk, place, false), [3; 512], "at {place}");
    }
}
