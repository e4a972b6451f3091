//! Disks with partition tables. The bytes are made here; `partx` is the outside judge of where the partitions lie.

mod odd;
mod sfdisk;

use std::fs;

use imagezip::alloc::{Content, Survey, TableKind, Treatment, Window, partition_range};
use imagezip::io::ReadAt;
use sigs::ByteOffset;

use super::tools::{Image, Pairs, pairs, reason, run, survey_of};

const MIB: usize = 1 << 20;
pub(crate) const LINUX: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
pub(crate) const SWAP: [u8; 16] = *b"\x6d\xfd\x57\x06\xab\xa4\xc4\x43\x84\xe5\x09\x33\xc8\x4b\x4f\x4f";
pub(crate) const LVM: [u8; 16] = *b"\x79\xd3\xd6\xe6\x07\xf5\xc2\x44\xa2\x3c\x23\x8f\x2a\x3d\xf9\x28";

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

fn number(value: usize) -> u64 {
    u64::try_from(value).unwrap()
}

/// Writes entry `index` of a DOS table in the sector at byte `at`.
fn mbr_entry(disk: &mut [u8], at: usize, index: usize, kind: u8, first: u32, count: u32) {
    let entry = at + 446 + 16 * index;
    disk[entry + 4] = kind;
    put(disk, entry + 8, &first.to_le_bytes());
    put(disk, entry + 12, &count.to_le_bytes());
    put(disk, at + 510, &[0x55, 0xAA]);
}

pub(crate) type GptPartition = ([u8; 16], u64, u64);

/// Writes both copies of a GPT and the protective MBR.
pub(crate) fn gpt(disk: &mut [u8], sector: usize, partitions: &[GptPartition]) {
    mbr_entry(disk, 0, 0, 0xEE, 1, u32::MAX);
    let mut entries = vec![0; 128 * 128];
    for (index, (kind, first, last)) in partitions.iter().enumerate() {
        let at = index * 128;
        put(&mut entries, at, kind);
        put(&mut entries, at + 16, &[u8::try_from(index + 1).unwrap(); 16]);
        put(&mut entries, at + 32, &first.to_le_bytes());
        put(&mut entries, at + 40, &last.to_le_bytes());
    }
    let last = number(disk.len() / sector) - 1;
    let table = number(entries.len() / sector);
    for (own, other, place) in [(1, last, 2), (last, 1, last - table)] {
        let mut header = vec![0; 92];
        put(&mut header, 0, b"EFI PART\0\0\x01\0\x5C\0\0\0");
        for (at, value) in [(24, own), (32, other), (40, 2 + table), (48, last - table - 1), (72, place)] {
            put(&mut header, at, &value.to_le_bytes());
        }
        put(&mut header, 56, &[7; 16]);
        put(&mut header, 80, &128_u32.to_le_bytes());
        put(&mut header, 84, &128_u32.to_le_bytes());
        put(&mut header, 88, &crc32fast::hash(&entries).to_le_bytes());
        let crc = crc32fast::hash(&header);
        put(&mut header, 16, &crc.to_le_bytes());
        put(disk, usize::try_from(own).unwrap() * sector, &header);
        put(disk, usize::try_from(place).unwrap() * sector, &entries);
    }
}

/// What `partx` sees: number, start and end in bytes.
fn partx(disk: &[u8], sector: u64) -> Vec<(u32, u64, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, disk).unwrap();
    let size = sector.to_string();
    let text =
        run("partx", &["--raw", "--noheadings", "-S", &size, "-o", "NR,START,SECTORS", &path.display().to_string()]);
    let parse = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap());
        let mut next = || fields.next().unwrap();
        // The answer is in sectors of 512 bytes, whatever the sectors of the disk.
        let (number, first, count) = (next(), next() * 512, next() * 512);
        (u32::try_from(number).unwrap(), first, first + count)
    };
    text.lines().map(parse).collect()
}

fn places(survey: &Survey) -> Vec<(u32, u64, u64)> {
    let place =
        |p: &imagezip::alloc::PartitionReport| (p.number, p.range.start.get(), p.range.checked_end().unwrap().get());
    survey.partitions.iter().map(place).collect()
}

