//! Damaged and malicious files: refused or read, never a panic, never without bounds.

use std::sync::Arc;

use imagezip::foreign::qcow2::{Disk, OpenError, Refused};
use imagezip::io::ReadAt as _;
use sigs::ByteOffset;

use super::model::write;
use crate::support::{Noise, patchwork};

fn open(file: &[u8]) -> Result<Disk, OpenError> {
    Disk::open(Arc::new(file.to_vec()))
}

fn refusal(file: &[u8]) -> Refused {
    match open(file) {
        Err(OpenError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

fn long(file: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(file[at..at + 8].try_into().unwrap())
}

fn put_long(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

fn sample() -> Vec<u8> {
    write(&patchwork(1_000_000, 4), 12, true, 8)
}

/// Changes the header of a sample at a place.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = sample();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let features = |bits: u64| with(72, &(bits | 8).to_be_bytes());
    assert_eq!(refusal(&features(1)), Refused::Dirty);
    assert_eq!(refusal(&features(2)), Refused::Corrupt);
    assert_eq!(refusal(&features(4)), Refused::DataFile);
    assert_eq!(refusal(&features(1 << 40)), Refused::Features(1 << 40 | 8));
    assert_eq!(refusal(&with(104, &[9])), Refused::Compression(9));
    assert!(matches!(refusal(&with(104, &[0])), Refused::Header(_)), "the feature bit says otherwise");
    assert_eq!(refusal(&with(32, &[0, 0, 0, 2])), Refused::Encrypted);
    assert_eq!(refusal(&with(8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9])), Refused::BackingFile);
    assert_eq!(refusal(&with(0, b"QFI\xfa")), Refused::Magic);
    assert_eq!(refusal(&with(4, &[0, 0, 0, 4])), Refused::Version(4));
    assert!(matches!(refusal(&with(20, &[0, 0, 0, 40])), Refused::Header(_)));
    assert!(matches!(refusal(&with(20, &[0, 0, 0, 8])), Refused::Header(_)));
    assert!(matches!(refusal(&with(36, &[0, 0, 0, 0])), Refused::Header(_)), "an L1 table that is too short");
    assert_eq!(refusal(&with(24, &u64::MAX.to_be_bytes())), Refused::DiskSize(u64::MAX));
    assert_eq!(refusal(&with(40, &(1_u64 << 50).to_be_bytes())), Refused::Table(1 << 50));
    assert_eq!(refusal(&with(40, &[0, 0, 0, 0, 0, 0, 0x10, 8])), Refused::Table(0x1008));
    assert_eq!(refusal(b"QFI\xfb"), Refused::Short);
}

#[test]
fn a_file_that_is_cut_short_is_refused_when_it_is_opened() {
    let file = sample();
    let l1 = usize::try_from(long(&file, 40)).unwrap();
    for len in [4, 71, 100, 4096, l1 - 4096, l1, l1 + 7] {
        assert!(open(&file[..len]).is_err(), "{len} bytes");
    }
}

/// A few clusters named over and over would make a disk of terabytes out of a small file.
#[test]
fn clusters_that_are_named_again_and_again_are_refused() {
    let file = sample();
    let l1 = usize::try_from(long(&file, 40)).unwrap();
    let l2 = usize::try_from(long(&file, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    let plain = (0..512).map(|at| long(&file, l2 + at * 8)).find(|entry| *entry >> 62 == 2).unwrap();
    let packed = (0..512).map(|at| long(&file, l2 + at * 8)).find(|entry| *entry >> 62 == 1).unwrap();
    for entry in [plain, packed] {
        let mut bomb = file.clone();
        // As large as the L1 table can make it, and all of it the same table.
        put_long(&mut bomb, 24, 512 * 4096 * 512);
        bomb[36..40].copy_from_slice(&512_u32.to_be_bytes());
        let table = long(&file, l1);
        (0..512).for_each(|at| put_long(&mut bomb, l1 + at * 8, table));
        assert_eq!(refusal(&bomb), Refused::UsedTwice);
        // One table, all of whose entries are the same.
        let mut same = file.clone();
        (0..512).for_each(|at| put_long(&mut same, l2 + at * 8, entry));
        let opened = open(&same);
        assert!(entry == packed || matches!(opened, Err(OpenError::Refused(Refused::UsedTwice))), "{opened:?}");
    }
}

#[test]
fn any_bit_may_be_wrong() {
    let file = sample();
    let l1 = usize::try_from(long(&file, 40)).unwrap();
    let l2 = usize::try_from(long(&file, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    let mut noise = Noise(77);
    let mut refused = 0;
    for round in 0..1200 {
        let mut damaged = file.clone();
        let place = usize::try_from(noise.next()).unwrap();
        let at = match round % 4 {
            0 => place % 112,
            1 => l1 + place % 16,
            2 => l2 + place % 2048,
            _ => place % file.len(),
        };
        damaged[at] ^= 1 << (noise.next() % 8);
        let Ok(disk) = open(&damaged) else {
            refused += 1;
            continue;
        };
        // A header that says another size is a disk of that size.
        let mut piece = vec![0; disk.len().get().min(1 << 20).try_into().unwrap()];
        drop(disk.read_exact_at(&mut piece, ByteOffset::ZERO));
    }
    assert!(refused > 400, "only {refused} of 1200 were refused");
}
