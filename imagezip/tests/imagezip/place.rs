//! Comparison is by place on the disk, never by today's partition table: tables that changed since the base was made.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::ok;
use crate::support::{Made, Noise, round_trip};

const MIB: usize = 1 << 20;

fn tool(program: &str, arguments: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `sfdisk` with a script on a file.
fn sfdisk(disk: &Path, arguments: &str, script: &str) {
    let command = format!("printf '{script}' | sfdisk -q -w always {arguments} {}", disk.display());
    tool("sh", &["-c", &command]);
}

/// Makes an ext4 file system of some MiB in a file, with 6 MiB in it.
fn ext4(path: &Path, mib: usize) {
    fs::write(path, vec![0; mib * MIB]).unwrap();
    let tree = path.with_extension("tree");
    fs::create_dir_all(&tree).unwrap();
    let mut noise = Noise(11);
    for number in 0..12 {
        let mut content = vec![0; MIB / 2];
        noise.fill(&mut content);
        fs::write(tree.join(format!("file{number}")), content).unwrap();
    }
    tool("mke2fs", &["-q", "-F", "-t", "ext4", "-d", &tree.display().to_string(), &path.display().to_string()]);
}

/// Puts a file system in a disk, at 2 MiB.
fn put(disk: &Path, content: &Path) {
    let mut bytes = fs::read(disk).unwrap();
    let content = fs::read(content).unwrap();
    bytes[2 * MIB..2 * MIB + content.len()].copy_from_slice(&content);
    fs::write(disk, bytes).unwrap();
}

fn small(delta: &Made, base: &Made) {
    let (stored, data) = (delta.captured.manifest.stored_blocks.get(), base.captured.counts.data.get());
    assert!(stored * 8 < data, "{stored} stored of {data}");
    assert!(data > 1500, "the base has content");
    let partitions = &delta.captured.manifest.partitions;
    assert!(partitions.iter().any(|partition| partition.content == "ext4" && partition.whole.is_none()));
}

#[test]
fn a_table_that_was_replaced_costs_its_own_blocks_only() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, system) = (folder.path().join("disk"), folder.path().join("system"));
    ext4(&system, 16);
    fs::write(&disk, vec![0; 40 * MIB]).unwrap();
    sfdisk(&disk, "", "label: dos\\nstart=4096,size=32768,type=83\\n");
    put(&disk, &system);
    let base = round_trip(&fs::read(&disk).unwrap(), &[]);
    for script in [
        "label: gpt\\n7: start=4096,size=32768,type=L\\nstart=40960,size=2048\\n",
        "label: dos\\n1: start=2048,size=77824,type=f\\n5: start=4096,size=32768,type=83\\n6: start=40960,size=2048,type=82\\n",
    ] {
        sfdisk(&disk, "", script);
        let delta = round_trip(&fs::read(&disk).unwrap(), &[&base]);
        small(&delta, &base);
        assert!(delta.captured.manifest.stored_blocks.get() < 32);
    }
}

#[test]
fn a_root_that_grew_at_first_boot_is_a_small_delta() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, system) = (folder.path().join("disk"), folder.path().join("system"));
    ext4(&system, 16);
    fs::write(&disk, vec![0; 20 * MIB]).unwrap();
    sfdisk(&disk, "", "label: gpt\\nstart=4096,size=32768,type=L\\n");
    put(&disk, &system);
    let base = round_trip(&fs::read(&disk).unwrap(), &[]);

    // A larger disk gets the image; growpart and resize2fs use all of it, and then somebody works.
    fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(u64::try_from(60 * MIB).unwrap()).unwrap();
    sfdisk(&disk, "--relocate gpt-bak-std", "");
    sfdisk(&disk, "-N 1", ",+\\n");
    let grown = fs::OpenOptions::new().write(true).open(&system).unwrap();
    grown.set_len(u64::try_from(56 * MIB).unwrap()).unwrap();
    tool("e2fsck", &["-f", "-p", &system.display().to_string()]);
    tool("resize2fs", &[&system.display().to_string()]);
    let edit = format!("write {} /note", folder.path().join("system.tree/file3").display());
    tool("debugfs", &["-w", "-R", &edit, &system.display().to_string()]);
    put(&disk, &system);
    let bytes = fs::read(&disk).unwrap();
    let delta = round_trip(&bytes, &[&base]);
    small(&delta, &base);
    assert!(delta.captured.counts.free.get() > 5000, "the new space is free, and proven so");
}

#[test]
fn each_of_several_disks_has_its_own_image() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut noise = Noise(5);
    let mut disks = vec![vec![0; 2 * MIB], vec![0; 3 * MIB + 512]];
    for (name, disk) in ["a", "b"].iter().zip(&mut disks) {
        noise.fill(disk);
        fs::write(at.join(format!("{name}.img")), &disk).unwrap();
        let [image, out, sig] = ["img", "zdi", "sig"].map(|kind| format!("{name}.{kind}"));
        ok(at, &["create", &image, "--out", &out, "--sig-out", &sig]);
    }
    // Content moved from one disk to the other is found in the base of the other at its own place only.
    let (first, second) = disks.split_at_mut(1);
    first[0][..MIB].copy_from_slice(&second[0][..MIB]);
    fs::write(at.join("a.img"), &first[0]).unwrap();
    let alone = ok(at, &["create", "a.img", "--out", "alone.zdi", "--base", "a.sig"]);
    let both = ok(at, &["create", "a.img", "--out", "both.zdi", "--base", "a.sig", "--base", "b.sig"]);
    assert_eq!((alone["stored_blocks"].as_u64(), both["stored_blocks"].as_u64()), (Some(256), Some(0)));
    for images in [&["a.zdi", "alone.zdi"][..], &["a.zdi", "b.zdi", "both.zdi"]] {
        ok(at, &[&["restore"], images, &["--to", "new.img"]].concat());
        assert!(fs::read(at.join("new.img")).unwrap() == first[0]);
        fs::remove_file(at.join("new.img")).unwrap();
    }
}
