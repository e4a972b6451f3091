//! What of a disk is saved.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};

use super::disks::{MIB, comes_back, ext4, folder, noise, number, partition, restored, save, tool};
use crate::alloc::lvm::made::{Made, fill, linear};
use crate::alloc::tables::{LINUX, gpt};
use crate::command::{imagezip, ok};

/// What a run says on stderr.
fn said(folder: &std::path::Path, arguments: &[&str]) -> String {
    let output = imagezip(folder, arguments);
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn overlapping_partitions_are_saved_as_data() {
    let mut disk = noise(4 * MIB, 1);
    disk[..512].fill(0);
    partition(&mut disk, 0, 0, 0x83, 2048, 4000);
    partition(&mut disk, 0, 1, 0x83, 4096, 2000);
    comes_back(&disk);
    let folder = folder("a.img", &disk);
    assert!(said(folder.path(), &["map", "a.img"]).contains("partitions 1 and 2 overlap"));
}

#[test]
fn space_between_and_behind_partitions_comes_back() {
    let mut disk = vec![0; 24 * MIB];
    disk[MIB..MIB + 16 * MIB].copy_from_slice(&ext4(16, &[]));
    partition(&mut disk, 0, 0, 0x83, 2048, 32768);
    partition(&mut disk, 0, 1, 0x82, 40960, 2048);
    let before = comes_back(&disk);
    for (at, len) in [(512, MIB - 512), (17 * MIB, 3 * MIB), (21 * MIB, 3 * MIB)] {
        disk[at..at + len].copy_from_slice(&noise(len, 9));
    }
    let after = comes_back(&disk);
    assert!(number(&after["stored_bytes"]) > number(&before["stored_bytes"]) + (6 << 20));
}

#[test]
fn a_gpt_with_sectors_of_4096_bytes_is_a_disk_like_any() {
    for sector in [512, 4096] {
        let mut disk = vec![0; 24 * MIB];
        disk[2 * MIB..18 * MIB].copy_from_slice(&ext4(16, &[]));
        let in_sectors = |mib: usize| u64::try_from(mib * MIB / sector).unwrap();
        gpt(&mut disk, sector, &[(LINUX, in_sectors(2), in_sectors(18) - 1)]);
        let made = comes_back(&disk);
        assert!(number(&made["counts"]["free"]) > 2000, "{made}");
        let folder = folder("a.img", &disk);
        assert_eq!(ok(folder.path(), &["map", "a.img"])["sector_size"], sector);
    }
}

#[test]
fn a_disk_of_three_tebibytes_comes_back() {
    // A swap area of nearly all of it, which has no content, and data on both sides of 2 TiB.
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut disk = fs::File::create(at.join("a.img")).unwrap();
    let len = 3_u64 << 40;
    disk.set_len(len).unwrap();
    let mut header = vec![0; 4096];
    header[1024] = 1;
    header[1028..1032].copy_from_slice(&u32::try_from(len / 4096 - 257).unwrap().to_le_bytes());
    header[4086..].copy_from_slice(b"SWAPSPACE2");
    disk.write_all(&header).unwrap();
    let tail = noise(MIB, 3);
    disk.seek(SeekFrom::Start(len - u64::try_from(MIB).unwrap())).unwrap();
    disk.write_all(&tail).unwrap();
    let made = save(at, "a");
    assert_eq!(number(&made["counts"]["data"]), 257);
    // The new file is one hole, so there is nothing to do for free blocks.
    ok(at, &["restore", "a.zdi", "--to", "b.img", "--free", "keep"]);
    ok(at, &["verify", "a.zdi", "--against", "b.img"]);
    assert_eq!(fs::metadata(at.join("b.img")).unwrap().len(), len);
}

#[test]
fn a_logical_partition_is_an_image_of_its_own() {
    let mut disk = vec![0; 24 * MIB];
    let system = ext4(16, &[]);
    disk[2 * MIB..2 * MIB + 16 * MIB].copy_from_slice(&system);
    partition(&mut disk, 0, 0, 0x05, 2048, 40960);
    partition(&mut disk, MIB, 0, 0x83, 2048, 32768);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    ok(at, &["create", "a.img", "--partition", "5", "--out", "five.zdi"]);
    let alone = restored(at, &["five.zdi"]);
    assert_eq!(alone.len(), 16 * MIB);
    fs::write(at.join("five.img"), &alone).unwrap();
    tool("e2fsck", &["-f", "-n", &at.join("five.img").display().to_string()]);
    // Nothing was changed to fit: the allocated blocks are those of the partition, and of a bare file system as well.
    fs::write(at.join("bare.img"), &system).unwrap();
    assert_eq!(save(at, "bare")["root"], ok(at, &["hash", "five.img", "--out", "five.sig"])["root"]);
}

#[test]
fn an_unused_partition_costs_nothing() {
    let mut disk = vec![0; 32 * MIB];
    partition(&mut disk, 0, 0, 0x83, 2048, 40960);
    partition(&mut disk, 0, 1, 0x9F, 45056, 8192);
    let made = comes_back(&disk);
    assert_eq!(number(&made["counts"]["data"]), 1);
    assert!(number(&made["image_bytes"]) < 4096, "{made}");
    // An entry without a type is no partition, and what is there is kept.
    disk[20 * MIB] = 1;
    disk[450] = 0;
    disk[458..462].fill(0);
    comes_back(&disk);
}

#[test]
fn logical_volumes_are_looked_into() {
    let mut made = Made::new(30);
    let pieces = [(20, 8), (2, 8)];
    made.volume("root", linear(&pieces));
    let mut disk = made.disk();
    fill(&mut disk, &pieces, &ext4(16, &[]));
    let made = folder("a.img", &disk);
    let counts = &save(made.path(), "a")["counts"];
    // 14 MiB of no volume and most of the 16 of the file system.
    assert!(number(&counts["free"]) > 24 * 256, "{counts}");
    let map = ok(made.path(), &["map", "a.img"]);
    let evidence = &map["partitions"][0]["treatment"]["proven"]["evidence"];
    assert_eq!(evidence["volumes"][0]["content"], "ext4");
    fs::write(made.path().join("a.img"), restored(made.path(), &["a.zdi"])).unwrap();
    let again = ["create", "a.img", "--out", "a.zdi", "--sig-out", "a.sig", "--force"];
    assert_eq!(&ok(made.path(), &again)["counts"], counts);

    // A label alone is a doubt that is said aloud, and data.
    let mut disk = noise(4 * MIB, 5);
    disk[..4096].fill(0);
    disk[512..520].copy_from_slice(b"LABELONE");
    let folder = folder("a.img", &disk);
    let text = said(folder.path(), &["map", "a.img"]);
    assert!(text.contains("the label of the physical volume has a wrong checksum"), "{text}");
    comes_back(&disk);
}

#[test]
fn what_is_not_read_is_saved_and_said_aloud() {
    let marks: [(usize, &[u8], &str); 4] = [
        (0, b"LUKS\xba\xbe", "LUKS is encrypted"),
        (3, b"-FVE-FS-", "BitLocker is encrypted"),
        (4096, b"\xfc\x4e\x2b\xa9", "Linux RAID is not read"),
        (132 * 1024, b"\x0c\xb1\xba\x00\x00\x00\x00\x00", "ZFS is not read"),
    ];
    for (at, mark, says) in marks {
        let mut disk = noise(4 * MIB, 6);
        disk[..MIB].fill(0);
        partition(&mut disk, 0, 0, 0x83, 2048, 6144);
        let inside = MIB;
        disk[inside..inside + 300_000].fill(0);
        disk[inside + at..inside + at + mark.len()].copy_from_slice(mark);
        comes_back(&disk);
        let folder = folder("a.img", &disk);
        let text = said(folder.path(), &["create", "a.img", "--out", "a.zdi"]);
        assert!(text.contains(says) && text.contains("all 3.0 MiB of partition 1"), "{text}");
    }
}

#[test]
fn a_damaged_file_system_is_saved_as_data() {
    let mut disk = ext4(16, &[]);
    disk[1024 + 0x58] ^= 0xFF;
    comes_back(&disk);
    let folder = folder("a.img", &disk);
    let text = said(folder.path(), &["create", "a.img", "--out", "a.zdi"]);
    assert!(text.contains("counts as data: "), "{text}");
}

#[test]
fn ext4_of_64_bits_is_read() {
    let folder = folder("a.img", &ext4(16, &["-O", "64bit"]));
    assert!(number(&save(folder.path(), "a")["counts"]["free"]) > 2000);
}

#[test]
fn backups_in_uninitialised_groups_come_back() {
    // Groups of 8 MiB, nearly all of them never written to.
    let disk = ext4(64, &["-b", "1024", "-O", "^resize_inode", "-g", "8192"]);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    let uninitialised = tool("dumpe2fs", &[&at.join("a.img").display().to_string()]).matches("BLOCK_UNINIT").count();
    assert!(uninitialised > 2, "{uninitialised}");
    save(at, "a");
    fs::write(at.join("b.img"), restored(at, &["a.zdi"])).unwrap();
    let path = at.join("b.img").display().to_string();
    for backup in ["8193", "24577", "40961", "57345"] {
        tool("dumpe2fs", &["-h", "-o", &format!("superblock={backup}"), "-o", "blocksize=1024", &path]);
        tool("e2fsck", &["-f", "-n", &path]);
        let (first, len) = (backup.parse::<usize>().unwrap() * 1024, 3 * 1024);
        let now = fs::read(&path).unwrap();
        assert!(now[first..first + len] == disk[first..first + len], "the backup at {backup}");
    }
}
