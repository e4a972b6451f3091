//! The files of format version 1 in `docs/formats/golden`, which every later version reads.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::PathBuf;

use imagezip::io::fake::MemoryDisk;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, Signature};

use crate::support::{Made, layout, make, open, restore_to};

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

fn made() -> (Made, Made) {
    let (first, second) = (base_disk(), delta_disk());
    let base = make(&first, &layout(&first, pieces()), &[], BlockSize::DEFAULT).unwrap();
    let delta = make(&second, &layout(&second, pieces()), &[&base], BlockSize::DEFAULT).unwrap();
    (base, delta)
}

#[test]
fn golden_files_are_read_and_still_mean_the_same() {
    let (base, delta) = made();
    if std::env::var_os("EBB_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(golden("")).unwrap();
        fs::write(golden("base.zdi"), &base.image).unwrap();
        fs::write(golden("base.sig"), &base.signature).unwrap();
        fs::write(golden("delta.zdi"), &delta.image).unwrap();
        fs::write(golden("delta.sig"), &delta.signature).unwrap();
    }
    let read = |name| fs::read(golden(name)).unwrap();
    assert_eq!(read("base.sig"), base.signature, "signatures have one encoding");
    assert_eq!(read("delta.sig"), delta.signature);
    let root = |name| Signature::open(read(name)).unwrap().root();
    assert_eq!(root("base.sig"), base.captured.target_root);
    let chain = open(&read("delta.zdi"), &[&read("base.zdi")]).unwrap();
    assert_eq!(chain.manifest().target_root, root("delta.sig"));
    let target = MemoryDisk::new(vec![0; base_disk().len()]);
    restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    assert!(target.content() == delta_disk());
}
