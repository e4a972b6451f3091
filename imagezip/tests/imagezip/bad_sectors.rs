//! Disks some of whose sectors cannot be read: everything else is saved, and exactly those are listed.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use imagezip::alloc::{SurveyOptions, Treatment, Unreadable, survey};
use imagezip::capture::{BadSectors, CaptureError, CaptureOptions, hash};
use imagezip::image::Chain;
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::{FreePolicy, Verdict};
use imagezip::verify::verify_content;
use proptest::prelude::*;
use sigs::{BlockSize, ByteLen, ByteOffset, ByteRange};

use crate::mounted::Mount;
use crate::skips::skip;
use crate::support::{Made, Noise, THREADS, controlled, layout, make_from, make_whole, open, restore_to};

const SECTOR: usize = 512;

fn range(start: usize, len: usize) -> ByteRange {
    let number = |value: usize| u64::try_from(value).unwrap();
    ByteRange { start: ByteOffset::new(number(start)), len: ByteLen::new(number(len)) }
}

fn noise(len: usize) -> Vec<u8> {
    let mut disk = vec![0; len];
    Noise(5).fill(&mut disk);
    disk
}

fn listing(most: u64) -> CaptureOptions<'static> {
    CaptureOptions { bad_sectors: BadSectors::List { most }, ..CaptureOptions::default() }
}

fn list(disk: &MemoryDisk, most: u64) -> Result<Made, CaptureError> {
    make_from(disk, &Layout::whole(disk), &[], listing(most))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", with_causes(cause)))
}

#[test]
fn a_bad_sector_is_listed_its_neighbours_are_saved_and_the_image_is_incomplete() {
    let bytes = noise((2 << 20) + 700);
    let disk = MemoryDisk::new(bytes.clone());
    // In the middle, across a chunk border, and the short last one.
    let bad = [range(51_200, 512), range((1 << 20) - 512, 1024), range((2 << 20) + 512, 188)];
    bad.iter().for_each(|range| disk.fail_reads(*range, None));
    let made = list(&disk, 100).unwrap();
    let manifest = &made.captured.manifest;
    assert_eq!(manifest.bad_sectors(), bad);
    assert!(!manifest.is_complete());

    let chain = open(&made.image, &[]).unwrap();
    controlled(|control| verify_content(&chain, THREADS, control)).unwrap();
    let target = MemoryDisk::new(vec![9; bytes.len()]);
    let report = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    assert_eq!((report.verdict, report.bad_sectors.as_slice()), (Verdict::Incomplete, &bad[..]));
    let mut wanted = bytes;
    for range in bad {
        let start = usize::try_from(range.start.get()).unwrap();
        wanted[start..start + range.len.to_usize().unwrap()].fill(0);
    }
    assert!(target.content() == wanted);
}

#[test]
fn what_comes_at_another_try_is_not_bad() {
    let bytes = noise(1 << 20);
    let disk = MemoryDisk::new(bytes.clone());
    disk.fail_reads(range(100_000, 1), Some(1));
    let made = list(&disk, 100).unwrap();
    assert!(made.captured.manifest.is_complete());
    assert_eq!(made.captured.target_root, make_whole(&bytes, &[]).captured.target_root);
    let healthy = MemoryDisk::new(bytes.clone());
    list(&healthy, 100).unwrap();
    assert_eq!(disk.reads(), healthy.reads() + 1, "one more for the one that failed");
    let refusing = MemoryDisk::new(bytes.clone());
    refusing.fail_reads(range(100_000, 1), Some(3));
    let same = make_from(&refusing, &Layout::whole(&refusing), &[], CaptureOptions::default()).unwrap();
    assert_eq!(same.captured.target_root, made.captured.target_root);
}

#[test]
fn retries_are_bounded() {
    let disk = MemoryDisk::new(noise(1 << 20));
    disk.fail_reads(range(0, 1 << 20), None);
    let made = list(&disk, 2048).unwrap();
    assert_eq!(made.captured.manifest.bad_sectors(), [range(0, 1 << 20)]);
    // Each of 2,048 sectors three times, each of the 2,047 larger pieces once, the first read, and a look for a table.
    assert_eq!(disk.reads(), 2048 * 3 + 2047 + 1 + 1);
}

#[test]
fn the_library_refuses_unless_told_otherwise_and_names_the_first_sector() {
    let disk = MemoryDisk::new(noise(1 << 20));
    disk.fail_reads(range(51_300, 1), None);
    disk.fail_reads(range(600_000, 1), None);
    let error = make_from(&disk, &Layout::whole(&disk), &[], CaptureOptions::default()).unwrap_err();
    assert!(matches!(error, CaptureError::Read { .. }), "{error}");
    assert!(with_causes(&error).contains("the sector at offset 51200 cannot be read"), "{}", with_causes(&error));
    // A signature has no place for a list.
    let layout = Layout::whole(&disk);
    let hashed = controlled(|control| hash(&disk, &layout, &listing(10), &mut Vec::new(), control)).unwrap_err();
    assert!(with_causes(&hashed).contains("51200"), "{}", with_causes(&hashed));
}

