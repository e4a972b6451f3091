//! An image that reads like a disk gives the bytes a restore would write, at every place.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::io::ErrorKind;
use std::sync::Arc;

use imagezip::image::{Chain, ImageDisk, Verified};
use imagezip::io::ReadAt;
use imagezip::io::fake::MemoryDisk;
use imagezip::restore::FreePolicy;
use proptest::prelude::*;
use sigs::ByteOffset;

use crate::damage::pair;
use crate::round_trip::case;
use crate::support::{Noise, make_whole, open, restore_to};

/// What a restore onto zeros writes.
fn restored(chain: &Chain<Verified>) -> Vec<u8> {
    let target = MemoryDisk::new(vec![0; chain.geometry().disk_bytes.to_usize().unwrap()]);
    restore_to(chain, &target, FreePolicy::Zero, false).unwrap();
    target.content()
}

/// Reads windows of all lengths at all kinds of places, from several threads.
fn check(disk: &ImageDisk, wanted: &[u8], seed: u64) {
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            scope.spawn(move || {
                let mut noise = Noise((seed ^ thread) | 1);
                let len = wanted.len();
                for _ in 0..60 {
                    let most = [9, 5000, 100_000, 3 << 20][usize::try_from(noise.next() % 4).unwrap()];
                    let start = usize::try_from(noise.next()).unwrap() % (len + 1);
                    let take = usize::try_from(noise.next()).unwrap() % most;
                    let end = (start + take).min(len);
                    let mut buf = vec![0xee; end - start];
                    disk.read_exact_at(&mut buf, ByteOffset::new(u64::try_from(start).unwrap())).unwrap();
                    assert!(buf == wanted[start..end], "{start}..{end} of {len}");
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_window_is_what_a_restore_writes((first, second) in case(), seed: u64, frames in 1_usize..4) {
        let base = first.make(&[]);
        let delta = second.make(&[&base]);
        for chain in [open(&base.image, &[]).unwrap(), open(&delta.image, &[&base.image]).unwrap()] {
            let wanted = restored(&chain);
            let disk = ImageDisk::with_cache(Arc::new(chain), frames);
            prop_assert_eq!(disk.len().to_usize(), Some(wanted.len()));
            check(&disk, &wanted, seed);
        }
    }

    #[test]
    fn its_layout_is_what_is_not_free((first, second) in case()) {
        let base = first.make(&[]);
        let delta = second.make(&[&base]);
        let disk = ImageDisk::new(Arc::new(open(&delta.image, &[&base.image]).unwrap()));
        let layout = disk.layout().unwrap();
        let size = second.block_size.as_usize();
        for (index, block) in second.model().into_iter().enumerate() {
            let start = u64::try_from(index * size).unwrap();
            let inside = layout.allocated().iter().any(|range| {
                range.start.get() <= start && start < range.checked_end().unwrap().get()
            });
            prop_assert_eq!(inside, block.is_some(), "block {}", index);
        }
    }
}

#[test]
fn past_the_end_there_is_nothing() {
    let (disk, _) = pair();
    let made = make_whole(&disk, &[]);
    let image = ImageDisk::new(Arc::new(open(&made.image, &[]).unwrap()));
    let len = image.len().get();
    image.read_exact_at(&mut [], ByteOffset::new(len)).unwrap();
    image.read_exact_at(&mut [], ByteOffset::ZERO).unwrap();
    for (offset, take) in [(len, 1), (len - 1, 2), (u64::MAX, 1), (len + 1, 0)] {
        let error = image.read_exact_at(&mut vec![0; take], ByteOffset::new(offset)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{take} bytes at {offset}");
    }
}
