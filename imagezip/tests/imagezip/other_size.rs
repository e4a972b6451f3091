//! States on disks of another size: what fits arrives with a table that is right there, what does not is refused.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use imagezip::fit::{FixUpKind, Misfit};
use imagezip::image::{Chain, Verified};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::{Failure, FreePolicy, Refusal, RestoreError, Verdict};
use imagezip::verify::compare;
use proptest::prelude::*;
use sigs::{BlockSize, ByteLen};

use crate::support::{Made, Noise, THREADS, controlled, layout, make, make_whole, open, restore_to, restore_to_other};

const MIB: usize = 1 << 20;

/// Makes a partition table by `sfdisk`; each partition is its first sector and how many.
fn partitioned(len: usize, label: &str, partitions: &[(usize, usize)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, vec![0; len]).unwrap();
    let mut script = format!("label: {label}\n");
    for (start, size) in partitions {
        script.push_str(&format!("start={start}, size={size}\n"));
    }
    let mut sfdisk = Command::new("sfdisk").arg("-q").arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sfdisk.wait().unwrap().success(), "{script}");
    let mut disk = fs::read(path).unwrap();
    let mut noise = Noise(9);
    for (start, size) in partitions {
        noise.fill(&mut disk[start * 512..(start + size) * 512]);
    }
    disk
}

/// A GPT disk of 8 MiB and some sectors: partitions at 1 and 3 MiB, of 1 MiB each.
fn gpt_disk() -> Vec<u8> {
    partitioned(8 * MIB + 5 * 512, "gpt", &[(2048, 2048), (6144, 2048)])
}

/// Lets the tools that people use judge a disk.
fn judged(disk: &[u8], label: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, disk).unwrap();
    let run = |program: &str, option: &str| {
        let output = Command::new(program).arg(option).arg(&path).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let (fine, text) = run("sfdisk", "--verify");
    assert!(fine && text.contains("No errors detected"), "{text}");
    if label == "gpt" {
        let (fine, text) = run("sgdisk", "--verify");
        assert!(fine && text.contains("No problems found"), "{text}");
    }
}

fn min_of(made: &Made) -> usize {
    made.captured.manifest.min_disk_bytes.to_usize().unwrap()
}

fn refusal(chain: &Chain<Verified>, len: usize) -> Misfit {
    let target = MemoryDisk::new(vec![0x3c; len]);
    let error = restore_to_other(chain, &target, FreePolicy::Zero, false).unwrap_err();
    assert!(target.take_actions().is_empty(), "{error}");
    let RestoreError::Refused(Refusal::Unfit(misfit)) = error else { panic!("{error}") };
    misfit
}

#[test]
fn a_gpt_disk_fits_larger_and_smaller_ones_and_its_backup_is_made_anew() {
    let disk = gpt_disk();
    judged(&disk, "gpt");
    let made = make_whole(&disk, &[]);
    let chain = open(&made.image, &[]).unwrap();
    // The last partition ends at 4 MiB; behind it comes the backup, 33 sectors.
    assert_eq!(min_of(&made), 4 * MIB + 33 * 512);
    for len in [min_of(&made), 5 * MIB, 8 * MIB, 8 * MIB + 6 * 512, 8 * MIB + 30 * 512, 20 * MIB] {
        for free in [FreePolicy::Zero, FreePolicy::Keep, FreePolicy::Discard] {
            {
                let in_place = free == FreePolicy::Keep;
                let target = MemoryDisk::new(vec![0x77; len]);
                let report = restore_to_other(&chain, &target, free, in_place).unwrap();
                assert_eq!(report.verdict, Verdict::IdenticalWithFixUps);
                let kinds: Vec<_> = report.fix_ups.iter().map(|fix_up| fix_up.kind).collect();
                assert!(kinds.contains(&FixUpKind::BackupGpt) && kinds.contains(&FixUpKind::PrimaryGpt), "{kinds:?}");
                assert_eq!(report.root, made.captured.target_root);
                let found = target.content();
                judged(&found, "gpt");
                let kept = disk.len().min(len) - 33 * 512;
                assert!(found[1024..kept] == disk[1024..kept], "{len}");
                if free == FreePolicy::Zero {
                    let behind = disk.len().min(len - 33 * 512)..len - 33 * 512;
                    assert!(found[behind].iter().all(|byte| *byte == 0), "{len}");
                }
                let whole = Layout::whole(&found);
                let same = controlled(|control| compare(&chain, &found, &whole, THREADS, control)).unwrap();
                assert!(same.is_identical() && same.fix_ups == report.fix_ups, "{len} {same:?}");
                let mut other = found.clone();
                other[len - 512 + 30] ^= 1;
                let differs = controlled(|control| compare(&chain, &other, &whole, THREADS, control)).unwrap();
                assert!(!differs.is_identical(), "a backup that is not right is a difference");
            }
        }
    }
    assert!(matches!(refusal(&chain, min_of(&made) - 512), Misfit::TooSmall { .. }));
}

