//! Bytes that lie: never a panic, and never less allocated than there is.

use std::ops::Range;

use super::volume::{MIB, Volume};
use crate::alloc::tools::{Pairs, covers, pairs, survey_of};

/// Damages bytes one after the other; returns how often the answer was the same, or more, and how often it was "all".
fn damage(disk: &[u8], places: impl Iterator<Item = usize>, flips: &[u8]) -> (u32, u32) {
    let mut owned = disk.to_vec();
    let truth: Pairs = pairs(survey_of(&owned).allocated.iter());
    let everything = vec![(0, u64::try_from(disk.len()).unwrap())];
    assert_ne!(truth, everything);
    let (mut more, mut whole) = (0, 0);
    for at in places {
        for flip in flips {
            owned[at] ^= flip;
            let found: Pairs = pairs(survey_of(&owned).allocated.iter());
            owned[at] ^= flip;
            if found == everything {
                whole += 1;
            } else {
                assert!(covers(&found, &truth), "byte {at} with {flip:#x}");
                more += 1;
            }
        }
    }
    (more, whole)
}

/// What decides what is free: the four headers of each group, and the trees behind them.
fn metadata(group_bytes: usize, groups: usize, block: usize) -> Vec<Range<usize>> {
    (0..groups)
        .flat_map(|group| {
            let start = group * group_bytes;
            // The roots of the trees by block and by size are in the first blocks behind the headers.
            [start..start + 4 * 512, start + block..start + block + 128, start + 2 * block..start + 2 * block + 128]
        })
        .collect()
}

#[test]
fn one_damaged_byte_is_noticed_with_checksums() {
    let volume = Volume::new(32 * MIB, &["-d", "agcount=2"]);
    let disk = volume.bytes();
    let places = metadata(16 << 20, 2, 4096).into_iter().flatten();
    let (more, whole) = damage(&disk, places, &[0x01, 0xFF]);
    assert!(more == 0 && whole > 9000, "same or more {more}, whole {whole}");
}

#[test]
fn one_damaged_byte_does_no_harm_without_checksums() {
    let volume = Volume::new(32 * MIB, &["-d", "agcount=2", "-m", "crc=0"]);
    let disk = volume.bytes();
    let places = metadata(16 << 20, 2, 4096).into_iter().flatten();
    let (more, whole) = damage(&disk, places, &[0x01, 0x10, 0x80, 0xFF]);
    assert!(more > 0 && whole > 500, "same or more {more}, whole {whole}");
}

/// A lie about the length, the order or the shape of a tree, with everything else put right.
#[test]
fn trees_that_lie_are_whole() {
    let volume = Volume::new(32 * MIB, &["-d", "agcount=2", "-m", "crc=0"]);
    let disk = volume.bytes();
    let root = 4096;
    let lies: &[(usize, &[u8])] = &[
        (root + 6, &[0xFF, 0xFF]),             // more records than fit
        (root + 6, &[0, 0]),                   // none
        (root + 4, &[0, 1]),                   // a level that is not there
        (root + 8, &[0, 0, 0, 1]),             // itself as its neighbour
        (512 + 16, &[0, 0, 0, 2]),             // the other tree
        (512 + 16, &[0x7F, 0xFF, 0xFF, 0xFF]), // outside
        (512 + 28, &[0, 0, 0, 5]),             // higher
        (512 + 28, &[0xFF, 0xFF, 0xFF, 0xFF]), // much higher
        (512 + 52, &[0, 0, 0, 7]),             // another count
        (88, &[0xFF, 0xFF, 0xFF, 0xFF]),       // more groups
        (96, &[0xFF, 0xFF, 0xFF, 0xFF]),       // a log without end
    ];
    let everything = vec![(0, 32 * MIB)];
    for (at, bytes) in lies {
        let mut disk = disk.clone();
        disk[*at..*at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(pairs(survey_of(&disk).allocated.iter()), everything, "byte {at}: {bytes:?}");
    }
}
