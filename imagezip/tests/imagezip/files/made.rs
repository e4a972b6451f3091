//! File systems made without root, and the images of them.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{imagezip, ok};
use crate::support::Noise;

/// Runs a tool that Debian may keep out of the path of users.
pub(super) fn tool(name: &str, arguments: &[&OsStr]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(name);
    command.args(arguments).env("PATH", path).env("MKE2FS_SKIP_PROGRESS", "1").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tree with what trees have: `source` in a new folder.
pub(super) fn tree() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("source");
    fs::create_dir_all(top.join("etc/deep/er/still")).unwrap();
    fs::write(top.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(top.join("etc/empty"), "").unwrap();
    for (len, name) in [(3, "tiny"), (100, "small"), (150, "medium"), (5000, "blocks"), (700_000, "large")] {
        let mut content = vec![0; len];
        Noise(77).fill(&mut content);
        fs::write(top.join("etc/deep").join(name), content).unwrap();
    }
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 3_333_333).unwrap();
    sparse.set_len(7_000_000).unwrap();
    symlink("hosts", top.join("etc/link")).unwrap();
    symlink("/etc/hosts", top.join("absolute")).unwrap();
    symlink("../../../etc/link", top.join("etc/deep/er/up")).unwrap();
    symlink(format!("{}etc/hosts", "./".repeat(100)), top.join("long")).unwrap();
    symlink("/nowhere", top.join("dangling")).unwrap();
    symlink("loop", top.join("loop")).unwrap();
    symlink("etc/deep", top.join("folder")).unwrap();
    for name in [&b"new\nline \x1b[31m"[..], b"\xff\xfe not text", "größe".as_bytes(), b"back\\slash", b"-l"] {
        fs::write(top.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(top.join("many")).unwrap();
    for number in 0..120 {
        fs::write(top.join(format!("many/a file with quite a long name, of number {number}")), [7; 10]).unwrap();
    }
    fs::set_permissions(top.join("etc/deep/tiny"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(top.join("etc/deep/small"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(top.join("etc/deep"), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Makes a file system in `disk` of a folder.
pub(super) fn make(folder: &Path, options: &[&str]) -> PathBuf {
    let disk = folder.join("disk");
    File::create(&disk).unwrap().set_len(16 << 20).unwrap();
    let source = folder.join("source").into_os_string();
    let mut arguments: Vec<&OsStr> = vec!["-q".as_ref(), "-F".as_ref(), "-d".as_ref(), &source];
    arguments.extend(options.iter().map(OsStr::new));
    arguments.push(disk.as_os_str());
    tool("mke2fs", &arguments);
    disk
}

/// Runs commands in `debugfs`, which may change anything.
pub(super) fn debugfs(disk: &Path, script: &str) {
    let file = disk.with_extension("script");
    fs::write(&file, script).unwrap();
    tool("debugfs", &["-w".as_ref(), "-f".as_ref(), file.as_os_str(), disk.as_os_str()]);
}

/// Saves `disk` as `disk.zdi`, all of it.
pub(super) fn save(at: &Path) {
    ok(at, &["create", "disk", "--raw", "--out", "disk.zdi", "--level", "1"]);
}

/// Returns what is listed, all of it.
pub(super) fn list(at: &Path) -> Vec<Value> {
    ok(at, &["ls", "disk.zdi", "-R"])["entries"].as_array().unwrap().clone()
}

/// Returns what `cat` writes.
pub(super) fn cat(at: &Path, images: &[&str], path: &OsStr) -> Vec<u8> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_imagezip"));
    let mut all: Vec<OsString> = vec!["cat".into()];
    all.extend(images.iter().map(OsString::from));
    all.extend(["--path".into(), path.to_owned(), "--progress".into(), "none".into()]);
    let output = program.current_dir(at).args(all).output().unwrap();
    assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Runs what does not do all that was asked for; returns what it prints and what it says.
pub(super) fn partly(at: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = imagezip(at, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told} {said}");
    (told, said)
}
