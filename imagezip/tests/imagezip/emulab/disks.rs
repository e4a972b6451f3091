//! What these tests work on: folders with disks in them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::ok;
use crate::support::Noise;

pub(super) const MIB: usize = 1 << 20;

/// Returns noise that does not compress.
pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Noise(seed).fill(&mut bytes);
    bytes
}

/// Returns a folder with this file.
pub(super) fn folder(name: &str, bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

/// Writes an entry of a DOS table.
pub(super) fn partition(disk: &mut [u8], table: usize, index: usize, kind: u8, first: u32, count: u32) {
    let at = table + 446 + 16 * index;
    disk[at + 4] = kind;
    disk[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
    disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    disk[table + 510..table + 512].copy_from_slice(&[0x55, 0xAA]);
}

/// Runs a tool that must succeed, in the path of root.
pub(super) fn tool(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes an ext4 file system of some MiB, with a few files in it.
pub(super) fn ext4(mib: usize, options: &[&str]) -> Vec<u8> {
    let folder = folder("fs", &vec![0; mib * MIB]);
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..20 {
        fs::write(tree.join(format!("file{number}")), noise(10_000 + number * 999, 7 + u64::try_from(number).unwrap()))
            .unwrap();
    }
    let (path, tree) = (folder.path().join("fs"), tree.display().to_string());
    let path = path.display().to_string();
    tool("mke2fs", &[&["-q", "-F", "-t", "ext4", "-d", &tree], options, &[&path]].concat());
    fs::read(path).unwrap()
}

/// Makes a full image `NAME.zdi` with `NAME.sig` of the disk `NAME.img`.
pub(super) fn save(folder: &Path, name: &str) -> Value {
    let [disk, image, signature] = ["img", "zdi", "sig"].map(|kind| format!("{name}.{kind}"));
    ok(folder, &["create", &disk, "--out", &image, "--sig-out", &signature])
}

/// Restores images to a new file and returns what it holds.
pub(super) fn restored(folder: &Path, images: &[&str]) -> Vec<u8> {
    let target = folder.join("restored.img");
    ok(folder, &[&["restore"], images, &["--to", "restored.img"]].concat());
    let bytes = fs::read(&target).unwrap();
    fs::remove_file(target).unwrap();
    bytes
}

/// Saves the disk, restores it, and requires every byte to be the same.
pub(super) fn comes_back(bytes: &[u8]) -> Value {
    let folder = folder("a.img", bytes);
    let made = save(folder.path(), "a");
    assert!(restored(folder.path(), &["a.zdi"]) == bytes, "the disk is another");
    made
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}
