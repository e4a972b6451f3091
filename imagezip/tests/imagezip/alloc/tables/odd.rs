//! Tables that are unusual and valid, and marks of owners beside them.

use imagezip::alloc::{Content, TableKind, Treatment};

use super::super::tools::{pairs, reason, survey_of};
use super::*;

/// From `sfdisk --label gpt --list-types`.
const ROOT_X86_64: [u8; 16] = *b"\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09";
const ROOT_X86_64_VERITY: [u8; 16] = *b"\xed\x57\x73\x2c\xd2\xeb\xd9\x46\xae\xc1\x23\xd4\x37\xec\x2b\xf5";
const BASIC_DATA: [u8; 16] = *b"\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7";
const BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";

#[test]
fn a_hybrid_whose_parts_agree_is_believed_and_the_stricter_type_counts() {
    let sample = sample();
    let mut disk = gpt_disk(&sample, 512);
    mbr_entry(&mut disk, 0, 1, 0x83, 4096, 40960);
    // A second protective entry, as `gdisk` writes one behind the partitions.
    mbr_entry(&mut disk, 0, 2, 0xEE, 57344, 100);
    let survey = assert_expected(&disk, &sample, ["linux", "linux-swap"]);
    assert_eq!(survey.table, TableKind::Gpt);
    mbr_entry(&mut disk, 0, 1, 0xA5, 4096, 40960);
    let survey = survey_of(&disk);
    assert!(matches!(survey.partitions[0].treatment, Treatment::Whole { .. }));
    assert!(matches!(survey.partitions[1].treatment, Treatment::Proven { .. }));
}

#[test]
fn a_link_may_stand_before_its_partition() {
    let sample = sample();
    let mut disk = logical_disk(&sample);
    // The first table: the link in entry 0, the partition in entry 1.
    mbr_entry(&mut disk, MIB, 1, 0x83, 2048, 40960);
    mbr_entry(&mut disk, MIB, 0, 0x05, 45056, 10240);
    let survey = assert_expected(&disk, &sample, ["linux", "linux-swap"]);
    let expected: Vec<_> = partx(&disk, 512).into_iter().filter(|(number, ..)| *number > 4).collect();
    assert_eq!(places(&survey), expected);
}

#[test]
fn types_decide_whether_a_proven_file_system_is_believed() {
    let sample = sample();
    let of = |kind: [u8; 16], second: [u8; 16]| {
        let mut disk = disk_with(&sample);
        gpt(&mut disk, 512, &[(kind, 4096, 45055), (second, 49152, 57343)]);
        let mut partitions = survey_of(&disk).partitions;
        assert_eq!(partitions[0].content, Content::Ext4);
        partitions.remove(0).treatment
    };
    for kind in [LINUX, BASIC_DATA, ROOT_X86_64] {
        assert!(matches!(of(kind, SWAP), Treatment::Proven { .. }));
    }
    for kind in [BIOS_BOOT, LVM, SWAP, [0x5A; 16]] {
        let Treatment::Whole { reason } = of(kind, SWAP) else { panic!("{kind:?} is believed") };
        assert!(reason.ends_with("but it holds ext4"), "{reason}");
    }
    // A partition of hashes knows of every free block of its root, though not of those of other partitions.
    let Treatment::Whole { reason } = of(ROOT_X86_64, ROOT_X86_64_VERITY) else { panic!("hashed and believed") };
    assert_eq!(reason, "the disk has a partition of hashes that may cover its free blocks too");
    assert!(matches!(of(LINUX, ROOT_X86_64_VERITY), Treatment::Proven { .. }));
}

#[test]
fn entries_of_256_bytes() {
    let sample = sample();
    let mut disk = gpt_disk(&sample, 512);
    let entries: Vec<u8> =
        disk[1024..1024 + 64 * 128].chunks(128).flat_map(|entry| [entry, &[0; 128]].concat()).collect();
    let len = disk.len();
    for (header, place) in [(512, 1024), (len - 512, len - 33 * 512)] {
        put(&mut disk, place, &entries);
        put(&mut disk, header + 80, &64_u32.to_le_bytes());
        put(&mut disk, header + 84, &256_u32.to_le_bytes());
        put(&mut disk, header + 88, &crc32fast::hash(&entries).to_le_bytes());
        put(&mut disk, header + 16, &[0; 4]);
        let crc = crc32fast::hash(&disk[header..header + 92]);
        put(&mut disk, header + 16, &crc.to_le_bytes());
    }
    // No judge here: Linux and `partx` take no entries but those of 128 bytes, though the format allows them.
    assert_expected(&disk, &sample, ["linux", "linux-swap"]);
}

#[test]
fn a_table_beside_the_mark_of_an_owner_of_the_whole_disk_is_not_believed() {
    let sample = sample();
    let len = 30 * MIB;
    let marks: &[(usize, &[u8], Content)] = &[
        (65600, b"_BHRfS_M", Content::Btrfs),
        (16384, b"SKUL\xba\xbe", Content::Luks),
        (512, b"\x57\x45\x56\x82", Content::BsdLabel),
        (1024, b"LABELONE", Content::Lvm2),
        (4096, b"\xfc\x4e\x2b\xa9", Content::Md),
        (len - 65536, b"\xfc\x4e\x2b\xa9", Content::Md),
        (len - 8192, b"\xfc\x4e\x2b\xa9", Content::Md),
        (132 * 1024, b"\x0c\xb1\xba\x00\x00\x00\x00\x00", Content::Zfs),
    ];
    for (at, magic, content) in marks {
        let mut disk = mbr_disk(&sample);
        put(&mut disk, *at, magic);
        let says = format!("there is a partition table, and {content} that covers the whole disk");
        assert_eq!(reason(&survey_of(&disk)), says);
    }
}

#[test]
fn a_raid_in_the_last_partition_is_not_one_of_the_whole_disk() {
    let sample = sample();
    let mut disk = mbr_disk(&sample);
    mbr_entry(&mut disk, 0, 3, 0xFD, 57344, 4096);
    put(&mut disk, 30 * MIB - 65536, b"\xfc\x4e\x2b\xa9");
    let survey = survey_of(&disk);
    let found: Vec<_> = survey.partitions.iter().map(|partition| partition.content).collect();
    assert_eq!(found, [Content::Ext4, Content::Swap, Content::Md]);
    assert_eq!(pairs(&survey.allocated), expected(&sample));
}

#[test]
fn beside_a_hibernation_image_nothing_is_free() {
    let sample = sample();
    let mut disk = mbr_disk(&sample);
    put(&mut disk, 24 * MIB + 4086, b"S1SUSPEND\0");
    let survey = survey_of(&disk);
    let says = "the disk holds a hibernation image, and its machine may know of more in use than is on the disk";
    assert_eq!(survey.partitions[0].content, Content::Ext4);
    assert_eq!(survey.partitions[0].treatment, Treatment::Whole { reason: says.to_owned() });
    assert_eq!(pairs(&survey.allocated), [(0, number(disk.len()))]);
}
