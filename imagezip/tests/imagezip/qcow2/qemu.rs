//! QEMU's tools as makers and as judges.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use imagezip::foreign::qcow2::Disk;
use imagezip::io::ReadAt as _;
use sigs::ByteOffset;
use sigs::source::FileSource;

use super::model::write;
use super::{qemu_is_here, run};
use crate::command::ok;
use crate::support::patchwork;

/// Reads all of a qcow2 file.
fn read(path: &Path) -> Vec<u8> {
    let disk = Disk::open(Arc::new(FileSource::open(path).unwrap())).unwrap();
    let mut all = vec![1; disk.len().to_usize().unwrap()];
    disk.read_exact_at(&mut all, ByteOffset::ZERO).unwrap();
    all
}

#[test]
fn an_export_is_clean_and_identical_to_the_raw_one() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let disk = patchwork(9_000_100, 5);
    let mut changed = disk.clone();
    changed[3_000_000..3_200_000].copy_from_slice(&patchwork(200_000, 6));
    changed[5_000_000..5_500_000].fill(0);
    fs::write(at.join("a.img"), disk).unwrap();
    fs::write(at.join("b.img"), &changed).unwrap();
    ok(at, &["create", "a.img", "--out", "a.zdi", "--sig-out", "a.sig"]);
    let delta = ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    ok(at, &["export", "a.zdi", "b.zdi", "--format", "raw", "--to", "b.raw"]);
    for compress in [&[][..], &["--compress"]] {
        let export = ["export", "a.zdi", "b.zdi", "--format", "qcow2", "--to", "b.qcow2", "--force"];
        let arguments = [&export[..], compress].concat();
        let report = ok(at, &arguments);
        assert_eq!(report["root"], delta["root"]);
        assert_eq!(report["exported_disk_bytes"], 9_000_448, "a whole number of sectors of 512 bytes");
        assert_eq!(report["file_bytes"], fs::metadata(at.join("b.qcow2")).unwrap().len());
        assert!(run("qemu-img", at, &["check", "b.qcow2"]).contains("No errors were found"));
        run("qemu-img", at, &["compare", "-f", "qcow2", "-F", "raw", "b.qcow2", "b.raw"]);
        let mut padded = changed.clone();
        padded.resize(9_000_448, 0);
        assert!(read(&at.join("b.qcow2")) == padded);
    }
}

/// Small clusters make many tables, and refcount blocks in the way of compressed clusters.
#[test]
fn qemu_agrees_with_every_cluster_size() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (bits, len) in [(9, 2_000_000), (10, 3_000_000), (12, 6_000_000), (16, 3_000_300), (21, 5_000_000)] {
        let mut disk = patchwork(len, u64::from(bits));
        for zstd in [false, true] {
            fs::write(at.join("x.qcow2"), write(&disk, bits, zstd, 3)).unwrap();
            let said = run("qemu-img", at, &["check", "x.qcow2"]);
            assert!(said.contains("No errors were found"), "{bits} {zstd}: {said}");
            run("qemu-img", at, &["convert", "-O", "raw", "x.qcow2", "x.raw"]);
            disk.resize(len.next_multiple_of(512), 0);
            assert!(fs::read(at.join("x.raw")).unwrap() == disk, "{bits} {zstd}");
        }
    }
}

#[test]
fn what_qemu_writes_is_read() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut disk = patchwork(5_000_192, 9);
    fs::write(at.join("d.raw"), &disk).unwrap();
    let ways: &[&[&str]] = &[
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "preallocation=metadata"],
        &["-o", "preallocation=falloc,compat=0.10"],
        &["-c"],
        &["-c", "-o", "compat=0.10,cluster_size=4096"],
        &["-c", "-o", "cluster_size=512"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-o", "extended_l2=on,cluster_size=128k"],
        &["-c", "-o", "extended_l2=on,cluster_size=64k"],
    ];
    for way in ways {
        let arguments = [&["convert", "-f", "raw", "-O", "qcow2"], *way, &["d.raw", "d.qcow2"]].concat();
        run("qemu-img", at, &arguments);
        disk.resize(5_000_192, 0);
        assert!(read(&at.join("d.qcow2")) == disk, "{way:?}");
    }
}

#[test]
fn zero_clusters_and_parts_of_clusters_are_read_as_what_they_are() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for options in ["cluster_size=64k", "cluster_size=64k,extended_l2=on", "compat=0.10,cluster_size=64k"] {
        run("qemu-img", at, &["create", "-q", "-f", "qcow2", "-o", options, "z.qcow2", "8M"]);
        let script = [
            ("write -P 17 0 3M", "write -z 1M 512k"),
            ("write -P 18 5000k 100k", "write -z 5010k 6k"),
            ("write -z -u 2M 64k", "write -P 19 7M 2k"),
            ("write -P 20 7180k 2k", "discard 2200k 70k"),
            ("write -z 7169k 512", "write -P 21 8191k 1k"),
        ];
        for (first, second) in script {
            run("qemu-io", at, &["-f", "qcow2", "-c", first, "-c", second, "z.qcow2"]);
        }
        run("qemu-img", at, &["convert", "-O", "raw", "z.qcow2", "z.raw"]);
        assert!(read(&at.join("z.qcow2")) == fs::read(at.join("z.raw")).unwrap(), "{options}");
    }
}
