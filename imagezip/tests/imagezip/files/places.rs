//! Which file system is meant, and what was never saved of it.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::Path;

use imagezip::capture::{BadSectors, CaptureOptions};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use sigs::{ByteLen, ByteOffset, ByteRange};

use super::made::{cat, make, partly, save, tool, tree};
use crate::alloc::lvm::made::{Made, fill, linear};
use crate::alloc::tables::{LINUX, LVM, SWAP, gpt};
use crate::command::fails;
use crate::support::{Noise, make_from};

const MIB: usize = 1 << 20;

/// Makes `disk` a table with these partitions, each of a kind and with the bytes that are in it.
fn partitions(at: &Path, parts: &[([u8; 16], &[u8])]) {
    let (mut disk, mut places) = (vec![0; MIB], Vec::new());
    let sector = |bytes: usize| u64::try_from(bytes / 512).unwrap();
    for (kind, bytes) in parts {
        places.push((*kind, sector(disk.len()), sector(disk.len() + bytes.len()) - 1));
        disk.extend_from_slice(bytes);
    }
    disk.resize(disk.len() + MIB, 0);
    gpt(&mut disk, 512, &places);
    fs::write(at.join("disk"), disk).unwrap();
}

fn swap(at: &Path) -> Vec<u8> {
    fs::write(at.join("swap"), vec![0; 2 * MIB]).unwrap();
    tool("mkswap", &["-q".as_ref(), at.join("swap").as_os_str()]);
    fs::read(at.join("swap")).unwrap()
}

#[test]
fn the_only_file_system_is_taken_and_of_several_one_has_to_be_named() {
    let folder = tree();
    let at = folder.path();
    let one = fs::read(make(at, &["-t", "ext4"])).unwrap();
    partitions(at, &[(SWAP, &swap(at)), (LINUX, &one)]);
    save(at);
    assert_eq!(cat(at, &["disk.zdi"], "/etc/hosts".as_ref()), b"127.0.0.1 localhost\n");
    let message = fails(at, &["ls", "disk.zdi", "--partition", "1"], 1);
    assert!(message.contains("partition 1 holds swap") && message.contains("imagezip export"), "{message}");
    let message = fails(at, &["ls", "disk.zdi", "--partition", "3"], 2);
    assert!(message.contains("no partition 3; the disk has partition 1: swap, partition 2: ext4"), "{message}");

    fs::write(at.join("source/etc/hosts"), "another").unwrap();
    let two = fs::read(make(at, &["-t", "ext2"])).unwrap();
    partitions(at, &[(LINUX, &one), (LINUX, &two)]);
    fs::remove_file(at.join("disk.zdi")).unwrap();
    save(at);
    let message = fails(at, &["ls", "disk.zdi"], 2);
    assert!(
        message.contains("2 of its places") && message.contains("partition 1: ext4, partition 2: ext2"),
        "{message}"
    );
    let (hosts, _) = partly(at, &["cat", "disk.zdi", "--path", "/etc/hosts", "--partition", "2"], 0);
    assert_eq!(hosts, "another");
}

#[test]
fn logical_volumes() {
    let folder = tree();
    let at = folder.path();
    let root = fs::read(make(at, &["-t", "ext4"])).unwrap();
    let (mut group, pieces) = (Made::new(40), [(12, 8), (0, 4), (24, 4)]);
    group.volume("root", linear(&pieces));
    group.volume("more", linear(&[(36, 4)]));
    let mut physical = group.disk();
    fill(&mut physical, &pieces, &root);
    partitions(at, &[(LVM, &physical)]);
    save(at);
    assert_eq!(cat(at, &["disk.zdi"], "/etc/hosts".as_ref()), b"127.0.0.1 localhost\n");
    let (_, said) = partly(at, &["ls", "disk.zdi", "--volume", "none/such"], 2);
    assert!(said.contains("no volume none/such") && said.contains("volume g/root: ext4"), "{said}");
}

#[test]
fn only_who_reads_bad_sectors_is_told() {
    let folder = tree();
    let at = folder.path();
    let bytes = fs::read(make(at, &["-t", "ext4", "-b", "4096"])).unwrap();
    let mut content = vec![0; 4096];
    Noise(77).fill(&mut content);
    // The first block of the large file, which begins like the others.
    let mut second = vec![0; 8192];
    Noise(77).fill(&mut second);
    let place = bytes.chunks(4096).position(|block| block == &second[4096..]).unwrap();
    let bad = ByteRange { start: ByteOffset::new(u64::try_from(place).unwrap() * 4096), len: ByteLen::new(512) };
    let disk = MemoryDisk::new(bytes);
    disk.fail_reads(bad, None);
    let options = CaptureOptions { bad_sectors: BadSectors::List { most: 10 }, ..CaptureOptions::default() };
    fs::write(at.join("disk.zdi"), make_from(&disk, &Layout::whole(&disk), &[], options).unwrap().image).unwrap();
    partly(at, &["ls", "disk.zdi", "-lR"], 0);
    partly(at, &["cat", "disk.zdi", "--path", "/etc/hosts"], 0);
    let (_, said) = partly(at, &["cat", "disk.zdi", "--path", "/etc/deep/large"], 3);
    assert!(said.contains("1 unreadable sectors at offset") && said.contains("incomplete"), "{said}");
    let (_, said) = partly(at, &["cp", "disk.zdi", "--path", "/etc", "-r", "--to", "etc"], 3);
    assert!(said.contains("incomplete"), "{said}");
}
