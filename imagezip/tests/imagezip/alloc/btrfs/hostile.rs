//! Bytes that lie.

use proptest::prelude::*;

use super::volume::{Volume, files};
use crate::alloc::tools::{Pairs, pairs, reason, run, survey_of};

/// A small file system with a name for every kind of tree block.
fn small() -> Volume {
    let sources = files(40);
    Volume::new(20, &["--mixed", "-n", "4096", "-r", sources.path().to_str().unwrap()])
}

/// Returns where the blocks of the trees lie that are read: roots, chunks, devices, extents.
fn blocks(volume: &Volume) -> Vec<usize> {
    let chunks = run("btrfs", &["inspect-internal", "dump-tree", "-t", "chunk", &volume.text()]);
    let (mut map, mut logical) = (Vec::new(), (0, 0));
    for line in chunks.lines().map(str::trim) {
        let number =
            |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().unwrap();
        if let Some((_, key)) = line.split_once("CHUNK_ITEM ") {
            logical.0 = number(key);
        } else if let Some(rest) = line.strip_prefix("length ") {
            logical.1 = number(rest);
        } else if line.starts_with("stripe 0 ") {
            map.push((logical, number(line.split_once("offset ").unwrap().1)));
        }
    }
    let mut found = Vec::new();
    for tree in ["root", "chunk", "device", "extent"] {
        let text = run("btrfs", &["inspect-internal", "dump-tree", "-t", tree, &volume.text()]);
        for line in text
            .lines()
            .filter(|line| (line.starts_with("leaf ") || line.starts_with("node ")) && line.contains(" items "))
        {
            let at: usize = line.split(' ').nth(1).unwrap().parse().unwrap();
            let ((start, _), physical) =
                map.iter().find(|((start, len), _)| (*start..start + len).contains(&at)).unwrap();
            found.push(physical + at - start);
        }
    }
    assert!(found.len() > 4, "{found:?}");
    found
}

fn seal(disk: &mut [u8], at: usize) {
    let checksum = crc32c(&disk[at + 32..at + 4096]);
    disk[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

#[test]
fn one_damaged_byte_is_noticed() {
    let volume = small();
    let mut disk = volume.bytes();
    let whole: Pairs = vec![(0, u64::try_from(disk.len()).unwrap())];
    for block in blocks(&volume).into_iter().chain([65536]) {
        for at in (0..4096).step_by(37).chain([0, 3, 4095]).filter(|at| !(4..32).contains(at)) {
            disk[block + at] ^= 0x10;
            assert_eq!(pairs(&survey_of(&disk).allocated), whole, "byte {at} of the block at {block}");
            disk[block + at] ^= 0x10;
        }
    }
    assert_ne!(pairs(&survey_of(&disk).allocated), whole);
}

#[test]
fn lies_with_valid_checksums_are_seen_by_the_other_side() {
    let volume = small();
    let mut disk = volume.bytes();
    let (mut proven, mut whole) = (0, 0);
    let all: Pairs = vec![(0, u64::try_from(disk.len()).unwrap())];
    for block in blocks(&volume).into_iter().chain([65536]) {
        for at in (32..4096).step_by(17) {
            for flip in [0x01, 0x80] {
                disk[block + at] ^= flip;
                seal(&mut disk, block);
                if pairs(&survey_of(&disk).allocated) == all {
                    whole += 1;
                } else {
                    proven += 1;
                }
                disk[block + at] ^= flip;
                seal(&mut disk, block);
            }
        }
    }
    // Much of what is in a block does not matter: times, reference counts, unused space.
    assert!(whole > 200 && proven > 200, "whole {whole}, proven {proven}");
}

#[test]
fn totals_protect_against_a_forgotten_extent() {
    let volume = small();
    let mut disk = volume.bytes();
    // An extent of data of more than one sector loses the last one. Not the first of the block: its key is in the node
    // above as well.
    let leaf = *blocks(&volume).last().unwrap();
    let count = usize::from(u16::from_le_bytes(disk[leaf + 96..leaf + 98].try_into().unwrap()));
    let long = |key: &usize| disk[*key + 8] == 168 && (disk[*key + 10] > 0x10 || disk[*key + 11] > 0);
    let key = (1..count).map(|item| leaf + 101 + 25 * item).find(long).unwrap();
    let shorter = u32::from_le_bytes(disk[key + 9..key + 13].try_into().unwrap()) - 4096;
    disk[key + 9..key + 13].copy_from_slice(&shorter.to_le_bytes());
    seal(&mut disk, leaf);
    let survey = survey_of(&disk);
    assert!(reason(&survey).contains("its block group says"), "{}", reason(&survey));
}

#[test]
fn a_newer_copy_of_the_superblock_is_not_ignored() {
    let volume = Volume::new(144, &[]);
    let mut disk = volume.bytes();
    let copy = 64 << 20;
    disk[copy + 0x48] += 1;
    seal(&mut disk, copy);
    assert_eq!(reason(&survey_of(&disk)), "a copy of the superblock is newer than the superblock");
    disk[copy + 0x48] -= 2;
    seal(&mut disk, copy);
    assert_eq!(pairs(&survey_of(&disk).allocated), volume.truth());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any change with valid checksums ends in an answer, and soon.
    #[test]
    fn anything_has_an_answer(changes in prop::collection::vec((any::<prop::sample::Index>(), 32_usize..4096, any::<[u8; 8]>()), 1..6)) {
        let volume = small();
        let places: Vec<usize> = blocks(&volume).into_iter().chain([65536]).collect();
        let mut disk = volume.bytes();
        for (which, at, bytes) in changes {
            let block = *which.get(&places);
            let end = (at + 8).min(4096);
            disk[block + at..block + end].copy_from_slice(&bytes[..end - at]);
            seal(&mut disk, block);
        }
        survey_of(&disk);
    }
}
