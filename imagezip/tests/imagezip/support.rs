//! What the tests of the engine share: captures in memory, and disks made at random.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagezip::alloc::{SurveyOptions, survey};
use imagezip::capture::{Base, CaptureError, CaptureOptions, Captured, FrameSink, capture};
use imagezip::control::{Control, Progress};
use imagezip::image::{Chain, ImageError, ImageSource, Unverified, Verified};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::{FreePolicy, OtherSize, RestoreError, RestoreOptions, RestoreReport, restore};
use sigs::zdi::{FrameRecord, HEADER_BYTES, header_bytes};
use sigs::{BlockSize, ByteLen, ByteOffset, ByteRange, ReadAt, SectorSize, Signature};

pub(crate) const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// Frames kept in memory.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) bytes: Vec<u8>,
    pub(crate) placement: Vec<ByteOffset>,
}

impl FrameSink for Frames {
    fn put(&mut self, _record: FrameRecord, stored: &[u8]) -> io::Result<()> {
        self.placement.push(ByteOffset::new(HEADER_BYTES + ByteLen::of(&self.bytes).get()));
        self.bytes.extend_from_slice(stored);
        Ok(())
    }
}

impl Frames {
    /// Returns the bytes of the image file.
    pub(crate) fn into_image(self, captured: &Captured) -> Vec<u8> {
        let mut image = header_bytes().to_vec();
        image.extend_from_slice(&self.bytes);
        let end = ByteOffset::new(ByteLen::of(&image).get());
        image.extend_from_slice(&captured.contents.encode_tail(&self.placement, end));
        image
    }
}

/// Runs something with counters nobody looks at.
pub(crate) fn controlled<T>(run: impl FnOnce(Control<'_>) -> T) -> T {
    run(Control { progress: &Progress::default(), cancel: &AtomicBool::new(false) })
}

/// An image in memory with the signature of its state.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) image: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) captured: Captured,
}

/// Captures a disk in memory.
pub(crate) fn make(
    disk: &Vec<u8>,
    layout: &Layout,
    bases: &[&Made],
    block_size: BlockSize,
) -> Result<Made, CaptureError> {
    make_from(disk, layout, bases, CaptureOptions { block_size, ..CaptureOptions::default() })
}

/// Captures any disk; the bases in the options are those given beside them.
pub(crate) fn make_from(
    disk: &dyn ReadAt,
    layout: &Layout,
    bases: &[&Made],
    options: CaptureOptions<'_>,
) -> Result<Made, CaptureError> {
    let signatures: Vec<_> = bases.iter().map(|base| Signature::open(base.signature.clone()).unwrap()).collect();
    let bases: Vec<&dyn Base> = signatures.iter().map(|signature| -> &dyn Base { signature }).collect();
    let options = CaptureOptions { bases: &bases, threads: THREADS, ..options };
    let (mut frames, mut signature) = (Frames::default(), Vec::new());
    let captured = controlled(|control| capture(disk, layout, &options, &mut frames, Some(&mut signature), control))?;
    Ok(Made { image: frames.into_image(&captured), signature, captured })
}

/// Captures all of a disk in memory in blocks of 4 KiB.
pub(crate) fn make_whole(disk: &Vec<u8>, bases: &[&Made]) -> Made {
    make(disk, &Layout::whole(disk), bases, BlockSize::DEFAULT).unwrap()
}

/// Opens and verifies images in memory.
pub(crate) fn open(image: &[u8], bases: &[&[u8]]) -> Result<Chain<Verified>, ImageError> {
    controlled(|control| unverified(image, bases)?.verify(THREADS, control))
}

/// Opens images in memory, whose frames are checked when they are read.
pub(crate) fn open_maps(image: &[u8], bases: &[&[u8]]) -> Result<Chain<Verified>, ImageError> {
    unverified(image, bases)?.verify_maps()
}

