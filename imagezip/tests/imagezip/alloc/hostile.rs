//! Bytes that lie: never a panic, and never less allocated than there is.

use std::io;
use std::ops::Range;

use imagezip::alloc::{SurveyError, SurveyOptions, survey};
use imagezip::io::ReadAt;
use proptest::prelude::*;
use sigs::{ByteLen, ByteOffset};

use super::tools::{Image, Pairs, assert_well_formed, numbers, pairs, reason, run, survey_of};

/// Where the superblock, the descriptors and the bitmaps of the groups are.
fn metadata(image: &Image) -> Vec<Range<usize>> {
    let text = run("dumpe2fs", &[&image.text()]);
    let size = usize::try_from(image.block_size).unwrap();
    let place = |rest: &str| {
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        usize::try_from(numbers(&number).0).unwrap() * size
    };
    let descriptors = place(text.split_once("Group descriptors at ").unwrap().1);
    let bitmaps = text.split("Block bitmap at ").skip(1).map(|rest| place(rest)..place(rest) + size);
    [1024..2048, descriptors..descriptors + 3 * 64].into_iter().chain(bitmaps).collect()
}

/// Damages one byte after the other; returns how often the answer was still right, and how often it was "all".
fn damage_everywhere(image: &Image, flips: &[u8]) -> (u32, u32) {
    let truth = image.truth();
    let mut disk = image.bytes();
    let (mut same, mut whole) = (0, 0);
    for range in metadata(image) {
        for at in range {
            for flip in flips {
                disk[at] ^= flip;
                let found = pairs(&survey_of(&disk).allocated);
                disk[at] ^= flip;
                let everything: Pairs = vec![(0, u64::try_from(disk.len()).unwrap())];
                if found == truth {
                    same += 1;
                } else {
                    assert_eq!(found, everything, "byte {at} with {flip:#x}");
                    whole += 1;
                }
            }
        }
    }
    (same, whole)
}

#[test]
fn one_damaged_byte_is_noticed_or_does_not_matter() {
    let image = Image::new("ext4", 1024, 20_000, &[]);
    let (same, whole) = damage_everywhere(&image, &[0x01, 0x10, 0x80, 0xFF]);
    assert!(same == 0 && whole > 16_000, "same {same}, whole {whole}");
}

#[test]
fn one_damaged_bit_does_no_harm_without_checksums_of_bitmaps() {
    // Counts cannot see as many bits set as cleared: that much the old formats leave open.
    let flips = [0x01, 0x10, 0x80];
    for options in [["-O", "^metadata_csum,uninit_bg"], ["-O", "^metadata_csum"]] {
        let (same, whole) = damage_everywhere(&Image::new("ext4", 1024, 20_000, &options), &flips);
        assert!(same > 0 && whole > 4000, "same {same}, whole {whole}");
    }
    damage_everywhere(&Image::new("ext2", 1024, 20_000, &[]), &flips);
}

#[test]
fn a_bitmap_whose_count_is_right_but_not_its_bits_is_seen_by_its_checksum() {
    let image = Image::new("ext4", 1024, 20_000, &[]);
    let mut disk = image.bytes();
    let mut bits = metadata(&image).into_iter().skip(2).flatten();
    let at = bits.rfind(|at| !matches!(disk[*at], 0 | 0xFF)).unwrap();
    disk[at] = disk[at].rotate_left(1);
    let survey = survey_of(&disk);
    assert!(reason(&survey).starts_with("the checksum of the block bitmap of group"), "{}", reason(&survey));
}

#[test]
fn a_bitmap_without_its_padding_is_not_a_bitmap() {
    let image = Image::fresh("ext2", 1024, 20_000, &[]);
    let mut disk = image.bytes();
    let last = metadata(&image).pop().unwrap();
    disk[last.end - 1] &= 0xFE;
    assert_eq!(reason(&survey_of(&disk)), "the padding of the block bitmap of group 2 is not set");
}

#[test]
fn pointers_of_descriptors_go_where_they_can() {
    let image = Image::fresh("ext2", 1024, 20_000, &[]);
    let bitmap = metadata(&image)[3].start / 1024;
    image.debugfs(&format!("set_block_group 1 inode_bitmap {bitmap}\n"));
    assert_eq!(reason(&image.survey()), format!("two pieces of metadata share block {bitmap}"));
    image.debugfs("set_block_group 1 inode_bitmap 7\n");
    assert_eq!(reason(&image.survey()), "the descriptor of group 1 points to where its metadata cannot be");
}

#[test]
fn a_disk_of_any_length_has_an_answer() {
    let full = Image::fresh("ext4", 1024, 9000, &[]).bytes();
    for len in (0..5000).chain([8192, 65535, 65536, 131_072, 1 << 20]) {
        let disk = full[..len].to_vec();
        let survey = survey_of(&disk);
        let all: Pairs = if len == 0 { vec![] } else { vec![(0, u64::try_from(len).unwrap())] };
        assert_eq!(pairs(&survey.allocated), all);
    }
}

