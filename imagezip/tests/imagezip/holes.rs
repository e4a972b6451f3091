//! What a source knows to be zeros is not read, and is ZERO all the same.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;

use imagezip::capture::{CaptureOptions, Hashed, hash};
use imagezip::io::{Disk, ReadAt};
use imagezip::layout::Layout;
use sigs::{ByteLen, ByteOffset, ByteRange};

use crate::support::{THREADS, controlled, layout, patchwork};

/// A disk that knows its holes, and whose holes must not be read.
#[derive(Debug)]
struct Holey {
    bytes: Vec<u8>,
    /// MiB after MiB.
    holes: Vec<bool>,
}

impl ReadAt for Holey {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let mib = usize::try_from(offset.get() >> 20).unwrap();
        assert!(!self.holes[mib], "MiB {mib} is a hole");
        self.bytes.read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        ByteLen::of(&self.bytes)
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        let end = range.checked_end().unwrap().get();
        let mut at = range.start.get();
        while at < end && self.holes[usize::try_from(at >> 20).unwrap()] {
            at = (at >> 20 << 20) + (1 << 20);
        }
        Ok((at < end).then(|| ByteOffset::new(at)))
    }
}

fn hashed(disk: &dyn ReadAt, layout: &Layout) -> (Hashed, Vec<u8>) {
    let mut signature = Vec::new();
    let options = CaptureOptions { threads: THREADS, ..CaptureOptions::default() };
    let hashed = controlled(|control| hash(disk, layout, &options, &mut signature, control)).unwrap();
    (hashed, signature)
}

#[test]
fn holes_are_zero_without_being_read() {
    let mut bytes = patchwork((12 << 20) + 5000, 3);
    let holes = [false, true, true, false, true, false, false, true, true, true, false, false, true];
    for (mib, _) in holes.iter().enumerate().filter(|(_, hole)| **hole) {
        let end = ((mib + 1) << 20).min(bytes.len());
        bytes[mib << 20..end].fill(0);
    }
    let whole = Layout::whole(&bytes);
    let disk = Holey { bytes, holes: holes.to_vec() };
    assert_eq!(hashed(&disk, &whole), hashed(&disk.bytes, &whole));
}

#[test]
fn a_chunk_that_is_partly_free_is_not_taken_for_a_hole() {
    let bytes = vec![0_u8; 4 << 20];
    let pieces = layout(&bytes, vec![(0, 1 << 20), (5 << 18, 1 << 18), (2 << 20, 2 << 20)]);
    let disk = Holey { bytes, holes: vec![false; 4] };
    let (found, _) = hashed(&disk, &pieces);
    assert_eq!((found.counts.data.get(), found.counts.zero.get(), found.counts.free.get()), (0, 256 + 64 + 512, 192));
}

/// Reading so many zeros, even from memory, would take half a minute.
#[test]
fn a_sparse_file_of_128_gib_is_hashed_in_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 37).unwrap();
    file.write_all_at(&[1; 5000], 70 << 30).unwrap();
    let disk = Disk::open(&path).unwrap();
    let (found, _) = hashed(&disk, &Layout::whole(&disk));
    assert_eq!(found.counts.data.get(), 2);
    assert_eq!(found.counts.zero.get(), (1 << 25) - 2);
}

#[test]
fn a_file_that_is_cut_short_while_it_is_read_is_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shrinking");
    File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let disk = Disk::open(&path).unwrap();
    let all = ByteRange { start: ByteOffset::ZERO, len: disk.len() };
    assert_eq!(disk.next_data(all).unwrap(), None);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4 << 20).unwrap();
    assert!(disk.next_data(all).unwrap().is_some());
}
