//! File systems that were made to do harm, and such that are damaged.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::io;
use std::path::Path;

use imagezip::files::{CopyOptions, FilesError, Kind, Sink, Volume, Walk, Wanted, choose, copy_tree, shown};
use proptest::prelude::*;
use sigs::ByteLen;
use tempfile::TempDir;

use super::made::{make, partly, save};
use crate::mounted;
use crate::support::controlled;

/// Makes a file system whose names no checksum protects, and puts other names in their place.
fn renamed(names: &[(&[u8], &[u8])], fill: impl FnOnce(&Path)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source);
    let disk = make(folder.path(), &["-t", "ext4", "-O", "^metadata_csum"]);
    let mut bytes = fs::read(&disk).unwrap();
    for (old, new) in names {
        assert_eq!(old.len(), new.len());
        let place = bytes.windows(old.len()).position(|part| part == *old).unwrap();
        bytes[place..place + new.len()].copy_from_slice(new);
    }
    fs::write(&disk, bytes).unwrap();
    save(folder.path());
    folder
}

#[test]
fn names_that_lead_out_are_refused_and_the_others_copied() {
    let folder =
        renamed(&[(b"QQ_QQ", b"../up"), (b"Q_slash_Q", b"/tmp/oops"), (b"ZeroZero", b"ZeroZe\0o")], |source| {
            fs::create_dir(source.join("QQ_QQ")).unwrap();
            for name in ["QQ_QQ/x", "Q_slash_Q", "ZeroZero", "good"] {
                fs::write(source.join(name), name).unwrap();
            }
        });
    let at = folder.path();
    let before = mounted::tree(at).len();
    let (_, said) = partly(at, &["cp", "disk.zdi", "--path", "/", "-r", "--to", "out"], 1);
    assert_eq!(said.matches("no file can have that name").count(), 3, "{said}");
    assert!(said.contains("ZeroZe\\0o") && said.contains("3 files or folders could not be copied"), "{said}");
    assert_eq!(fs::read(at.join("out/good")).unwrap(), b"good");
    assert_eq!(mounted::tree(at).len(), before + 3, "the target, the file and lost+found");
}

#[test]
fn a_link_and_a_folder_of_one_name_do_not_lead_out() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let image = renamed(&[(b"evil_two", b"evil_one")], |source| {
        std::os::unix::fs::symlink(&outside, source.join("evil_one")).unwrap();
        fs::create_dir(source.join("evil_two")).unwrap();
        fs::write(source.join("evil_two/owned"), "owned").unwrap();
    });
    let at = image.path();
    for force in [&[][..], &["--force"]] {
        let _ = fs::remove_dir_all(at.join("out"));
        let arguments = [&["cp", "disk.zdi", "--path", "/", "-r", "--to", "out"], force].concat();
        let (_, said) = partly(at, &arguments, 1);
        assert!(said.contains("evil_one"), "{said}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{force:?}");
    }
}

#[test]
fn a_folder_inside_itself_ends() {
    let folder = renamed(&[], |source| fs::create_dir_all(source.join("a/b/c")).unwrap());
    let at = folder.path();
    let disk = at.join("disk");
    let mut bytes = fs::read(&disk).unwrap();
    // The entry of `c` gets the inode of the root.
    let is_entry = |part: &[u8]| part[6..] == [1, 2, b'c', 0, 0, 0];
    let place = bytes.windows(12).position(is_entry).unwrap();
    bytes[place..place + 4].copy_from_slice(&2_u32.to_le_bytes());
    fs::write(&disk, bytes).unwrap();
    fs::remove_file(at.join("disk.zdi")).unwrap();
    save(at);
    let (listed, said) = partly(at, &["ls", "disk.zdi", "-R"], 1);
    assert!(said.contains("reached in two ways"), "{said}");
    assert_eq!(listed, "/a\n/a/b\n/a/b/c\n/lost+found\n");
    let (_, said) = partly(at, &["cp", "disk.zdi", "--path", "/", "-r", "--to", "out"], 1);
    assert!(said.contains("reached in two ways"), "{said}");
}

/// Counts what it gets.
#[derive(Default)]
struct Counter(u64);

impl Sink for Counter {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hole(ByteLen::of(bytes))
    }

    fn hole(&mut self, len: ByteLen) -> io::Result<()> {
        self.0 = self.0.checked_add(len.get()).unwrap();
        Ok(())
    }
}