#[test]
fn with_equal_size_nothing_is_touched() {
    let disk = gpt_disk();
    let made = make_whole(&disk, &[]);
    let target = MemoryDisk::new(vec![1; disk.len()]);
    let chain = open(&made.image, &[]).unwrap();
    let report = restore_to_other(&chain, &target, FreePolicy::Zero, false).unwrap();
    assert_eq!((report.verdict, report.fix_ups.as_slice()), (Verdict::Identical, &[][..]));
    assert!(target.content() == disk);
    let other = MemoryDisk::new(vec![1; disk.len() + 512]);
    let refused = restore_to(&chain, &other, FreePolicy::Zero, false).unwrap_err();
    assert!(matches!(refused, RestoreError::Refused(Refusal::Size { .. })), "the library takes it only when told to");
}

#[test]
fn data_behind_the_partitions_forces_the_size_and_zeros_do_not() {
    let mut disk = gpt_disk();
    disk[6 * MIB] = 1;
    let made = make_whole(&disk, &[]);
    assert_eq!(min_of(&made), 6 * MIB + 4096 + 33 * 512);
    let chain = open(&made.image, &[]).unwrap();
    assert!(matches!(refusal(&chain, 6 * MIB), Misfit::TooSmall { .. }));
    restore_to_other(&chain, &MemoryDisk::new(vec![0; min_of(&made)]), FreePolicy::Zero, false).unwrap();

    // Something in the block where the old backup begins, but before it.
    let mut disk = gpt_disk();
    let before = disk.len() - 33 * 512 - 1;
    disk[before] = 1;
    let made = make_whole(&disk, &[]);
    assert!(min_of(&made) > disk.len() - 33 * 512, "it is data");
    let chain = open(&made.image, &[]).unwrap();
    let larger = MemoryDisk::new(vec![9; disk.len() + 512]);
    restore_to_other(&chain, &larger, FreePolicy::Zero, false).unwrap();
    let found = larger.content();
    judged(&found, "gpt");
    assert_eq!(found[before], 1, "and it stays");
}

#[test]
fn an_image_that_asks_for_too_little_is_refused_by_its_first_block_that_would_be_lost() {
    // Format 1 has no least size that counts; so the blocks decide.
    let mut disk = gpt_disk();
    disk[6 * MIB] = 1;
    let made = make_whole(&disk, &[]);
    let lying = crate::damage::forge(&made, |manifest| manifest.min_disk_bytes = ByteLen::new(0), None);
    let chain = open(&lying, &[]).unwrap();
    let Misfit::Data { block, offset, .. } = refusal(&chain, 5 * MIB) else { panic!() };
    assert_eq!((block.get(), offset.to_string()), (1536, (6 * MIB).to_string()));
    assert!(matches!(refusal(&chain, 6 * MIB + 4096), Misfit::Data { .. }), "the backup would go over it");
    assert!(matches!(refusal(&chain, 4 * MIB), Misfit::TooSmall { .. }), "a partition would be cut");
}

