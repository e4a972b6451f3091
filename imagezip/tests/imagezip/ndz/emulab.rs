//! What Emulab's imagezip wrote, expanded, captured and restored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imagezip::foreign::ndz::{Disk, Options, Version};
use imagezip::io::ReadAt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sigs::ByteOffset;

use crate::command::{fails, ok};

const DISK: &str = "2cfff73406d980a42f6d324d217fd396f849f8d48ce9c70ae0ef78f763cd74d6";
const FILE_SYSTEM: &str = "88560a502ae839ea26d392f0bd0281ef505e83172b92509b68f8deb74f77e1a9";
const DISK_BYTES: u64 = 48 << 20;

pub(super) fn image(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ndz");
    let packed = fs::read(folder.join(format!("{name}.ndz.zst"))).unwrap();
    zstd::stream::decode_all(&packed[..]).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Imports a file in `folder`, restores the image, and returns the root and what was restored.
fn there_and_back(folder: &Path, arguments: &[&str]) -> (Value, Vec<u8>) {
    let import = [&["import", "x.ndz", "--out", "x.zdi", "--sig-out", "x.sig", "--force"], arguments].concat();
    let made = ok(folder, &import);
    assert_eq!(ok(folder, &["verify", "x.zdi"])["root"], made["root"]);
    ok(folder, &["restore", "x.zdi", "--to", "x.img"]);
    let restored = fs::read(folder.join("x.img")).unwrap();
    fs::remove_file(folder.join("x.img")).unwrap();
    (made["root"].clone(), restored)
}

#[test]
fn every_version_of_the_whole_disk_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut roots = Vec::new();
    for (name, version) in [("disk-v1", Version::V1), ("disk-v3", Version::V3), ("disk-v4", Version::V4)] {
        let image = image(name);
        let disk = Disk::open(Arc::new(image.clone()), Options::default()).unwrap();
        assert_eq!(disk.summary().version, version);
        assert_eq!(disk.summary().chunks, 2);
        // As far as the partition table reaches: version 1 does not say how far that is, and Emulab's tool stops before.
        assert_eq!(disk.len().get(), 83968 * 512);
        let allocated: u64 = disk.layout().unwrap().allocated().iter().map(|range| range.len.get()).sum();
        assert_eq!(allocated, 2_986_496 + 2_277_888, "the regions and nothing else");
        fs::write(folder.path().join("x.ndz"), image).unwrap();
        let (root, mut restored) = there_and_back(folder.path(), &[]);
        roots.push(root);
        restored.resize(usize::try_from(DISK_BYTES).unwrap(), 0);
        assert_eq!(sha256(&restored), DISK, "{name}");
        let (_, restored) = there_and_back(folder.path(), &["--disk-bytes", &DISK_BYTES.to_string()]);
        assert_eq!(sha256(&restored), DISK, "{name} of its true size");
    }
    assert_eq!(roots[0], "6e5bf38ebc4442a05796aae41bdd651c39210748fc612be1dd720aac1cd5af47");
    assert!(roots.iter().all(|root| *root == roots[0]), "one state, whatever the version: {roots:?}");
}

#[test]
fn a_slice_is_a_bare_file_system() {
    let folder = tempfile::tempdir().unwrap();
    for (name, free) in [("slice1-v3", true), ("raw-v3", false)] {
        fs::write(folder.path().join("x.ndz"), image(name)).unwrap();
        let (_, restored) = there_and_back(folder.path(), &[]);
        assert_eq!(sha256(&restored), FILE_SYSTEM, "{name}");
        let info = ok(folder.path(), &["info", "x.zdi"]);
        assert_eq!(info["manifest"]["counts"]["free"] != 0, free, "{name}");
        // Without Emulab's word on what is free, both are the same state.
        ok(folder.path(), &["import", "x.ndz", "--raw", "--out", "raw.zdi", "--force"]);
        let info = ok(folder.path(), &["info", "raw.zdi"]);
        assert_eq!(info["manifest"]["target_root"], "37b702b64a556dfdc42167481202504878d235d83198c348fd66663b93dd915e");
    }
}

#[test]
fn a_delta_against_another_image_of_the_disk_is_almost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.ndz"), image("disk-v1")).unwrap();
    fs::write(at.join("b.ndz"), image("disk-v4")).unwrap();
    ok(at, &["import", "a.ndz", "--out", "a.zdi", "--sig-out", "a.sig"]);
    let delta = ok(at, &["import", "b.ndz", "--base", "a.sig", "--out", "b.zdi", "--format", "ndz"]);
    assert_eq!((&delta["kind"], &delta["stored_blocks"]), (&"delta".into(), &0.into()));
}

/// Emulab's imageunzip takes such a file for a whole image and exits with 0.
#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in ["disk-v1", "disk-v3", "slice1-v3"] {
        let whole = image(name);
        for len in [0, 3, 4000, 500_000, 1 << 20, (1 << 20) + 10, (1 << 20) + 4096 + 100_000] {
            fs::write(at.join("x.ndz"), &whole[..len]).unwrap();
            let message = fails(at, &["import", "x.ndz", "--format", "ndz", "--out", "x.zdi"], 7);
            let named = ["cut short", "it is empty"].iter().any(|words| message.contains(words));
            assert!(named, "{name} {len}: {message}");
        }
    }
}

#[test]
fn padding_that_is_missing_behind_the_last_chunk_is_not_missed() {
    let whole = image("slice1-v3");
    let stored = (1 << 20) + 4096 + 396_196;
    let expand = |image: &[u8]| {
        let disk = Disk::open(Arc::new(image.to_vec()), Options::default()).ok()?;
        let mut all = vec![0; disk.len().to_usize().unwrap()];
        disk.read_exact_at(&mut all, ByteOffset::ZERO).unwrap();
        Some(sha256(&all))
    };
    assert_eq!(expand(&whole[..stored]).unwrap(), FILE_SYSTEM);
    assert!(expand(&whole[..stored - 1]).is_none());
}

#[test]
fn what_cannot_be_meant_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("x.ndz"), image("disk-v3")).unwrap();
    fs::write(at.join("x.raw"), vec![1; 10_000]).unwrap();
    let message = fails(at, &["import", "x.ndz", "--disk-bytes", "1000000", "--out", "x.zdi"], 1);
    assert!(message.contains("cannot hold"), "{message}");
    fails(at, &["import", "x.raw", "--disk-bytes", "1000000", "--out", "x.zdi"], 2);
    fails(at, &["import", "x.raw", "--format", "ndz", "--out", "x.zdi"], 7);
    fails(at, &["import", "x.raw", "--format", "qcow2", "--out", "x.zdi"], 7);
    fails(at, &["import", "x.raw", "--out", "x.raw"], 2);
    fails(at, &["import", "absent", "--out", "x.zdi"], 4);
    let made = ok(at, &["import", "x.ndz", "--format", "raw", "--out", "y.zdi"]);
    assert_eq!(made["scanned_bytes"], 2 << 20, "the file itself, not what it holds");
}
