//! qcow2 files imported: the state is that of the disk, whatever it was wrapped in.

use std::fs;
use std::path::Path;

use super::{qemu_is_here, run};
use crate::command::{fails, ok};

/// Makes an ext4 file system with files and free space in `disk.raw`.
fn file_system(folder: &Path) {
    let files = folder.join("files");
    fs::create_dir(&files).unwrap();
    for number in 0..40_usize {
        fs::write(files.join(format!("file{number}")), format!("{number} ").repeat(number * 900)).unwrap();
    }
    fs::File::create(folder.join("disk.raw")).unwrap().set_len(40 << 20).unwrap();
    let tool = if Path::new("/sbin/mke2fs").exists() { "/sbin/mke2fs" } else { "mke2fs" };
    run(tool, folder, &["-q", "-F", "-t", "ext4", "-d", "files", "disk.raw"]);
}

#[test]
fn the_state_is_that_of_the_raw_disk() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    file_system(at);
    let raw = ok(at, &["create", "disk.raw", "--out", "raw.zdi", "--sig-out", "raw.sig"]);
    assert!(raw["counts"]["free"].as_u64().unwrap() > 1000, "the survey was believed: {raw}");
    assert_eq!(ok(at, &["import", "disk.raw", "--out", "same.zdi"])["root"], raw["root"]);
    let ways: &[&[&str]] = &[
        &[],
        &["-c"],
        &["-o", "compat=0.10,cluster_size=4k"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-o", "preallocation=full"],
        &["-o", "extended_l2=on,cluster_size=16k"],
    ];
    for way in ways {
        run("qemu-img", at, &[&["convert", "-f", "raw", "-O", "qcow2"], *way, &["disk.raw", "x.qcow2"]].concat());
        let made = ok(at, &["import", "x.qcow2", "--out", "x.zdi", "--sig-out", "x.sig", "--force"]);
        assert_eq!(made["root"], raw["root"], "{way:?}");
        assert_eq!(fs::read(at.join("x.sig")).unwrap(), fs::read(at.join("raw.sig")).unwrap());
    }
    let delta = ok(at, &["import", "x.qcow2", "--base", "raw.sig", "--out", "d.zdi"]);
    assert_eq!((&delta["kind"], &delta["stored_blocks"]), (&"delta".into(), &0.into()));
    let whole = ok(at, &["import", "x.qcow2", "--raw", "--out", "w.zdi"]);
    assert_eq!(whole["root"], ok(at, &["create", "disk.raw", "--raw", "--out", "w2.zdi"])["root"]);
    // Around once: what was exported is imported as the same state.
    ok(at, &["export", "raw.zdi", "--format", "qcow2", "--compress", "--to", "out.qcow2"]);
    assert_eq!(ok(at, &["import", "out.qcow2", "--out", "out.zdi"])["root"], raw["root"]);
    assert_eq!(ok(at, &["verify", "out.zdi", "--against", "disk.raw"])["ok"], true);
}

#[test]
fn what_was_not_there_when_a_snapshot_was_taken_counts() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run("qemu-img", at, &["create", "-q", "-f", "qcow2", "s.qcow2", "4M"]);
    run("qemu-io", at, &["-f", "qcow2", "-c", "write -P 1 0 2M", "s.qcow2"]);
    run("qemu-img", at, &["snapshot", "-c", "before", "s.qcow2"]);
    run("qemu-io", at, &["-f", "qcow2", "-c", "write -P 2 1M 2M", "s.qcow2"]);
    run("qemu-img", at, &["convert", "-O", "raw", "s.qcow2", "s.raw"]);
    let made = ok(at, &["import", "s.qcow2", "--out", "s.zdi"]);
    assert_eq!(made["root"], ok(at, &["create", "s.raw", "--out", "r.zdi"])["root"]);
}

#[test]
fn a_file_that_names_another_is_refused_and_the_other_not_read() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("secret"), vec![7; 1 << 20]).unwrap();
    run("qemu-img", at, &["create", "-q", "-f", "qcow2", "-b", "secret", "-F", "raw", "over.qcow2"]);
    let message = fails(at, &["import", "over.qcow2", "--out", "x.zdi"], 1);
    assert!(message.contains("backing file") && message.contains("qemu-img convert"), "{message}");
    let options = "data_file=secret2,data_file_raw=on";
    run("qemu-img", at, &["create", "-q", "-f", "qcow2", "-o", options, "data.qcow2", "1M"]);
    let message = fails(at, &["import", "data.qcow2", "--out", "x.zdi"], 1);
    assert!(message.contains("another file"), "{message}");
    let secret =
        ["--object", "secret,id=s,data=ab", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    run("qemu-img", at, &[&["create", "-q", "-f", "qcow2"], &secret[..], &["luks.qcow2", "1M"]].concat());
    let message = fails(at, &["import", "luks.qcow2", "--out", "x.zdi"], 1);
    assert!(message.contains("encrypted"), "{message}");
}

#[test]
fn a_file_that_is_cut_short_or_damaged_leaves_no_image() {
    if !qemu_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run("qemu-img", at, &["create", "-q", "-f", "qcow2", "x.qcow2", "4M"]);
    run("qemu-io", at, &["-f", "qcow2", "-c", "write -P 1 0 4M", "x.qcow2"]);
    let whole = fs::read(at.join("x.qcow2")).unwrap();
    fs::write(at.join("x.qcow2"), &whole[..whole.len() - 65536]).unwrap();
    let message = fails(at, &["import", "x.qcow2", "--out", "x.zdi"], 7);
    assert!(message.contains("cut short"), "{message}");
    // Damage inside a compressed cluster shows when it is expanded, after the image was begun.
    fs::write(at.join("x.raw"), crate::support::patchwork(2 << 20, 1)).unwrap();
    let options = "compression_type=zstd";
    run("qemu-img", at, &["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "x.raw", "y.qcow2"]);
    let mut damaged = fs::read(at.join("y.qcow2")).unwrap();
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    let frame = damaged.windows(4).position(|bytes| bytes == magic).unwrap();
    damaged[frame] ^= 1;
    fs::write(at.join("y.qcow2"), damaged).unwrap();
    let message = fails(at, &["import", "y.qcow2", "--out", "x.zdi"], 7);
    assert!(message.contains("compressed cluster is damaged"), "{message}");
}
