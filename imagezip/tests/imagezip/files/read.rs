//! Whether what is read is what was written, in every shape a file system can have.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::made::{cat, debugfs, list, make, partly, save, tool, tree};
use crate::command::{fails, imagezip, ok};
use crate::mounted::{self, Mount};
use crate::support::Noise;

/// Every name, mode and content of the source comes out of the image.
fn comes_out(options: &[&str]) {
    let folder = tree();
    let at = folder.path();
    if options.iter().any(|option| option.contains("inline_data")) {
        // mke2fs 1.47 then cuts a file that begins with a hole.
        fs::remove_file(at.join("source/sparse")).unwrap();
    }
    make(at, options);
    save(at);
    ok(at, &["cp", "disk.zdi", "--path", "/", "-r", "--to", "out"]);
    let (mut wanted, mut found) = (mounted::tree(&at.join("source")), mounted::tree(&at.join("out")));
    assert!(found.remove(Path::new("lost+found")).is_some(), "{options:?}");
    wanted.values_mut().for_each(|(mode, ..)| *mode &= !0o6000);
    found.values_mut().for_each(|(mode, ..)| *mode &= !0o6000);
    assert_eq!(found.len(), wanted.len(), "{options:?}");
    for (name, is) in &wanted {
        assert!(found.get(name) == Some(is), "{options:?}: {}", name.display());
    }
}

#[test]
fn ext2_and_ext3() {
    comes_out(&["-t", "ext2", "-b", "1024"]);
    comes_out(&["-t", "ext3", "-b", "4096"]);
    comes_out(&["-t", "ext3", "-b", "1024", "-I", "128"]);
}

#[test]
fn ext4_in_all_shapes() {
    comes_out(&["-t", "ext4", "-b", "1024"]);
    comes_out(&["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,^64bit"]);
    comes_out(&["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"]);
}

#[test]
fn ext4_in_rare_shapes() {
    comes_out(&["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"]);
    comes_out(&["-t", "ext4", "-b", "65536", "-O", "^has_journal"]);
    comes_out(&["-t", "ext4", "-b", "4096", "-O", "ea_inode,large_dir,^filetype"]);
}

#[test]
fn content_in_inodes() {
    comes_out(&["-t", "ext4", "-b", "4096", "-O", "inline_data"]);
    comes_out(&["-t", "ext4", "-b", "1024", "-O", "inline_data", "-I", "1024"]);
    let folder = tree();
    make(folder.path(), &["-t", "ext4", "-O", "inline_data"]);
    let small = about(&folder.path().join("disk"), "/etc/deep/small");
    assert!(small.contains("Size of inline data: 100"), "the test has to have some: {small}");
}

/// Returns what `debugfs` says of an inode.
fn about(disk: &Path, path: &str) -> String {
    let tools = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut debugfs = Command::new("debugfs");
    let output = debugfs.env("PATH", tools).args(["-R", &format!("stat {path}")]).arg(disk).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn folders_with_an_index_by_hashes() {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, &["-t", "ext4", "-b", "1024"]);
    // What mke2fs fills has no index; e2fsck makes one.
    tool("e2fsck", &["-fyD".as_ref(), disk.as_os_str()]);
    assert!(about(&disk, "/many").contains("Flags: 0x81000"), "the test has to have an index");
    save(at);
    let names = list(at).iter().filter(|entry| entry["path"].as_str().unwrap().starts_with("/many/")).count();
    assert_eq!(names, 120);
    let content = cat(at, &["disk.zdi"], "/many/a file with quite a long name, of number 119".as_ref());
    assert_eq!(content, [7; 10]);
}

#[test]
fn what_was_reserved_and_never_written_is_zeros_and_not_what_others_left() {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, &["-t", "ext4", "-b", "4096"]);
    debugfs(&disk, "rm /etc/deep/large\nwrite /dev/null reserved\nfallocate reserved 0 400\n");
    debugfs(&disk, "set_inode_field reserved size 1638400\n");
    let raw = fs::read(&disk).unwrap();
    let mut secret = vec![0; 4096];
    Noise(77).fill(&mut secret);
    assert!(raw.chunks(4096).any(|block| block == secret), "the old content has to be on the disk still");
    save(at);
    assert!(cat(at, &["disk.zdi"], "reserved".as_ref()) == vec![0; 1_638_400]);
}