#[test]
fn dos_tables_and_bare_disks_fit_larger_ones() {
    // With an extended partition, which reaches to 6 MiB.
    let mut disk = partitioned(8 * MIB, "dos", &[(2048, 2048)]);
    let extended = |disk: &mut [u8], at: usize, kind: u8, first: u32, count: u32| {
        disk[at + 4] = kind;
        disk[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    };
    extended(&mut disk, 446 + 16, 5, 4096, 8192);
    extended(&mut disk, 4096 * 512 + 446, 0x83, 2048, 1024);
    disk[4096 * 512 + 510..4096 * 512 + 512].copy_from_slice(&[0x55, 0xAA]);
    judged(&disk, "dos");
    let made = make_whole(&disk, &[]);
    assert_eq!(min_of(&made), 6 * MIB);
    let chain = open(&made.image, &[]).unwrap();
    for len in [6 * MIB, 7 * MIB + 512, 12 * MIB] {
        let target = MemoryDisk::new(vec![0x77; len]);
        let report = restore_to_other(&chain, &target, FreePolicy::Zero, false).unwrap();
        assert_eq!((report.verdict, report.fix_ups.len()), (Verdict::Identical, 0));
        let found = target.content();
        judged(&found, "dos");
        let both = len.min(disk.len());
        assert!(found[..both] == disk[..both] && found[both..].iter().all(|byte| *byte == 0));
    }
    refusal(&chain, 6 * MIB - 512);

    // Without a table all of it is one partition; its last block is short.
    let mut bare = vec![0; 3 * MIB + 1000];
    Noise(4).fill(&mut bare[..2 * MIB]);
    bare[3 * MIB + 500] = 1;
    let made = make_whole(&bare, &[]);
    assert_eq!(min_of(&made), bare.len());
    let chain = open(&made.image, &[]).unwrap();
    for (free, behind) in [(FreePolicy::Zero, 0), (FreePolicy::Keep, 0x77), (FreePolicy::Discard, 0xd5)] {
        let target = MemoryDisk::new(vec![0x77; 6 * MIB]);
        restore_to_other(&chain, &target, free, false).unwrap();
        let found = target.content();
        assert!(found[..bare.len()] == bare && found[bare.len()..5 * MIB].iter().all(|byte| *byte == behind));
    }
    refusal(&chain, bare.len() - 1);
}

#[test]
fn a_gpt_that_is_valid_only_at_the_end_is_not_moved() {
    let mut disk = gpt_disk();
    disk[512 + 16] ^= 1;
    let chain = open(&make_whole(&disk, &[]).image, &[]).unwrap();
    assert!(matches!(refusal(&chain, disk.len() + MIB), Misfit::OnlyBackup { .. }));
    let target = MemoryDisk::new(vec![1; disk.len()]);
    restore_to_other(&chain, &target, FreePolicy::Zero, false).unwrap();
    assert!(target.content() == disk);
}

#[test]
fn a_backup_never_goes_over_a_partition_that_reaches_to_the_end() {
    // The disk grew, its backup stayed where it was, and somebody made a partition behind it that is all zeros.
    let mut disk = gpt_disk();
    let old = disk.len() - 512;
    disk.resize(12 * MIB, 0);
    let sector = |place: usize| u64::try_from(place / 512).unwrap().to_le_bytes();
    let (first, last) = (sector(9 * MIB), sector(12 * MIB - 512));
    for (header, entries) in [(512, 1024), (old, old - 32 * 512)] {
        disk.copy_within(entries..entries + 16, entries + 256);
        disk[entries + 272..entries + 288].fill(7);
        disk[entries + 288..entries + 296].copy_from_slice(&first);
        disk[entries + 296..entries + 304].copy_from_slice(&last);
        let checksum = crc32fast::hash(&disk[entries..entries + 32 * 512]);
        disk[header + 48..header + 56].copy_from_slice(&last);
        disk[header + 88..header + 92].copy_from_slice(&checksum.to_le_bytes());
        disk[header + 16..header + 20].fill(0);
        let checksum = crc32fast::hash(&disk[header..header + 92]);
        disk[header + 16..header + 20].copy_from_slice(&checksum.to_le_bytes());
    }
    let made = make_whole(&disk, &[]);
    assert_eq!(min_of(&made), disk.len());
    let chain = open(&made.image, &[]).unwrap();
    restore_to_other(&chain, &MemoryDisk::new(vec![1; disk.len()]), FreePolicy::Zero, false).unwrap();
    assert!(matches!(refusal(&chain, disk.len() + 32 * 512), Misfit::TooSmall { .. }));
    let target = MemoryDisk::new(vec![1; disk.len() + 33 * 512]);
    restore_to_other(&chain, &target, FreePolicy::Zero, false).unwrap();
    judged(&target.content(), "gpt");
}

#[test]
fn cut_off_at_every_action_it_does_not_boot_and_is_finished_by_running_it_again() {
    let disk = gpt_disk();
    let chain = open(&make_whole(&disk, &[]).image, &[]).unwrap();
    for (len, free) in [(5 * MIB, FreePolicy::Zero), (9 * MIB, FreePolicy::Keep)] {
        {
            let in_place = free == FreePolicy::Keep;
            // The target holds the same disk from an earlier time, with its own backup.
            let mut before = disk.clone();
            before.resize(len, 0);
            let finished = MemoryDisk::new(before.clone());
            restore_to_other(&chain, &finished, free, in_place).unwrap();
            let wanted = finished.content();
            judged(&wanted, "gpt");
            let mut cut = 0;
            loop {
                let target = MemoryDisk::new(before.clone());
                target.fail_after(cut);
                let Err(error) = restore_to_other(&chain, &target, free, in_place) else { break };
                assert!(matches!(error, RestoreError::Unfinished(_)), "{error}");
                let head = &target.content()[..MIB];
                assert!(cut == 0 || head == &wanted[..MIB] || head[..4096].iter().all(|byte| *byte == 0), "cut {cut}");
                target.heal();
                restore_to_other(&chain, &target, free, in_place).unwrap();
                assert!(target.content() == wanted, "cut {cut}");
                cut += 1;
            }
            assert!(cut > 8, "only {cut} actions");
        }
    }
}

#[test]
fn a_fix_up_that_does_not_arrive_is_found_out() {
    let disk = gpt_disk();
    let chain = open(&make_whole(&disk, &[]).image, &[]).unwrap();
    let len = 12 * MIB;
    // The old backup, in the body of the larger disk; the new one; the primary header.
    for place in [disk.len() - 512, len - 512, 512 + 32] {
        let target = MemoryDisk::new(vec![0x31; len]);
        target.lose_writes_at(place);
        let error = restore_to_other(&chain, &target, FreePolicy::Zero, false).unwrap_err();
        let RestoreError::Unfinished(failure) = error else { panic!("{error}") };
        assert!(matches!(failure, Failure::Changed { .. } | Failure::NotZero { .. }), "{place}: {failure}");
        assert!(target.content()[..512].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_program_takes_another_size_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("disk"), gpt_disk()).unwrap();
    let run = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_imagezip"));
        let output = program.current_dir(folder.path()).args(arguments).args(["--progress", "none"]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    assert_eq!(run(&["create", "disk", "--out", "x.zdi"]).0, 0);
    fs::write(at("larger"), vec![5; 12 * MIB]).unwrap();
    let (code, text) = run(&["restore", "x.zdi", "--to", "larger"]);
    assert!(code == 1 && text.contains("untouched"), "{text}");
    assert!(fs::read(at("larger")).unwrap().iter().all(|byte| *byte == 5));
    let (code, text) = run(&["restore", "x.zdi", "--to", "larger", "--other-size"]);
    assert!(code == 0 && text.contains("identical + fix-ups") && text.contains("the backup GPT"), "{text}");
    judged(&fs::read(at("larger")).unwrap(), "gpt");
    let (code, text) = run(&["verify", "x.zdi", "--against", "larger"]);
    assert!(code == 0, "{text}");
    let (code, text) = run(&["restore", "x.zdi", "--to", "new", "--to-size", "5000192", "--json"]);
    assert!(code == 0 && text.contains("\"verdict\":\"identical-with-fix-ups\""), "{text}");
    judged(&fs::read(at("new")).unwrap(), "gpt");
    let (code, text) = run(&["restore", "x.zdi", "--to", "tiny", "--to-size", "1000000"]);
    assert!(code == 1 && text.contains("needs at least") && !at("tiny").exists(), "{text}");
    assert_eq!(run(&["restore", "x.zdi", "--to", "new", "--to-size", "5000192"]).0, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn partitions_come_back_on_disks_of_any_size(
        gpt: bool,
        sectors in 12_000_usize..16_000,
        gaps in proptest::collection::vec((0_usize..900, 8_usize..1500), 1..4),
        other in 1_usize..24_000,
        block in prop_oneof![Just(512_u32), Just(4096), Just(65536)],
        holes in proptest::collection::vec((0_u64..8_000_000, 1_u64..300_000), 0..6),
        free in 0..3,
    ) {
        let label = if gpt { "gpt" } else { "dos" };
        let mut at = 2048;
        let partitions: Vec<_> = gaps.into_iter().map(|(gap, size)| { let start = at + gap; at = start + size; (start, size) }).collect();
        let disk = partitioned(sectors * 512, label, &partitions);
        // Some parts of partitions are free.
        let mut pieces = vec![(0, 1 << 20)];
        let mut reached = 1 << 20;
        for (start, len) in { let mut holes = holes; holes.sort_unstable(); holes } {
            let inside = partitions.iter().any(|(s, n)| *s * 512 <= usize::try_from(start).unwrap() && usize::try_from(start + len).unwrap() <= (s + n) * 512);
            if inside && start > reached {
                pieces.push((reached, start - reached));
                reached = start + len;
            }
        }
        pieces.push((reached, u64::MAX));
        let layout = layout(&disk, pieces);
        let made = make(&disk, &layout, &[], BlockSize::new(block).unwrap()).unwrap();
        let chain = open(&made.image, &[]).unwrap();
        let free = [FreePolicy::Keep, FreePolicy::Zero, FreePolicy::Discard][usize::try_from(free).unwrap()];
        let least = min_of(&made);
        prop_assert!(least <= disk.len() && least >= at * 512);
        for len in [other * 512, least, least.saturating_sub(512), sectors * 512] {
            let target = MemoryDisk::new(vec![0x77; len]);
            let result = restore_to_other(&chain, &target, free, other.is_multiple_of(2));
            prop_assert_eq!(result.is_ok(), len >= least, "{} {}", len, least);
            if result.is_err() {
                prop_assert!(target.take_actions().is_empty());
                continue;
            }
            let found = target.content();
            judged(&found, label);
            for piece in layout.allocated() {
                let start = usize::try_from(piece.start.get()).unwrap().max(2048 * 512);
                let end = usize::try_from(piece.checked_end().unwrap().get()).unwrap().min(at * 512);
                prop_assert!(start >= end || found[start..end] == disk[start..end]);
            }
        }
    }
}