/// Reads everything there is; returns how many files came out whole.
fn read_all(disk: &Vec<u8>) -> Result<usize, FilesError> {
    let volume = choose(disk, &Wanted::default()).and_then(Volume::open)?;
    let root = controlled(|control| volume.find(b"/", control))?;
    let mut whole = 0;
    for step in Walk::new(&volume, &root, true)? {
        let Ok(node) = step.node else { continue };
        assert!(!shown(&step.path).contains(char::is_control));
        let mut counter = Counter::default();
        let read = match node.kind() {
            Kind::File => controlled(|control| volume.read(&node, &mut counter, control)).map(|()| counter.0),
            Kind::Link => controlled(|control| volume.target(&node, control)).map(|target| ByteLen::of(&target).get()),
            _ => continue,
        };
        if let Ok(len) = read {
            assert_eq!(len, node.size().get());
            whole += 1;
        }
    }
    Ok(whole)
}

/// A small file system of each kind, and where in it there is something.
fn small() -> Vec<(Vec<u8>, Vec<usize>)> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("folder/below")).unwrap();
    for number in 0..40 {
        fs::write(source.join(format!("folder/a name of some length {number}")), vec![1; 40 * number]).unwrap();
    }
    std::os::unix::fs::symlink("x".repeat(100), source.join("folder/long")).unwrap();
    std::os::unix::fs::symlink("short", source.join("short")).unwrap();
    let mut made = Vec::new();
    for options in [
        &["-t", "ext2", "-b", "1024", "-N", "64"][..],
        &["-t", "ext4", "-b", "1024", "-N", "64", "-O", "^metadata_csum,^has_journal"],
        &["-t", "ext4", "-b", "1024", "-N", "64", "-O", "inline_data,^metadata_csum,^has_journal"],
        &["-t", "ext4", "-b", "1024", "-N", "64", "-O", "^has_journal"],
    ] {
        let disk = make(folder.path(), &[options, &["-E", "lazy_itable_init=0"]].concat());
        let bytes = fs::read(&disk).unwrap();
        let places = (0..bytes.len()).filter(|at| bytes[*at] != 0 && bytes[*at] != 1).collect();
        made.push((bytes, places));
    }
    made
}

#[test]
fn damage_is_an_error_and_never_a_panic_or_an_endless_loop() {
    let made = small();
    for (bytes, places) in &made {
        assert_eq!(read_all(bytes).unwrap(), 42);
        assert!(places.len() > 1000);
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), -12_isize..13, any::<u8>()), 1..6);
    let errors = std::cell::Cell::new(0);
    let done = runner.run(&(0..made.len(), flips), |(which, flips)| {
        let (bytes, places) = &made[which];
        let mut disk = bytes.clone();
        for (index, shift, value) in flips {
            // In or close to what is there.
            if let Some(byte) =
                places[index.index(places.len())].checked_add_signed(shift).and_then(|at| disk.get_mut(at))
            {
                *byte = value;
            }
        }
        if read_all(&disk).map_or(true, |whole| whole < 42) {
            errors.set(errors.get() + 1);
        }
        Ok(())
    });
    done.unwrap();
    assert!(errors.get() > 20, "damage that hits nothing shows nothing: {}", errors.get());
}

#[test]
fn folders_in_folders_keep_no_more_names_in_memory_than_one() {
    let folder = renamed(&[], |source| {
        fs::create_dir_all(source.join("a/b")).unwrap();
        for name in ["1", "2", "3", "a/1", "a/2", "a/b/1"] {
            fs::write(source.join(name), name).unwrap();
        }
    });
    let disk = fs::read(folder.path().join("disk")).unwrap();
    // `a`, `lost+found` and three files; `b` and two files; one file.
    let too_large = |most| {
        let volume = choose(&disk, &Wanted::default()).and_then(Volume::open).unwrap().with_most_names(most);
        let root = controlled(|control| volume.find(b"/", control)).unwrap();
        let steps = Walk::new(&volume, &root, true)?;
        let walked = steps.filter(|step| matches!(step.node, Err(FilesError::TooLarge { .. }))).count();
        let to = folder.path().join(format!("out{most}"));
        let options = CopyOptions::default();
        let copied = controlled(|control| copy_tree(&volume, &root, &to, options, control, &mut |_| {}))?.failed;
        assert_eq!(u64::try_from(walked).unwrap(), copied);
        Ok::<_, FilesError>(walked)
    };
    assert_eq!(too_large(9).unwrap(), 0);
    assert_eq!(too_large(8).unwrap(), 1, "b is");
    assert_eq!(too_large(7).unwrap(), 1, "a is");
    assert!(matches!(too_large(4), Err(FilesError::TooLarge { .. })));
}