#[test]
fn raw_believes_nothing() {
    let disk = Image::fresh("ext4", 1024, 9000, &[]).bytes();
    let survey = survey(&disk, SurveyOptions { raw: true, ..SurveyOptions::default() }).unwrap();
    assert_eq!(pairs(&survey.allocated), [(0, u64::try_from(disk.len()).unwrap())]);
    assert_eq!(reason(&survey), "everything was asked for");
}

/// Some bytes at some place.
type Patch = (usize, Vec<u8>);

fn patches(len: usize) -> impl Strategy<Value = Vec<Patch>> {
    let place = prop_oneof![
        6 => 1024..1500_usize,
        3 => 2048..2600_usize,
        3 => 440..520_usize,
        2 => 4096..4300_usize,
        1 => 0..len,
    ];
    let number = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<u32>().prop_map(|number| number.to_le_bytes().to_vec()),
        (0..70_000_u32).prop_map(|number| number.to_le_bytes().to_vec()),
        Just(vec![0xFF; 4]),
        Just(vec![0xFF; 8]),
        Just(vec![0; 4]),
    ];
    prop::collection::vec((place, number), 1..6)
}

fn patched(mut disk: Vec<u8>, patches: &[Patch]) -> Vec<u8> {
    for (at, bytes) in patches {
        if let Some(place) = disk.get_mut(*at..*at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    disk
}

fn assert_any_answer(disk: &Vec<u8>) {
    let survey = survey(disk, SurveyOptions::default()).unwrap();
    assert_well_formed(&survey, u64::try_from(disk.len()).unwrap());
}

#[test]
fn file_systems_without_checksums_with_wild_numbers_do_not_panic() {
    for (kind, options) in [("ext2", ["-g", "256"]), ("ext4", ["-O", "^metadata_csum"])] {
        let image = Image::fresh(kind, 1024, 9000, &options).bytes();
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600));
        let result = runner.run(&patches(image.len()), |patches| {
            assert_any_answer(&patched(image.clone(), &patches));
            Ok(())
        });
        result.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn garbage_does_not_panic(
        mut disk in prop::collection::vec(any::<u8>(), 0..40_000),
        marks in prop::collection::vec(0..8_usize, 0..4),
    ) {
        const MARKS: [(usize, &[u8]); 8] = [
            (1024 + 56, b"\x53\xEF\x01\x00"),
            (510, b"\x55\xAA"),
            (446, &[0; 64]),
            (450, b"\xEE\xFF\xFF\xFF\x01\x00\x00\x00\xFF\xFF\xFF\xFF"),
            (512, b"EFI PART\x00\x00\x01\x00\x5C\x00\x00\x00"),
            (4096, b"EFI PART\x00\x00\x01\x00\x5C\x00\x00\x00"),
            (4086, b"SWAPSPACE2"),
            (462, b"\x00\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00\x10\x00\x00\x00"),
        ];
        for mark in marks {
            let (at, bytes) = MARKS[mark];
            if let Some(place) = disk.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        assert_any_answer(&disk);
    }
}

/// A disk that cannot be read from one place on.
#[derive(Debug)]
struct Broken {
    bytes: Vec<u8>,
    from: u64,
}

impl ReadAt for Broken {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        if offset.get() + ByteLen::of(buf).get() > self.from {
            return Err(io::Error::other("medium error"));
        }
        self.bytes.read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        ByteLen::of(&self.bytes)
    }
}

#[test]
fn only_reads_fail_and_say_where() {
    let image = Image::fresh("ext4", 1024, 20_000, &[]);
    let bitmap = metadata(&image).pop().unwrap();
    let from = u64::try_from(bitmap.end).unwrap() - 1;
    // Nothing is looked at behind the bitmaps but the marks of a RAID and of a GPT at the end, which come first.
    let disk = Broken { bytes: image.bytes(), from };
    let SurveyError::Read { offset, source } = survey(&disk, SurveyOptions::default()).unwrap_err();
    assert!(offset.get() + 4096 > disk.len().get(), "{offset}");
    assert_eq!(source.to_string(), "medium error");
    for from in [0, 511, 600, 1500, 3000, 5000, 65_536] {
        let disk = Broken { bytes: disk.bytes.clone(), from };
        let SurveyError::Read { offset, .. } = survey(&disk, SurveyOptions::default()).unwrap_err();
        assert!(offset.get() + 65_536 > from, "{offset} {from}");
    }
    let raw = survey(&Broken { bytes: vec![1; 100], from: 0 }, SurveyOptions { raw: true, ..SurveyOptions::default() })
        .unwrap();
    assert_eq!(pairs(&raw.allocated), [(0, 100)]);
}
