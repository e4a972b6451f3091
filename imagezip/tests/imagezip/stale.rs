//! What was deleted is not in an image: neither in free blocks nor in the free part of a used one.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::Command;

use imagezip::alloc::{SurveyOptions, survey};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen};

use crate::alloc::tables::{LINUX, gpt};
use crate::support::{make, open, restore_to};

const STALE: &[u8; 16] = b"stale secret 42!";

/// Makes an ext4 file system with small files, between which large ones were deleted.
fn file_system(folder: &Path, block: &str) -> Vec<u8> {
    let image = folder.join("disk.img");
    let tree = folder.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(&image, vec![0; 32 << 20]).unwrap();
    for number in 0..300_usize {
        fs::write(tree.join(format!("file{number}")), vec![b'x'; 10 + number * 7]).unwrap();
    }
    for number in 0..20_usize {
        let pieces = 60 + number * 3000 + usize::from(number == 7) * 300_000;
        fs::write(tree.join(format!("secret{number}")), STALE.repeat(pieces)).unwrap();
    }
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-b", block, "-d"]).args([&tree, &image]);
    assert!(make.status().unwrap().success());
    for number in 0..20 {
        let remove = format!("rm /secret{number}");
        let removed = Command::new("debugfs").args(["-w", "-R", &remove]).arg(&image).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
    }
    fs::read(image).unwrap()
}

fn contains_stale(bytes: &[u8]) -> bool {
    bytes.windows(STALE.len()).any(|window| window == STALE)
}

#[test]
fn stale_bytes_are_never_stored() {
    for block in ["1024", "4096"] {
        let folder = tempfile::tempdir().unwrap();
        let disk = file_system(folder.path(), block);
        assert!(contains_stale(&disk), "the test needs stale bytes to miss");
        let survey = survey(&disk, SurveyOptions::default()).unwrap();
        let layout = Layout::from_survey(ByteLen::of(&disk), &survey).unwrap();
        assert!(layout.allocated_bytes().get() < 16 << 20, "free space is proven");
        let made = make(&disk, &layout, &[], BlockSize::new(65536).unwrap()).unwrap();
        let chain = open(&made.image, &[]).unwrap();
        let target = MemoryDisk::new(vec![0; disk.len()]);
        restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
        assert!(!contains_stale(&target.content()), "blocks of {block}");
        let image = folder.path().join("restored.img");
        fs::write(&image, target.content()).unwrap();
        let checked = Command::new("e2fsck").args(["-f", "-n"]).arg(&image).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn marks_of_an_earlier_owner_do_not_stay_where_they_would_be_believed() {
    const MIB: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let mut disk = vec![0; 40 * MIB];
    gpt(&mut disk, 512, &[(LINUX, 4 * 2048, 36 * 2048 - 1)]);
    disk[4 * MIB..36 * MIB].copy_from_slice(&file_system(folder.path(), "1024"));
    let survey = survey(&disk, SurveyOptions::default()).unwrap();
    let layout = Layout::from_survey(ByteLen::of(&disk), &survey).unwrap();
    let made = make(&disk, &layout, &[], BlockSize::new(4096).unwrap()).unwrap();
    let chain = open(&made.image, &[]).unwrap();
    // What a discarded block reads as is 0xd5 on this medium.
    for (free, stale) in [(FreePolicy::Keep, 0x55), (FreePolicy::Discard, 0xd5)] {
        let target = MemoryDisk::new(vec![0x55; disk.len()]);
        restore_to(&chain, &target, free, false).unwrap();
        let found = target.content();
        let has_stale = |from: usize, to: usize| found[from..to].chunks(4096).any(|block| block == [stale; 4096]);
        assert!(!has_stale(0, 5 * MIB) && !has_stale(35 * MIB, 40 * MIB), "{free:?}: at an end of the partition");
        assert!(has_stale(5 * MIB, 35 * MIB), "{free:?}: elsewhere free blocks are none of its business");
    }
}
