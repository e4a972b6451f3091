//! What an image file is.

use std::fs;
use std::time::{Duration, Instant};

use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen, ByteOffset, ByteRange, SectorSize};

use super::disks::{MIB, comes_back, ext4, folder, noise, restored, save};
use crate::command::{fails, ok};
use crate::support::{layout, make, open, restore_to};

#[test]
fn a_million_ranges_are_planned_at_once() {
    let begin = Instant::now();
    let range = |index: u64| ByteRange { start: ByteOffset::new(index * 8192), len: ByteLen::new(4096) };
    let ranges = (0..1_000_000).map(range).collect();
    let layout = Layout::new(ByteLen::new(8192 * 1_000_000), SectorSize::S512, ranges, Vec::new()).unwrap();
    assert_eq!(layout.allocated_bytes().get(), 4096 * 1_000_000);
    assert_eq!(layout.allocated().within(range(999_999)).count(), 1);
    // Ten times the number that took half an hour, in a build that is not optimised.
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = folder("a.img", &noise(5 * MIB, 1));
    let at = folder.path();
    save(at, "a");
    let whole = fs::read(at.join("a.zdi")).unwrap();
    fs::write(at.join("target.img"), vec![9; 5 * MIB]).unwrap();
    // A frame is at most 1 MiB, so these are near its borders, in frames, and in what comes behind them.
    for len in
        [0, 1, 63, 64, MIB + 64, 2 * MIB + 64, 3 * MIB + 17, whole.len() - 1000, whole.len() - 64, whole.len() - 1]
    {
        fs::write(at.join("cut.zdi"), &whole[..len]).unwrap();
        fails(at, &["restore", "cut.zdi", "--to", "target.img"], 7);
        fails(at, &["verify", "cut.zdi"], 7);
    }
    assert_eq!(fs::read(at.join("target.img")).unwrap(), vec![9; 5 * MIB], "nothing was written");
}

#[test]
fn every_flipped_bit_is_found_by_sha256() {
    let folder = folder("a.img", &noise(MIB, 2));
    let at = folder.path();
    save(at, "a");
    assert_eq!(ok(at, &["info", "a.zdi"])["manifest"]["hash"], "sha256");
    let whole = fs::read(at.join("a.zdi")).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bad = whole.clone();
        bad[place] ^= 0x10;
        fs::write(at.join("bad.zdi"), bad).unwrap();
        fails(at, &["verify", "bad.zdi"], 7);
    }
}

#[test]
fn a_chunk_has_as_many_ranges_as_it_likes() {
    // 1024 of them in each MiB, where 469 were the most.
    let disk = noise(2 * MIB, 3);
    let pieces = (0..4096).step_by(2).map(|piece| (piece * 512, 512)).collect();
    let made = make(&disk, &layout(&disk, pieces), &[], BlockSize::new(512).unwrap()).unwrap();
    let target = MemoryDisk::new(vec![1; disk.len()]);
    restore_to(&open(&made.image, &[]).unwrap(), &target, FreePolicy::Zero, false).unwrap();
    for (piece, (found, wanted)) in target.content().chunks(512).zip(disk.chunks(512)).enumerate() {
        assert!(if piece % 2 == 0 { found == wanted } else { found == [0; 512] }, "{piece}");
    }
}

#[test]
fn any_length_comes_back() {
    for len in [1, 511, 512, 513, 4095, 4097, 1_000_000, MIB + 1] {
        comes_back(&noise(len, 4));
    }
}

#[test]
fn an_image_says_what_it_is() {
    let folder = folder("a.img", &ext4(16, &[]));
    let at = folder.path();
    save(at, "a");
    let info = ok(at, &["info", "a.zdi"]);
    let manifest = &info["manifest"];
    assert_eq!(manifest["kind"], "full");
    assert_eq!(manifest["partitions"][0]["content"], "ext4");
    assert_eq!(manifest["geometry"]["disk_bytes"], 16 * MIB);
}

#[test]
fn a_failed_run_leaves_no_file() {
    let folder = folder("a.img", &noise(MIB, 5));
    let at = folder.path();
    save(at, "a");
    let good = fs::read(at.join("a.zdi")).unwrap();
    // A base that is none: the image that is there stays.
    fails(at, &["create", "a.img", "--out", "a.zdi", "--base", "a.img"], 7);
    assert_eq!(fs::read(at.join("a.zdi")).unwrap(), good);
    fails(at, &["create", "a.img", "--out", "new.zdi", "--base", "a.img"], 7);
    assert!(restored(at, &["a.zdi"]) == noise(MIB, 5));
}