fn unverified(image: &[u8], bases: &[&[u8]]) -> Result<Chain<Unverified>, ImageError> {
    let source = |name: &str, bytes: &[u8]| ImageSource { name: name.to_owned(), bytes: Arc::new(bytes.to_vec()) };
    let bases = bases.iter().map(|bytes| source("base", bytes)).collect();
    Chain::open(source("image", image), bases)
}

/// Restores to a disk in memory.
pub(crate) fn restore_to(
    chain: &Chain<Verified>,
    target: &MemoryDisk,
    free: FreePolicy,
    in_place: bool,
) -> Result<RestoreReport, RestoreError> {
    let options = RestoreOptions { in_place, threads: THREADS, ..RestoreOptions::new(free) };
    controlled(|control| restore(chain, target, &options, control))
}

/// Restores to a disk in memory that may have another size.
pub(crate) fn restore_to_other(
    chain: &Chain<Verified>,
    target: &MemoryDisk,
    free: FreePolicy,
    in_place: bool,
) -> Result<RestoreReport, RestoreError> {
    let options =
        RestoreOptions { in_place, threads: THREADS, other_size: OtherSize::Fit, ..RestoreOptions::new(free) };
    controlled(|control| restore(chain, target, &options, control))
}

/// Makes a layout from places and lengths in any order.
pub(crate) fn layout(disk: &[u8], mut pieces: Vec<(u64, u64)>) -> Layout {
    let len = ByteLen::of(disk);
    pieces.sort_unstable();
    let mut allocated: Vec<ByteRange> = Vec::new();
    let mut reached = 0;
    for (start, piece) in pieces {
        let (start, end) = (start.max(reached), start.saturating_add(piece).min(len.get()));
        if start < end {
            allocated.push(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(end - start) });
            reached = end;
        }
    }
    Layout::new(len, SectorSize::S512, allocated.into_iter().collect(), Vec::new()).unwrap()
}

/// A small generator of bytes that do not compress, the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// Captures what is allocated of a disk, restores it into garbage, and compares: allocated bytes are there, all others
/// are zero.
pub(crate) fn round_trip(disk: &Vec<u8>, bases: &[&Made]) -> Made {
    let survey = survey(disk, SurveyOptions::default()).unwrap();
    let layout = Layout::from_survey(ByteLen::of(disk), &survey).unwrap();
    let made = make(disk, &layout, bases, BlockSize::DEFAULT).unwrap();
    let images: Vec<&[u8]> = bases.iter().map(|base| base.image.as_slice()).collect();
    let chain = open(&made.image, &images).unwrap();
    let mut garbage = vec![0; disk.len()];
    Noise(0x5A5A_5A5A).fill(&mut garbage);
    let target = MemoryDisk::new(garbage);
    restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    let restored = target.content();
    let mut behind = 0;
    for range in layout.allocated().iter() {
        let start = usize::try_from(range.start.get()).unwrap();
        let end = start + range.len.to_usize().unwrap();
        assert!(restored[behind..start].iter().all(|byte| *byte == 0), "something is left from {behind} to {start}");
        assert!(restored[start..end] == disk[start..end], "{start} to {end} differs");
        behind = end;
    }
    assert!(restored[behind..].iter().all(|byte| *byte == 0));
    made
}

/// A disk of noise, text and zeros in stretches, the same for the same seed.
pub(crate) fn patchwork(len: usize, seed: u64) -> Vec<u8> {
    let mut noise = Noise(seed | 1);
    let mut disk = vec![0; len];
    let mut at = 0;
    while at < len {
        let end = (at + usize::try_from(noise.next() % 100_000).unwrap() + 1).min(len);
        match noise.next() % 4 {
            0 | 1 => {}
            2 => disk[at..end].iter_mut().zip((b'a'..=b'z').cycle()).for_each(|(byte, letter)| *byte = letter),
            _ => noise.fill(&mut disk[at..end]),
        }
        at = end;
    }
    disk
}