#[test]
fn a_disk_that_is_lost_is_no_list_of_bad_sectors() {
    let disk = MemoryDisk::new(noise(1 << 20));
    disk.fail_reads(range(1024, 11 * 512), None);
    let error = list(&disk, 10).unwrap_err();
    assert!(with_causes(&error).contains("after 10 sectors that cannot be read"), "{}", with_causes(&error));
    assert_eq!(list(&disk, 11).unwrap().captured.manifest.bad_sectors(), [range(1024, 11 * 512)]);
}

#[test]
fn a_base_with_bad_sectors_does_not_make_a_delta_incomplete() {
    let bytes = noise(1 << 20);
    let disk = MemoryDisk::new(bytes.clone());
    disk.fail_reads(range(8192, 4096), None);
    disk.fail_reads(range(40_960, 512), None);
    let base = list(&disk, 100).unwrap();
    assert!(!base.captured.manifest.is_complete());
    // The disk of the delta was read completely: what the base lacks is stored, whatever else is equal.
    let delta = make_whole(&bytes, &[&base]);
    assert!(delta.captured.manifest.is_complete());
    assert_eq!(delta.captured.manifest.stored_blocks.get(), 2);
    let chain: Chain<_> = open(&delta.image, &[&base.image]).unwrap();
    let target = MemoryDisk::new(vec![1; bytes.len()]);
    let report = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    assert_eq!(report.verdict, Verdict::Identical);
    assert!(target.content() == bytes);
    // And the other way round, a delta of such a disk against a good base is incomplete.
    let good = make_whole(&bytes, &[]);
    let lacking = make_from(&disk, &Layout::whole(&disk), &[&good], listing(100)).unwrap();
    assert_eq!(lacking.captured.manifest.bad_sectors(), base.captured.manifest.bad_sectors());
}

#[test]
fn a_file_system_that_cannot_be_read_is_taken_whole_when_listing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, vec![0; 4 << 20]).unwrap();
    let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).status().unwrap();
    assert!(made.success());
    let bytes = fs::read(&path).unwrap();
    let look = |disk: &MemoryDisk, unreadable| survey(disk, SurveyOptions { unreadable, ..SurveyOptions::default() });
    let flaky = MemoryDisk::new(bytes.clone());
    flaky.fail_reads(range(1024, 1), Some(2));
    let proven = look(&flaky, Unreadable::Fail).unwrap();
    assert!(matches!(proven.partitions[0].treatment, Treatment::Proven { .. }), "a second try is made");
    let free = proven.allocated.total().get();
    assert!(free < 4 << 20);
    // The superblock, and the first sector, where a table would be.
    for bad in [1024, 0] {
        let disk = MemoryDisk::new(bytes.clone());
        disk.fail_reads(range(bad, 512), None);
        assert!(look(&disk, Unreadable::Fail).is_err());
        let whole = look(&disk, Unreadable::Whole).unwrap();
        let Treatment::Whole { reason } = &whole.partitions[0].treatment else { panic!("{whole:?}") };
        assert!(reason.contains("cannot be read at byte"), "{reason}");
        assert_eq!(whole.allocated.total().get(), 4 << 20);
        let layout = Layout::from_survey(ByteLen::of(&bytes), &whole).unwrap();
        let made = make_from(&disk, &layout, &[], listing(1)).unwrap();
        assert_eq!(made.captured.manifest.bad_sectors(), [range(bad, 512)]);
        assert!(made.captured.manifest.partitions[0].whole.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_list_is_exact_and_all_other_content_is_right(
        len in 1_usize..3_000_000,
        seed: u64,
        holes in proptest::collection::vec((0.0..1.0, 1_usize..30), 0..12),
        block in prop_oneof![Just(512_u32), Just(4096), Just(65536)],
        pieces in prop_oneof![Just(0_u64), 1_u64..40],
    ) {
        let mut noise = Noise(seed | 1);
        let mut bytes = vec![0; len];
        noise.fill(&mut bytes);
        let number = |value: usize| u64::try_from(value).unwrap();
        let pieces: Vec<(u64, u64)> = match pieces {
            0 => vec![(0, number(len))],
            count => (0..count).map(|_| (noise.next() % number(len), 1 + noise.next() % 200_000)).collect(),
        };
        let layout = layout(&bytes, pieces);
        let disk = MemoryDisk::new(bytes.clone());
        let mut bad = BTreeSet::new();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any sector will do")]
        for (place, sectors) in holes {
            let first = (place * (len / SECTOR) as f64) as usize;
            bad.extend(first..(first + sectors).min(len.div_ceil(SECTOR)));
        }
        bad.iter().for_each(|sector| disk.fail_reads(range(sector * SECTOR, SECTOR), None));
        let options = CaptureOptions { block_size: BlockSize::new(block).unwrap(), ..listing(1000) };
        let made = make_from(&disk, &layout, &[], options).unwrap();

        // The model goes byte by byte.
        let mut used = vec![false; len];
        for piece in layout.allocated() {
            let start = usize::try_from(piece.start.get()).unwrap();
            used[start..start + piece.len.to_usize().unwrap()].fill(true);
        }
        let mut wanted: Vec<u8> = bytes.iter().zip(&used).map(|(byte, used)| if *used { *byte } else { 0 }).collect();
        let mut listed: Vec<(usize, usize)> = Vec::new();
        for sector in bad {
            let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(len));
            if used[start..end].contains(&true) {
                wanted[start..end].fill(0);
                match listed.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => listed.push((start, end)),
                }
            }
        }
        let listed: Vec<_> = listed.into_iter().map(|(start, end)| range(start, end - start)).collect();
        prop_assert_eq!(made.captured.manifest.bad_sectors(), listed);
        let chain = open(&made.image, &[]).unwrap();
        let target = MemoryDisk::new(vec![7; len]);
        restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
        prop_assert!(target.content() == wanted);
    }
}