#[test]
fn a_list_has_everything_and_nothing_that_commands_a_terminal() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    let all = list(at);
    let find = |path: &str| all.iter().find(|entry| entry["path"] == path).unwrap_or_else(|| panic!("{path}"));
    let small = find("/etc/deep/small");
    assert_eq!((&small["kind"], &small["mode"], &small["size_bytes"]), (&"file".into(), &"6755".into(), &100.into()));
    assert_eq!(find("/folder")["target"], "etc/deep");
    assert_eq!(find("/new\nline \u{1b}[31m")["size_bytes"], 14);
    let odd = all.iter().find(|entry| entry["path_hex"].is_string()).unwrap();
    assert_eq!(odd["path_hex"], hex::encode(b"/\xff\xfe not text"));
    let source = fs::symlink_metadata(at.join("source/etc/hosts")).unwrap().modified().unwrap();
    let seconds = source.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(find("/etc/hosts")["modified_seconds"], seconds);

    // Into a pipe the names are what they are, on a terminal they are escaped.
    let piped = imagezip(at, &["ls", "disk.zdi"]).stdout;
    assert!(piped.windows(14).any(|part| part == b"new\nline \x1b[31m"));
    for arguments in ["ls disk.zdi -l", "ls disk.zdi --json"] {
        let command = format!("{} {arguments} --progress none", env!("CARGO_BIN_EXE_imagezip"));
        let shown = Command::new("script").current_dir(at).args(["-qec", &command, "/dev/null"]).output().unwrap();
        assert!(shown.status.success() && !shown.stdout.contains(&0x1b), "{arguments}");
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(text.contains("new\\nline") && text.contains("größe"), "{text}");
    }
    let (long, _) = partly(at, &["ls", "disk.zdi", "--path", "/etc/deep", "-l"], 0);
    let line = long.lines().find(|line| line.ends_with(" small")).unwrap();
    assert!(line.starts_with("-rwsr-sr-x ") && line.contains(" 100 20"), "{line}");
    let (one, _) = partly(at, &["ls", "disk.zdi", "--path", "/etc/link"], 0);
    assert_eq!(one, "hosts\n");
}

#[test]
fn paths_that_lead_somewhere_and_paths_that_do_not() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    let hosts = fs::read(at.join("source/etc/hosts")).unwrap();
    for path in
        ["/etc/hosts", "etc//hosts", "/absolute", "/long", "/folder/er/up", "/folder/../link", "/../etc/./hosts"]
    {
        assert_eq!(cat(at, &["disk.zdi"], path.as_ref()), hosts, "{path}");
    }
    let odd = OsStr::from_bytes(b"/\xff\xfe not text");
    assert_eq!(cat(at, &["disk.zdi"], odd), b"\xff\xfe not text");
    for (path, code, says) in [
        ("/etc/none", 4, "there is no /etc/none in the file system"),
        ("/dangling", 4, "there is no /nowhere in the file system, where the symbolic link dangling leads"),
        ("/loop", 1, "more than 40 symbolic links"),
        ("/etc/hosts/x", 1, "/etc/hosts is no folder"),
        ("/etc/hosts/", 1, "/etc/hosts is no folder"),
        ("/etc", 2, "/etc is a folder: cat is for files"),
        ("\u{1b}[2J", 4, "there is no /\\u{1b}[2J in"),
    ] {
        let message = fails(at, &["cat", "disk.zdi", "--path", path], code);
        assert!(message.contains(says), "{path}: {message}");
    }
    fails(at, &["cat", "disk.zdi"], 2);
    fails(at, &["cat", "disk.zdi", "--path", "/etc/hosts", "--json"], 2);
    fails(at, &["ls", "disk.zdi", "--path", "/none"], 4);
}

#[test]
fn a_delta_shows_the_new_and_its_base_the_old() {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, &["-t", "ext4"]);
    ok(at, &["create", "disk", "--out", "base.zdi", "--sig-out", "base.sig"]);
    fs::write(at.join("new"), "10.0.0.1 gateway\n").unwrap();
    debugfs(&disk, &format!("rm /etc/hosts\nwrite {} /etc/hosts\n", at.join("new").display()));
    ok(at, &["create", "disk", "--base", "base.sig", "--out", "today.zdi"]);
    assert_eq!(cat(at, &["base.zdi"], "/etc/hosts".as_ref()), b"127.0.0.1 localhost\n");
    assert_eq!(cat(at, &["base.zdi", "today.zdi"], "/etc/hosts".as_ref()), b"10.0.0.1 gateway\n");
    let message = fails(at, &["cat", "today.zdi", "--path", "/etc/hosts"], 7);
    assert!(message.contains("needs the base"), "{message}");
}

