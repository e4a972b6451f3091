//! The program: exit codes, what is printed where, and what is left behind.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::damage::pair;
use crate::mounted::Mount;

pub(crate) fn imagezip(folder: &Path, arguments: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_imagezip"))
        .current_dir(folder)
        .args(arguments)
        .args(["--progress", "none"])
        .output();
    program.unwrap()
}

/// Runs what must succeed; returns what it prints.
pub(crate) fn ok(folder: &Path, arguments: &[&str]) -> Value {
    let output = imagezip(folder, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs what must fail; returns the message.
pub(crate) fn fails(folder: &Path, arguments: &[&str], code: i32) -> String {
    let before = names(folder);
    let output = imagezip(folder, arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert_eq!(names(folder), before, "{arguments:?} left something behind");
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Makes a file system in a new file.
fn format(file: &Path, bytes: u64, program: &str, options: &[&str]) {
    fs::File::create(file).unwrap().set_len(bytes).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new(program).env("PATH", path).args(options).arg(file).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (disk, changed) = pair();
    fs::write(folder.path().join("a.img"), disk).unwrap();
    fs::write(folder.path().join("b.img"), changed).unwrap();
    folder
}

#[test]
fn from_a_disk_to_a_delta_and_back() {
    let folder = folder();
    let at = folder.path();
    let hashed = ok(at, &["hash", "a.img", "--out", "a.sig"]);
    let full = ok(at, &["create", "a.img", "--out", "a.zdi", "--sig-out", "a2.sig"]);
    assert_eq!(hashed["root"], full["root"]);
    assert_eq!(fs::read(at.join("a.sig")).unwrap(), fs::read(at.join("a2.sig")).unwrap());
    let delta = ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    assert_eq!(delta["kind"], "delta");
    let restored = ok(at, &["restore", "a.zdi", "b.zdi", "--to", "new.img"]);
    assert_eq!(restored["verdict"], "identical");
    assert_eq!(fs::read(at.join("new.img")).unwrap(), fs::read(at.join("b.img")).unwrap());
    ok(at, &["restore", "a.zdi", "--to", "new.img", "--in-place"]);
    assert_eq!(fs::read(at.join("new.img")).unwrap(), fs::read(at.join("a.img")).unwrap());
    assert_eq!(ok(at, &["verify", "a.zdi", "b.zdi"])["ok"], true);
    assert_eq!(ok(at, &["verify", "a.zdi", "b.zdi", "--against", "b.img"])["ok"], true);
    ok(at, &["export", "a.zdi", "b.zdi", "--format", "raw", "--to", "out.raw"]);
    assert_eq!(fs::read(at.join("out.raw")).unwrap(), fs::read(at.join("b.img")).unwrap());
    assert_eq!(ok(at, &["info", "b.zdi"])["manifest"]["target_root"], delta["root"]);
    assert_eq!(ok(at, &["info", "a.sig"])["root"], full["root"]);
    assert!(ok(at, &["map", "a.img"])["partitions"].is_array());
    assert!(names(at).iter().all(|name| !name.contains("partial")), "{:?}", names(at));
}

#[test]
fn nothing_is_replaced_unless_that_is_asked_for() {
    let folder = folder();
    let at = folder.path();
    ok(at, &["create", "a.img", "--out", "a.zdi", "--sig-out", "a.sig"]);
    ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    fs::write(at.join("mine"), "mine").unwrap();
    // What an earlier try left when it was killed is in nobody's way, nor is what a link leads to.
    fs::write(at.join(".imagezip-abc.partial"), "half").unwrap();
    std::os::unix::fs::symlink("nowhere", at.join("pointer")).unwrap();
    let commands: [&[&str]; 10] = [
        &["hash", "a.img", "--out", "mine"],
        &["hash", "a.img", "--out", "pointer"],
        &["create", "a.img", "--out", "mine"],
        &["create", "a.img", "--out", "new", "--sig-out", "mine"],
        &["import", "a.img", "--out", "mine"],
        &["export", "a.zdi", "--format", "raw", "--to", "mine"],
        &["export", "a.zdi", "--format", "qcow2", "--to", "mine"],
        &["diff", "a.zdi", "b.zdi", "--out", "mine"],
        &["squash", "a.zdi", "b.zdi", "--out", "mine"],
        &["rebase", "a.zdi", "b.zdi", "--onto", "a.sig", "--out", "rebased", "--sig-out", "mine"],
    ];
    for arguments in commands {
        let message = fails(at, arguments, 2);
        assert!(message.contains("exists and is left as it is") && message.contains("--force"), "{message}");
        assert_eq!(fs::read(at.join("mine")).unwrap(), b"mine", "{arguments:?}");
    }
    for arguments in commands {
        ok(at, &[arguments, &["--force"]].concat());
        let made = if arguments.contains(&"pointer") { "pointer" } else { "mine" };
        assert!(fs::symlink_metadata(at.join(made)).unwrap().len() > 4, "{arguments:?}");
        fs::write(at.join("mine"), "mine").unwrap();
    }
    assert!(fs::symlink_metadata(at.join("nowhere")).is_err());
}

#[test]
fn what_goes_wrong_has_its_code_and_leaves_nothing() {
    let folder = folder();
    let at = folder.path();
    ok(at, &["create", "a.img", "--out", "a.zdi", "--sig-out", "a.sig"]);
    ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    fails(at, &["hash"], 2);
    fails(at, &["hash", "a.img", "--out", "a.img"], 2);
    fails(at, &["hash", "a.img", "--out", "x.sig", "--partition", "7"], 2);
    fails(at, &["hash", "a.img", "--out", "x.sig", "--block-size", "1000"], 2);
    fails(at, &["hash", "absent.img", "--out", "x.sig"], 4);
    fails(at, &["create", "a.img", "--out", "absent/x.zdi"], 4);
    fails(at, &["create", "a.img", "--out", "."], 1);
    let message = fails(at, &["create", "a.img", "--out", "x.zdi", "--base", "a.zdi"], 2);
    assert!(message.contains("not the signature of one") && message.contains("--sig-out"), "{message}");
    fails(at, &["create", "a.img", "--out", "x.zdi", "--base", "a.img"], 7);
    fails(at, &["export", "a.zdi", "--format", "raw", "--compress", "--to", "x"], 2);
    fails(at, &["export", "a.zdi", "--format", "qcow2", "--to", "absent/x"], 4);
    fails(at, &["export", "b.zdi", "--format", "qcow2", "--to", "x"], 7);
    fails(at, &["info", "a.img"], 2);
    // A pipe that nobody writes to is not waited for.
    rustix::fs::mkfifoat(rustix::fs::CWD, at.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    for not_a_file in ["pipe", "."] {
        fails(at, &["info", not_a_file], 2);
        let message = fails(at, &["restore", not_a_file, "--to", "new.img"], 2);
        assert!(message.contains("is not a regular file"), "{message}");
    }
    let message = fails(at, &["import", "a.zdi", "--out", "x.zdi"], 2);
    assert!(message.contains("is an image already"), "{message}");
    // The image of the base is not named, so only what is in it tells.
    let message = fails(at, &["create", "b.img", "--base", "a.sig", "--out", "a.zdi", "--force"], 2);
    assert!(message.contains("a.zdi is a base of"), "{message}");
    assert_eq!(ok(at, &["verify", "a.zdi", "b.zdi"])["ok"], true);
    fails(at, &["restore", "b.zdi", "--to", "new.img"], 7);
    fails(at, &["restore", "a.zdi", "--to", "."], 2);
    let message = fails(at, &["verify", "a.zdi", "--against", "b.img"], 7);
    assert!(message.contains("differs"), "{message}");

    fs::write(at.join("small.img"), vec![5; 1000]).unwrap();
    let message = fails(at, &["restore", "a.zdi", "--to", "small.img"], 1);
    assert!(message.contains("untouched") && message.contains("1000 bytes"), "{message}");
    assert!(message.contains("--other-size"), "{message}");
    assert_eq!(fs::read(at.join("small.img")).unwrap(), vec![5; 1000]);

    let mut bad = fs::read(at.join("a.zdi")).unwrap();
    bad[70] ^= 1;
    fs::write(at.join("bad.zdi"), bad).unwrap();
    for arguments in [&["verify", "bad.zdi"][..], &["restore", "bad.zdi", "--to", "new.img"]] {
        let message = fails(at, arguments, 7);
        assert!(message.contains("bad.zdi") && message.contains("frame 0"), "{message}");
    }
}

#[test]
fn what_is_not_there_has_its_code() {
    let folder = folder();
    let at = folder.path();
    let commands: [&[&str]; 8] = [
        &["hash", "absent", "--out", "x"],
        &["create", "a.img", "--base", "absent", "--out", "x"],
        &["map", "absent"],
        &["info", "absent"],
        &["verify", "absent"],
        &["restore", "absent", "--to", "x"],
        &["ls", "absent"],
        &["serve", "absent", "--nbd", "unix:s"],
    ];
    for arguments in commands {
        let message = fails(at, arguments, 4);
        assert!(message.contains("absent"), "{message}");
    }
}

#[test]
fn a_signal_ends_it_with_130_and_nothing_is_left() {
    let folder = folder();
    let at = folder.path();
    // A disk of noise that takes a while at the highest level.
    let mut big = Vec::new();
    (0..12).for_each(|_| big.extend_from_slice(&fs::read(at.join("a.img")).unwrap()));
    fs::write(at.join("big.img"), big).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_imagezip"))
        .current_dir(at)
        .args(["create", "big.img", "--out", "big.zdi", "--level", "22", "--threads", "1", "--progress", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !names(at).iter().any(|name| name.contains("partial")) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::yield_now();
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(at), ["a.img", "b.img", "big.img"]);
}

#[test]
fn a_disk_of_no_bytes_is_no_disk() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("empty"), "").unwrap();
    for command in ["create", "hash", "import"] {
        for raw in [&[][..], &["--raw"]] {
            let message = fails(at, &[&[command, "empty", "--out", "e"], raw].concat(), 2);
            assert!(message.contains("empty has no bytes"), "{message}");
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_imagezip"))
        .current_dir(folder.path())
        .args(["map", "a.img", "--progress", "none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn what_is_no_disk_is_not_saved_as_one_by_mistake() {
    let folder = folder();
    let at = folder.path();
    ok(at, &["create", "a.img", "--out", "a.zdi", "--sig-out", "a.sig"]);
    ok(at, &["export", "a.zdi", "--format", "qcow2", "--to", "a.qcow2"]);
    fs::write(at.join("a.ndz"), [&b"kiii"[..], &[0; 8188]].concat()).unwrap();
    let kinds = [("a.zdi", "is an image"), ("a.sig", "is a signature"), ("a.qcow2", "import"), ("a.ndz", "import")];
    for (file, word) in kinds {
        for command in ["create", "hash"] {
            let message = fails(at, &[command, file, "--out", "x"], 2);
            assert!(message.contains(word) && message.contains("--raw"), "{message}");
        }
        ok(at, &["create", file, "--out", "x", "--raw", "--force"]);
        assert_eq!(ok(at, &["verify", "x", "--against", file, "--raw"])["ok"], true);
    }
}

#[test]
fn a_failed_export_does_not_speak_of_a_target() {
    let folder = folder();
    let at = folder.path();
    ok(at, &["create", "a.img", "--out", "a.zdi"]);
    format(&at.join("small"), 1 << 20, "mke2fs", &["-q", "-F", "-t", "ext2", "-b", "4096"]);
    let Some(mount) = Mount::new(&at.join("small"), "") else { return };
    let to = mount.path().join("a.raw").to_str().unwrap().to_owned();
    let message = fails(at, &["export", "a.zdi", "--format", "raw", "--to", &to], 8);
    assert!(message.contains("a.raw") && !message.contains("restore") && !message.contains("target is"), "{message}");
    assert!(names(mount.path()).iter().all(|name| name == "lost+found"), "{:?}", names(mount.path()));
    mount.unmount();
}

#[test]
fn a_file_system_without_room_is_as_before_and_so_is_the_folder() {
    let folder = folder();
    let at = folder.path();
    ok(at, &["create", "a.img", "--out", "a.zdi"]);
    format(&at.join("small"), 2 << 20, "mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0"]);
    let Some(mount) = Mount::new(&at.join("small"), "") else { return };
    let free = || rustix::fs::statvfs(mount.path()).unwrap().f_bfree;
    let before = free();
    let target = mount.path().join("disk.img").display().to_string();
    let message = fails(at, &["restore", "a.zdi", "--to", &target], 8);
    assert!(message.contains("left untouched") && message.contains("no room for"), "{message}");
    assert!(!Path::new(&target).exists() && free() == before, "{} of {before} blocks are free", free());
}

#[test]
fn a_new_file_needs_no_rename_that_the_file_system_does_not_have() {
    let folder = folder();
    let at = folder.path();
    format(&at.join("stick"), 32 << 20, "mkfs.exfat", &[]);
    // By FUSE: it can neither rename without replacing nor link.
    let Some(mount) = Mount::of("exfat-fuse", &at.join("stick"), "") else { return };
    let image = mount.path().join("a.zdi").display().to_string();
    ok(at, &["create", "a.img", "--out", &image]);
    ok(at, &["verify", &image, "--against", "a.img"]);
    let message = fails(at, &["create", "b.img", "--out", &image], 2);
    assert!(message.contains("exists and is left as it is"), "{message}");
    mount.unmount();
}