const MARK: &[u8; 24] = b"the sector that goes bad";

/// Makes a file whose 4 KiB at 8 MiB the kernel cannot read: its content does not have the checksum btrfs keeps.
fn unreadable_file(folder: &std::path::Path) -> Option<Mount> {
    let medium = folder.join("medium");
    fs::File::create(&medium).unwrap().set_len(256 << 20).unwrap();
    let made = Command::new("mkfs.btrfs").args(["-q", "--data", "single"]).arg(&medium).output();
    if !made.is_ok_and(|output| output.status.success()) {
        skip("mkfs.btrfs is not here");
        return None;
    }
    let mount = Mount::new(&medium, "")?;
    let mut disk = noise(16 << 20);
    disk[8 << 20..(8 << 20) + MARK.len()].copy_from_slice(MARK);
    fs::write(mount.path().join("disk"), &disk).unwrap();
    mount.unmount();
    let mut bytes = fs::read(&medium).unwrap();
    let place = bytes.chunks(4096).position(|block| block.starts_with(MARK)).unwrap();
    bytes[place * 4096] ^= 1;
    fs::write(&medium, bytes).unwrap();
    Mount::new(&medium, "ro")
}

#[test]
fn the_program_lists_bad_sectors_and_says_that_the_image_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = unreadable_file(folder.path()) else { return };
    let disk = mount.path().join("disk");
    let disk = disk.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_imagezip"));
        let output = program.current_dir(folder.path()).args(arguments).args(["--progress", "none"]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, talk) = run(&["hash", disk, "--out", "x.sig"]);
    assert!(code == 1 && talk.contains("the sector at offset 8388608 cannot be read"), "{code} {talk}");
    let (code, _, talk) = run(&["create", disk, "--out", "x.zdi", "--refuse-bad-sectors"]);
    assert!(code == 1 && talk.contains("8388608"), "{code} {talk}");
    assert!(!folder.path().join("x.zdi").exists() && !folder.path().join("x.sig").exists());

    let (code, report, talk) = run(&["create", disk, "--out", "x.zdi", "--json"]);
    assert!(code == 3 && talk.contains("8 unreadable sectors at offset 8388608"), "{code} {talk}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["complete"], false);
    assert_eq!(report["bad_sectors"], serde_json::json!([{"start": 8_388_608, "len": 4096}]));
    let (code, report, _) = run(&["info", "x.zdi"]);
    assert!(code == 0 && report.contains("INCOMPLETE: 8 unreadable sectors"), "{code} {report}");
    let (code, _, talk) = run(&["verify", "x.zdi"]);
    assert!(code == 3 && talk.contains("8 unreadable sectors"), "{code} {talk}");
    let (code, report, talk) = run(&["restore", "x.zdi", "--to", "new", "--json"]);
    assert!(code == 3 && report.contains("\"verdict\":\"incomplete\""), "{code} {report} {talk}");
    let mut wanted = noise(16 << 20);
    wanted[8 << 20..(8 << 20) + 4096].fill(0);
    assert!(fs::read(folder.path().join("new")).unwrap() == wanted);
    mount.unmount();
}
