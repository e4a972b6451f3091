//! What a copy leaves on the machine of who asks, and what it leaves alone.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use super::made::{debugfs, make, partly, save, tree};
use crate::command::{fails, ok};
use crate::mounted;

#[test]
fn a_file_keeps_its_mode_time_and_holes_and_no_set_id_bits() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    let report = ok(at, &["cp", "disk.zdi", "--path", "/etc/deep/small", "--to", "."]);
    assert_eq!((&report["files"], &report["bytes"]), (&1.into(), &100.into()));
    let (source, copy) = (at.join("source/etc/deep/small"), at.join("small"));
    assert_eq!(fs::read(&source).unwrap(), fs::read(&copy).unwrap());
    let about = fs::metadata(&copy).unwrap();
    assert_eq!(about.permissions().mode() & 0o7777, 0o755);
    assert_eq!(about.mtime(), fs::metadata(&source).unwrap().mtime());
    // A symbolic link that is named is followed, and keeps its name.
    ok(at, &["cp", "disk.zdi", "--path", "/etc/link", "--to", "."]);
    assert_eq!(fs::read(at.join("link")).unwrap(), fs::read(at.join("source/etc/hosts")).unwrap());
    ok(at, &["cp", "disk.zdi", "--path", "/sparse", "--to", "sparse"]);
    let sparse = fs::metadata(at.join("sparse")).unwrap();
    assert!(sparse.len() == 7_000_000 && sparse.blocks() * 512 < 100_000, "{sparse:?}");
    assert!(fs::read(at.join("sparse")).unwrap() == fs::read(at.join("source/sparse")).unwrap());
}

#[test]
fn nothing_is_written_over_unless_that_is_asked_for() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    fs::write(at.join("mine"), "mine").unwrap();
    symlink("mine", at.join("pointer")).unwrap();
    fs::create_dir(at.join("out")).unwrap();
    for to in ["mine", "pointer"] {
        let message = fails(at, &["cp", "disk.zdi", "--path", "/etc/hosts", "--to", to], 2);
        assert!(message.contains("is there already"), "{message}");
    }
    fails(at, &["cp", "disk.zdi", "--path", "/etc", "-r", "--to", "mine"], 2);
    fails(at, &["cp", "disk.zdi", "--path", "/etc", "--to", "etc"], 2);
    fails(at, &["cp", "disk.zdi", "--path", "/etc/hosts", "--to", "absent/hosts"], 4);
    // Not even then over what is read.
    fails(at, &["cp", "disk.zdi", "--path", "/etc/hosts", "--to", "disk.zdi", "--force"], 2);
    assert_eq!(fs::read(at.join("mine")).unwrap(), b"mine");
    // What is replaced is the name, not what a link of that name leads to.
    ok(at, &["cp", "disk.zdi", "--path", "/etc/hosts", "--to", "pointer", "--force"]);
    assert_eq!(fs::read(at.join("mine")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(at.join("pointer")).unwrap().is_file());

    ok(at, &["cp", "disk.zdi", "--path", "/etc", "-r", "--to", "out"]);
    assert!(mounted::tree(&at.join("out/etc")).len() > 8);
    fs::write(at.join("out/etc/hosts"), "mine").unwrap();
    fs::write(at.join("out/etc/own"), "mine").unwrap();
    fails(at, &["cp", "disk.zdi", "--path", "/etc/", "-r", "--to", "out"], 2);
    assert_eq!(fs::read(at.join("out/etc/hosts")).unwrap(), b"mine");
    ok(at, &["cp", "disk.zdi", "--path", "/etc", "-r", "--to", "out", "--force"]);
    assert_eq!(fs::read(at.join("out/etc/hosts")).unwrap(), b"127.0.0.1 localhost\n");
    assert_eq!(fs::read(at.join("out/etc/own")).unwrap(), b"mine");
}

#[test]
fn a_link_in_the_target_is_never_gone_through() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    fs::create_dir_all(at.join("outside/er")).unwrap();
    fs::create_dir_all(at.join("out/etc")).unwrap();
    symlink(at.join("outside"), at.join("out/etc/deep")).unwrap();
    let message = {
        let (_, said) = partly(at, &["cp", "disk.zdi", "--path", "/etc", "-r", "--to", "out", "--force"], 1);
        said
    };
    assert!(message.contains("out/etc/deep") && message.contains("the same copy again finishes it"), "{message}");
    assert_eq!(mounted::tree(&at.join("outside")).len(), 1, "nothing but what was there");
}

#[test]
fn devices_and_pipes_are_left_out_and_that_is_said() {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, &["-t", "ext4"]);
    debugfs(&disk, "cd etc\nmknod pipe p\nmknod disk b 8 0\nmknod null c 1 3\n");
    save(at);
    let (report, said) = partly(at, &["cp", "disk.zdi", "--path", "/etc", "-r", "--to", "etc", "--json"], 0);
    assert!(report.contains("\"special\":3"), "{report}");
    for what in ["/etc/pipe is left out: it is a fifo", "/etc/disk is left out", "/etc/null is left out"] {
        assert!(said.contains(what), "{said}");
    }
    let message = fails(at, &["cp", "disk.zdi", "--path", "/etc/null", "--to", "null"], 2);
    assert!(message.contains("is a character device"), "{message}");
    assert!(fs::symlink_metadata(at.join("etc/null")).is_err());
    // A full disk or a folder that may not be written is an error of the copy, and nothing is left of the file.
    File::create(at.join("file")).unwrap();
    fails(at, &["cp", "disk.zdi", "--path", "/etc/hosts", "--to", "file/x"], 1);
}

#[test]
fn a_copy_of_a_folder_that_ends_early_says_what_is_left() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    // Files of more than 200 KiB are refused by the system, as all are once a disk is full.
    let copy = |path: &str, to: &str| {
        let limited =
            "trap '' XFSZ; ulimit -f 200; exec \"$0\" cp disk.zdi --path \"$1\" -r --to \"$2\" --progress none";
        let mut shell = Command::new("bash");
        let output = shell.current_dir(at).args(["-c", limited, env!("CARGO_BIN_EXE_imagezip"), path, to]).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let said = copy("/etc", "part");
    let told = "part holds only a part of it, ";
    assert!(said.contains(told) && said.contains("remove it before") && said.contains("part/deep/large"), "{said}");
    let count = mounted::tree(&at.join("part")).values().filter(|(mode, ..)| mode & 0o170_000 == 0o100_000).count();
    assert!(said.contains(&format!("{told}{count} files in ")), "{count}: {said}");
    assert!(fs::symlink_metadata(at.join("part/deep/large")).is_err());
    // A folder that nothing came into does not stay.
    let large = at.join("source/etc/deep/large");
    debugfs(&at.join("disk"), &format!("mkdir lone\ncd lone\nwrite {} large\n", large.display()));
    fs::remove_file(at.join("disk.zdi")).unwrap();
    save(at);
    let said = copy("/lone", "lone");
    assert!(!said.contains("only a part") && said.contains("lone/large"), "{said}");
    assert!(fs::symlink_metadata(at.join("lone")).is_err());
}