struct Sample {
    ext: Vec<u8>,
    truth: Pairs,
}

fn sample() -> Sample {
    let image = Image::new("ext4", 1024, 18_000, &[]);
    Sample { ext: image.bytes(), truth: image.truth() }
}

/// The sample at 2 MiB, in a partition of 20 MiB, with swap of 4 MiB at 24 MiB: 30 MiB in all.
fn disk_with(sample: &Sample) -> Vec<u8> {
    let mut disk = vec![0x11; 30 * MIB];
    disk[..MIB].fill(0);
    disk[29 * MIB..].fill(0);
    put(&mut disk, 2 * MIB, &vec![0; 20 * MIB]);
    put(&mut disk, 2 * MIB, &sample.ext);
    put(&mut disk, 24 * MIB, &vec![0; 4 * MIB]);
    put(&mut disk, 24 * MIB + 1024, &1_u32.to_le_bytes());
    put(&mut disk, 24 * MIB + 1028, &1023_u32.to_le_bytes());
    put(&mut disk, 24 * MIB + 4086, b"SWAPSPACE2");
    disk
}

/// What is allocated on that disk: all but the free space of the sample and the pages of the swap area.
fn expected(sample: &Sample) -> Pairs {
    let mut merged: Pairs = vec![(0, number(2 * MIB))];
    let shifted = sample.truth.iter().map(|(start, end)| (start + number(2 * MIB), end + number(2 * MIB)));
    let rest = [(number(2 * MIB + sample.ext.len()), number(24 * MIB + 4096)), (number(28 * MIB), number(30 * MIB))];
    for (start, end) in shifted.chain(rest) {
        match merged.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn assert_expected(disk: &Vec<u8>, sample: &Sample, kinds: [&str; 2]) -> Survey {
    let survey = survey_of(disk);
    assert_eq!(pairs(&survey.allocated), expected(sample));
    let found: Vec<_> = survey.partitions.iter().map(|p| (p.kind.as_str(), p.content)).collect();
    assert_eq!(found, [(kinds[0], Content::Ext4), (kinds[1], Content::Swap)]);
    assert!(survey.partitions.iter().all(|p| matches!(p.treatment, Treatment::Proven { .. })));
    survey
}

fn in_sectors(mib: usize, sector: usize) -> u64 {
    number(mib * MIB / sector)
}

fn gpt_disk(sample: &Sample, sector: usize) -> Vec<u8> {
    let mut disk = disk_with(sample);
    let partitions = [
        (LINUX, in_sectors(2, sector), in_sectors(22, sector) - 1),
        (SWAP, in_sectors(24, sector), in_sectors(28, sector) - 1),
    ];
    gpt(&mut disk, sector, &partitions);
    disk
}

#[test]
fn gpt_with_sectors_of_both_sizes() {
    let sample = sample();
    for sector in [512_usize, 4096] {
        let disk = gpt_disk(&sample, sector);
        let survey = assert_expected(&disk, &sample, ["linux", "linux-swap"]);
        assert_eq!(survey.table, TableKind::Gpt);
        assert_eq!(number(sector), u64::from(survey.sector_size.bytes()));
        assert_eq!(places(&survey), partx(&disk, number(sector)));

        let text = serde_json::to_string(&survey).unwrap();
        assert_eq!(serde_json::from_str::<Survey>(&text).unwrap(), survey);
    }
}

#[test]
fn the_backup_is_used_when_the_primary_is_bad_and_said_so() {
    let sample = sample();
    for sector in [512_usize, 4096] {
        for (at, says) in [(sector + 60, "checksum of its header"), (2 * sector + 33, "checksum of its entries")] {
            let mut disk = gpt_disk(&sample, sector);
            disk[at] ^= 1;
            let survey = assert_expected(&disk, &sample, ["linux", "linux-swap"]);
            let TableKind::GptBackup { primary } = &survey.table else { panic!("{:?}", survey.table) };
            assert!(primary.contains(says), "{primary}");
            assert_eq!(places(&survey), partx(&disk, number(sector)));
        }
        let mut disk = gpt_disk(&sample, sector);
        let len = disk.len();
        disk[sector + 60] ^= 1;
        disk[len - sector + 60] ^= 1;
        assert!(reason(&survey_of(&disk)).contains("neither of its copies is valid"));
    }
}

#[test]
fn a_bad_backup_does_not_matter() {
    let sample = sample();
    let mut disk = gpt_disk(&sample, 512);
    let len = disk.len();
    disk[len - 512..].fill(0x22);
    assert_expected(&disk, &sample, ["linux", "linux-swap"]);
}

fn mbr_disk(sample: &Sample) -> Vec<u8> {
    let mut disk = disk_with(sample);
    mbr_entry(&mut disk, 0, 0, 0x83, 4096, 40960);
    mbr_entry(&mut disk, 0, 2, 0x82, 49152, 8192);
    disk
}

#[test]
fn primary_partitions() {
    let sample = sample();
    let disk = mbr_disk(&sample);
    let survey = assert_expected(&disk, &sample, ["linux", "linux-swap"]);
    assert_eq!(survey.table, TableKind::Mbr);
    assert_eq!(places(&survey), partx(&disk, 512));
}

fn logical_disk(sample: &Sample) -> Vec<u8> {
    let mut disk = disk_with(sample);
    // The extended partition begins at 1 MiB and ends with the disk; the second link is at 23 MiB.
    mbr_entry(&mut disk, 0, 1, 0x05, 2048, 59392);
    disk[MIB..MIB + 512].fill(0);
    disk[23 * MIB..23 * MIB + 512].fill(0);
    mbr_entry(&mut disk, MIB, 0, 0x83, 2048, 40960);
    mbr_entry(&mut disk, MIB, 1, 0x05, 45056, 10240);
    mbr_entry(&mut disk, 23 * MIB, 0, 0x82, 2048, 8192);
    disk
}

#[test]
fn logical_partitions() {
    let sample = sample();
    let disk = logical_disk(&sample);
    let survey = assert_expected(&disk, &sample, ["linux", "linux-swap"]);
    let expected: Vec<_> = partx(&disk, 512).into_iter().filter(|(number, ..)| *number > 4).collect();
    assert_eq!(places(&survey), expected);
    assert_eq!(survey.partitions[0].number, 5);

    let range = partition_range(&disk, 6).unwrap().unwrap();
    assert_eq!(pairs([range]), [(number(24 * MIB), number(28 * MIB))]);
    let window = Window::new(&disk, range).unwrap();
    let mut signature = [0; 10];
    window.read_exact_at(&mut signature, ByteOffset::new(4086)).unwrap();
    assert_eq!(&signature, b"SWAPSPACE2");
    assert_eq!(pairs([partition_range(&disk, 0).unwrap().unwrap()]), [(0, number(30 * MIB))]);
    assert_eq!(partition_range(&disk, 7).unwrap(), None);
    assert_eq!(partition_range(&disk, 2).unwrap(), None);
}

#[test]
fn broken_chains_make_the_disk_data() {
    let sample = sample();
    let said = |change: &dyn Fn(&mut [u8])| {
        let mut disk = logical_disk(&sample);
        change(&mut disk);
        let survey = survey_of(&disk);
        assert!(matches!(survey.table, TableKind::Doubtful { .. }));
        assert_eq!(partition_range(&disk, 5).unwrap(), None);
        reason(&survey).to_owned()
    };
    let second = 23 * MIB;
    assert!(said(&|disk| mbr_entry(disk, second, 1, 0x05, 45056, 100)).contains("a loop or too long"));
    assert!(said(&|disk| mbr_entry(disk, second, 1, 0x05, 1_000_000, 100)).contains("at sector 1002048"));
    assert!(said(&|disk| disk[second + 510] = 0).contains("at sector 47104"));
    assert!(said(&|disk| disk[second + 446] = 3).contains("at sector 47104"));
    assert!(said(&|disk| mbr_entry(disk, second, 2, 0x83, 1, 1)).contains("at sector 47104"));
    assert!(said(&|disk| mbr_entry(disk, second, 0, 0x82, 2048, 20000)).contains("partition 6 lies where"));
    assert!(said(&|disk| mbr_entry(disk, 0, 2, 0x0f, 100, 10)).contains("more than one extended"));
    assert!(said(&|disk| mbr_entry(disk, 0, 0, 0x83, 3000, 10)).contains("partitions 1 and 2 overlap"));
    // A logical partition that covers the link behind it.
    assert!(said(&|disk| mbr_entry(disk, MIB, 0, 0x83, 2048, 43009)).contains("partition 5 lies where"));
}

#[test]
fn impossible_places_make_the_disk_data() {
    let sample = sample();
    let mbr = |index, kind, first, count| {
        let mut disk = mbr_disk(&sample);
        mbr_entry(&mut disk, 0, index, kind, first, count);
        reason(&survey_of(&disk)).to_owned()
    };
    assert_eq!(mbr(1, 0x83, 45055, 1000), "partitions 1 and 2 overlap");
    assert_eq!(mbr(1, 0x83, 60000, 5000), "partition 2 lies where no partition can be");
    assert_eq!(mbr(1, 0x83, 0, 100), "partition 2 lies where no partition can be");
    assert_eq!(mbr(1, 0x83, u32::MAX, u32::MAX), "partition 2 lies where no partition can be");
    assert_eq!(mbr(1, 0x00, 100, 100), "partition 2 has a size but no type");
    let gpt_of = |partitions: &[GptPartition]| {
        let mut disk = disk_with(&sample);
        gpt(&mut disk, 512, partitions);
        reason(&survey_of(&disk)).to_owned()
    };
    assert_eq!(gpt_of(&[(LINUX, 4096, 9000), (LINUX, 9000, 9100)]), "partitions 1 and 2 overlap");
    assert_eq!(gpt_of(&[(LINUX, 4096, u64::MAX)]), "partition 1 lies where no partition can be");
    assert_eq!(gpt_of(&[(LINUX, 9000, 4096)]), "partition 1 lies where no partition can be");
    assert_eq!(gpt_of(&[(LINUX, 2, 4096)]), "partition 1 lies where no partition can be");
}

#[test]
fn contradictory_tables_make_the_disk_data() {
    let sample = sample();
    let said = |disk: &Vec<u8>| reason(&survey_of(disk)).to_owned();

    let mut hybrid = gpt_disk(&sample, 512);
    mbr_entry(&mut hybrid, 0, 1, 0x83, 4096, 40959);
    let disagree = "the partition table is a hybrid of MBR and GPT, which disagree on partition 2 of the MBR";
    assert_eq!(said(&hybrid), disagree);

    let mut unprotected = gpt_disk(&sample, 512);
    mbr_entry(&mut unprotected, 0, 0, 0x83, 4096, 40960);
    assert_eq!(said(&unprotected), "there is a GPT without a protective MBR");
    unprotected[..512].fill(0);
    assert_eq!(said(&unprotected), "there is a GPT without a protective MBR");
    unprotected[..MIB].fill(0);
    assert_eq!(said(&unprotected), "there is a GPT without a protective MBR");

    let mut both_sizes = gpt_disk(&sample, 512);
    let header = gpt_disk(&sample, 4096)[4096..8192].to_vec();
    let entries = gpt_disk(&sample, 4096)[8192..8192 + 16384].to_vec();
    // Room for the second header: the entries of the first one move out of its way.
    put(&mut both_sizes, 32768, &entries);
    let mut first = both_sizes[512..604].to_vec();
    put(&mut first, 72, &2000_u64.to_le_bytes());
    put(&mut first, 16, &[0; 4]);
    let crc = crc32fast::hash(&first);
    put(&mut first, 16, &crc.to_le_bytes());
    let moved = both_sizes[1024..1024 + 16384].to_vec();
    put(&mut both_sizes, 2000 * 512, &moved);
    put(&mut both_sizes, 512, &first);
    put(&mut both_sizes, 4096, &header);
    put(&mut both_sizes, 8192, &entries);
    assert_eq!(said(&both_sizes), "there are GPTs for two sector sizes");

    let mut differ = gpt_disk(&sample, 512);
    let mut other = disk_with(&sample);
    gpt(&mut other, 512, &[(LINUX, 4096, 45056)]);
    let len = differ.len();
    let backup = other[len - 33 * 512..].to_vec();
    put(&mut differ, len - 33 * 512, &backup);
    assert_eq!(said(&differ), "the two copies of the GPT differ");

    let mut also_whole = mbr_disk(&sample);
    let superblock = sample.ext[1024..2048].to_vec();
    put(&mut also_whole, 1024, &superblock);
    assert_eq!(said(&also_whole), "there is a partition table, and ext4 that covers the whole disk");

    let mut bare = sample.ext.clone();
    put(&mut bare, 440, &[0x90; 70]);
    put(&mut bare, 510, &[0x55, 0xAA]);
    assert_eq!(said(&bare), "it carries the marks of a partition table and of ext4");
}

#[test]
fn a_bare_file_system_may_have_a_boot_sector() {
    let sample = sample();
    let mut disk = sample.ext.clone();
    disk[..440].fill(0x90);
    put(&mut disk, 510, &[0x55, 0xAA]);
    let survey = survey_of(&disk);
    assert_eq!(survey.table, TableKind::None);
    assert_eq!(pairs(&survey.allocated), sample.truth);
}

#[test]
fn a_partition_that_belongs_to_somebody_else_is_whole() {
    let sample = sample();
    let mut disk = disk_with(&sample);
    gpt(&mut disk, 512, &[(LVM, 4096, 45055)]);
    assert_eq!(reason(&survey_of(&disk)), "the partition table calls it \"linux-lvm\", but it holds ext4");
    let mut disk = disk_with(&sample);
    mbr_entry(&mut disk, 0, 0, 0x82, 4096, 40960);
    assert_eq!(reason(&survey_of(&disk)), "the partition table calls it \"linux-swap\", but it holds ext4");
}

#[test]
fn others_are_recognised_and_taken_whole() {
    let marks: &[(usize, &[u8], Content)] = &[
        (0, b"LUKS\xba\xbe", Content::Luks),
        (0, b"XFSB", Content::Xfs),
        (65600, b"_BHRfS_M", Content::Btrfs),
        (3, b"NTFS    ", Content::Ntfs),
        (82, b"FAT32   ", Content::Fat),
        (54, b"FAT16   ", Content::Fat),
        (4096, b"\xfc\x4e\x2b\xa9", Content::Md),
        (MIB - 65536, b"\xfc\x4e\x2b\xa9", Content::Md),
        (MIB - 8192, b"\xfc\x4e\x2b\xa9", Content::Md),
        (132 * 1024, b"\x0c\xb1\xba\x00\x00\x00\x00\x00", Content::Zfs),
        (3, b"ReFS\0\0\0\0", Content::Refs),
        (32769, b"BEA01", Content::Udf),
        (8192, b"OCFSV2", Content::Ocfs2),
        (65536, b"\x01\x16\x19\x70\x00\x00\x00\x01", Content::Gfs2),
        (65536, b"ReIsEr4", Content::Reiser4),
        (4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", Content::Bcachefs),
        (32, b"ORCLDISK", Content::Asm),
        (0, b"verity\x00\x00", Content::Verity),
        (0, b"dmvdo001", Content::Vdo),
    ];
    for (at, magic, content) in marks {
        let mut disk = vec![0; MIB];
        put(&mut disk, *at, magic);
        put(&mut disk, 510, &[0x55, 0xAA]);
        let survey = survey_of(&disk);
        assert_eq!(survey.partitions[0].content, *content);
        let says = match content {
            Content::Luks => "LUKS is encrypted".to_owned(),
            Content::Md | Content::Zfs => format!("{content} is not read"),
            // A mark alone is no file system.
            _ => String::new(),
        };
        assert!(reason(&survey).contains(&says), "{}", reason(&survey));
    }
    // The same marks around a stale ext superblock.
    let sample = sample();
    for (at, magic, content) in marks.iter().filter(|(at, ..)| *at < MIB - 65536) {
        let mut disk = sample.ext.clone();
        put(&mut disk, *at, magic);
        let text = format!("it carries the marks of {content} and of ext4");
        assert_eq!(reason(&survey_of(&disk)), text);
    }
    assert_eq!(reason(&survey_of(&vec![0_u8; MIB])), "nothing known is in it");
}