/// Mounts, changes, and copies the medium while the newest is in the journal only.
fn in_use(options: &[&str]) {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, options);
    let Some(mount) = Mount::new(&disk, "") else { return };
    let top = mount.path().to_owned();
    fs::create_dir(top.join("new")).unwrap();
    for number in 0..150 {
        fs::write(top.join(format!("new/name number {number} of some length")), number.to_string()).unwrap();
    }
    fs::remove_file(top.join("etc/hosts")).unwrap();
    fs::write(top.join("etc/hosts"), "the newest\n").unwrap();
    let times = File::create(top.join("later")).unwrap();
    times.set_modified(SystemTime::UNIX_EPOCH + Duration::new(2_208_988_800, 5)).unwrap();
    let before = File::create(top.join("before")).unwrap();
    before.set_modified(SystemTime::UNIX_EPOCH - Duration::from_secs(1_000_000)).unwrap();
    let mut appended = File::create(top.join("appended")).unwrap();
    appended.write_all(&[9; 10_000]).unwrap();
    rustix::fs::syncfs(File::open(&top).unwrap()).unwrap();
    drop((times, before, appended));
    fs::copy(&disk, at.join("copy")).unwrap();
    let wanted = mounted::tree(&top);
    mount.unmount();
    fs::rename(at.join("copy"), &disk).unwrap();
    save(at);

    let (hosts, said) = partly(at, &["cat", "disk.zdi", "--path", "/etc/hosts"], 0);
    assert!(hosts == "the newest\n" && said.contains("was in use"), "{options:?}: {hosts} {said}");
    let all = list(at);
    let find = |path: &str| all.iter().find(|entry| entry["path"] == path).unwrap();
    let (has_rest, later) = (!options.contains(&"128"), find("/later"));
    if has_rest {
        assert_eq!(
            (&later["modified_seconds"], &later["modified_nanoseconds"]),
            (&2_208_988_800_u64.into(), &5.into())
        );
    }
    assert_eq!(find("/before")["modified_seconds"], -1_000_000);
    ok(at, &["cp", "disk.zdi", "--path", "/", "-r", "--to", "out"]);
    let found = mounted::tree(&at.join("out"));
    assert_eq!(found.len(), wanted.len(), "{options:?}");
    for (name, (mode, owner, len, content)) in wanted {
        let wanted = (mode & !0o6000, owner, len, content);
        assert!(found.get(&name) == Some(&wanted), "{options:?}: {}", name.display());
    }
}

#[test]
fn the_newest_is_in_the_journal_and_is_shown() {
    in_use(&["-t", "ext4", "-b", "1024"]);
}

#[test]
fn the_newest_is_in_a_journal_of_an_older_kind() {
    in_use(&["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,inline_data"]);
    in_use(&["-t", "ext3", "-b", "1024", "-I", "128"]);
}

#[test]
fn what_a_kernel_wrote_into_a_reserved_file_and_a_hole() {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, &["-t", "ext4", "-b", "4096"]);
    let Some(mount) = Mount::new(&disk, "") else { return };
    let file = File::create(mount.path().join("file")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 400_000).unwrap();
    file.write_all_at(b"here", 123_456).unwrap();
    file.write_all_at(b"and behind a hole", 5_000_000).unwrap();
    drop(file);
    let wanted = fs::read(mount.path().join("file")).unwrap();
    mount.unmount();
    save(at);
    assert!(cat(at, &["disk.zdi"], "file".as_ref()) == wanted);
}

#[test]
fn encrypted_and_other_things_that_are_refused_say_what_to_do() {
    let folder = tree();
    let at = folder.path();
    let disk = make(at, &["-t", "ext4", "-O", "^metadata_csum,encrypt"]);
    debugfs(&disk, "set_inode_field /etc/deep flags 0x80800\nset_inode_field /etc/hosts flags 0x80800\n");
    save(at);
    for path in ["/etc/deep/tiny", "/etc/hosts"] {
        let message = fails(at, &["cat", "disk.zdi", "--path", path], 1);
        assert!(message.contains("is encrypted") && message.contains("imagezip export"), "{message}");
    }
    debugfs(&disk, "feature needs_recovery\nset_super_value journal_inum 0\n");
    save_again(at);
    let message = fails(at, &["ls", "disk.zdi"], 1);
    assert!(message.contains("journal") && message.contains("imagezip export"), "{message}");
    tool("mkfs.fat", &["-I".as_ref(), disk.as_os_str()]);
    save_again(at);
    let message = fails(at, &["ls", "disk.zdi"], 1);
    assert!(message.contains("holds FAT") || message.contains("the disk has"), "{message}");
}

fn save_again(at: &Path) {
    fs::remove_file(at.join("disk.zdi")).unwrap();
    save(at);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tree();
    let at = folder.path();
    make(at, &["-t", "ext4"]);
    save(at);
    for path in ["/etc/deep/large", "/sparse"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imagezip"))
            .current_dir(at)
            .args(["cat", "disk.zdi", "--path", path, "--progress", "none"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{path}: {output:?}");
    }
}
