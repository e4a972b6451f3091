//! Packs a disk image for the fuzz targets: `pack DISK PACKED`. Prints what a survey finds on it.
//!
//! What is kept besides the blocks that a survey, or who reads all files, reads are the other blocks that are not zero, up to 256 of them: who follows a
//! wrong pointer shall find something.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for who maintains the seeds")]

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use fuzz_harness::disk::options;
use fuzz_harness::files::read_all;
use fuzz_harness::image::{BLOCK, Image};
use imagezip::alloc::survey;
use sigs::{ByteLen, ByteOffset, ReadAt};

const MOST_OTHERS: usize = 256;

/// Notes which blocks are read.
#[derive(Debug)]
struct Watched {
    disk: Vec<u8>,
    read: Mutex<BTreeSet<u64>>,
}

impl ReadAt for Watched {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let (start, end) = (offset.get(), offset.get() + ByteLen::of(buf).get());
        self.read.lock().unwrap().extend(start / 4096..end.div_ceil(4096));
        self.disk.read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        ByteLen::of(&self.disk)
    }
}

fn main() {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (from, to) = (paths.next().unwrap(), paths.next().unwrap());
    let watched = Watched { disk: std::fs::read(from).unwrap(), read: Mutex::default() };
    let found = survey(&watched, options()).unwrap();
    let files = read_all(&watched);
    let places = watched.read.into_inner().unwrap();
    let disk = watched.disk;
    let filled = (0_u64..).zip(disk.chunks(BLOCK)).filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    let others = filled.map(|(number, _)| number).filter(|number| !places.contains(number));
    let others: Vec<u64> = others.take(MOST_OTHERS).collect();
    let places: Vec<u64> = places.into_iter().collect();
    let packed = Image::pack(ByteLen::of(&disk).get(), &places, &others, |number| {
        let start = usize::try_from(number).unwrap() * BLOCK;
        let mut block = disk[start..(start + BLOCK).min(disk.len())].to_vec();
        block.resize(BLOCK, 0);
        block
    });
    std::fs::write(&to, &packed).unwrap();
    println!("{}: {} places, {} others, {} bytes", to.display(), places.len(), others.len(), packed.len());
    println!("    its files: {files:?}");
    for partition in found.partitions {
        println!("    {} {:?}", partition.content, partition.treatment);
    }
}
