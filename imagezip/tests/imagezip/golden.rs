//! The files of all format versions in `docs/formats/golden`, which every later version reads.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::PathBuf;

use imagezip::capture::{BadSectors, CaptureOptions};
use imagezip::io::fake::MemoryDisk;
use imagezip::restore::{FreePolicy, Verdict};
use sigs::manifest::ManifestFormat;
use sigs::{BlockSize, ByteLen, ByteOffset, ByteRange, Root, Signature};

use crate::support::{Made, layout, make, make_from, open, restore_to};

/// The disk of the base: 1 MiB and a bit, with text, zeros and a free hole.
fn base_disk() -> Vec<u8> {
    let mut disk = vec![0; (1 << 20) + 1000];
    for (index, line) in disk[..200_000].chunks_mut(16).enumerate() {
        let text = format!("golden {index:08}\n");
        let len = line.len();
        line.copy_from_slice(&text.as_bytes()[..len]);
    }
    disk[1 << 20..].fill(b'e');
    disk
}

/// The disk of the delta: some blocks changed, one became zeros.
fn delta_disk() -> Vec<u8> {
    let mut disk = base_disk();
    disk[40_000..50_000].fill(b'd');
    disk[100_000..110_000].fill(0);
    disk[600_000..600_100].fill(b'n');
    disk
}

/// Both: allocated but for one hole that is no whole number of blocks.
fn pieces() -> Vec<(u64, u64)> {
    vec![(0, 700_000), (900_100, 1 << 20)]
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/golden").join(name)
}

/// Sectors of the delta's disk that cannot be read, in the images of version 2 that are incomplete.
fn bad_sectors() -> Vec<ByteRange> {
    let range = |start, len| ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) };
    vec![range(40_960, 1024), range(1 << 20, 512)]
}

fn made() -> [Made; 3] {
    let (first, second) = (base_disk(), delta_disk());
    let base = make(&first, &layout(&first, pieces()), &[], BlockSize::DEFAULT).unwrap();
    let delta = make(&second, &layout(&second, pieces()), &[&base], BlockSize::DEFAULT).unwrap();
    let failing = MemoryDisk::new(second.clone());
    bad_sectors().into_iter().for_each(|range| failing.fail_reads(range, None));
    let options = CaptureOptions { bad_sectors: BadSectors::List { most: 3 }, ..CaptureOptions::default() };
    let incomplete = make_from(&failing, &layout(&second, pieces()), &[&base], options).unwrap();
    [base, delta, incomplete]
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    fs::read(golden(name)).unwrap()
}

fn root(name: &str) -> Root {
    Signature::open(read(name)).unwrap().root()
}

fn restored(image: &str, base: &str) -> (Vec<u8>, Verdict) {
    let chain = open(&read(image), &[&read(base)]).unwrap();
    let target = MemoryDisk::new(vec![0; base_disk().len()]);
    let report = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    (target.content(), report.verdict)
}

#[test]
fn golden_files_of_version_1_are_read_and_still_mean_the_same() {
    let [base, delta, _] = made();
    assert_eq!(read("base.sig"), base.signature, "signatures have one encoding");
    assert_eq!(read("delta.sig"), delta.signature);
    assert_eq!(root("base.sig"), base.captured.target_root);
    let chain = open(&read("delta.zdi"), &[&read("base.zdi")]).unwrap();
    assert_eq!(chain.manifest().format, ManifestFormat::V1);
    assert!(chain.manifest().is_complete());
    assert_eq!(chain.manifest().target_root, root("delta.sig"));
    assert_eq!(restored("delta.zdi", "base.zdi"), (delta_disk(), Verdict::Identical));
}

#[test]
fn golden_files_of_version_2_are_read_and_still_mean_the_same() {
    let [base, delta, incomplete] = made();
    if std::env::var_os("EBB_WRITE_GOLDEN").is_some() {
        fs::write(golden("v2-base.zdi"), &base.image).unwrap();
        fs::write(golden("v2-delta.zdi"), &delta.image).unwrap();
        fs::write(golden("v2-incomplete.zdi"), &incomplete.image).unwrap();
    }
    for base in ["base.zdi", "v2-base.zdi"] {
        assert_eq!(restored("v2-delta.zdi", base), (delta_disk(), Verdict::Identical));
        let mut zeroed = delta_disk();
        zeroed[40_960..41_984].fill(0);
        zeroed[1 << 20..(1 << 20) + 512].fill(0);
        assert_eq!(restored("v2-incomplete.zdi", base), (zeroed, Verdict::Incomplete));
    }
    assert_eq!(restored("delta.zdi", "v2-base.zdi"), (delta_disk(), Verdict::Identical));
    let chain = open(&read("v2-delta.zdi"), &[&read("v2-base.zdi")]).unwrap();
    assert_eq!(chain.manifest().format, ManifestFormat::V2);
    assert_eq!(chain.manifest().target_root, root("delta.sig"));
    assert_eq!(chain.manifest().map, delta.captured.manifest.map, "maps have one encoding");
    let chain = open(&read("v2-incomplete.zdi"), &[&read("v2-base.zdi")]).unwrap();
    assert_eq!(chain.manifest().bad_sectors(), bad_sectors());
}
