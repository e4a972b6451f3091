//! A restore that is cut off anywhere leaves a disk that cannot boot, and running it again finishes it.

use imagezip::io::fake::{Action, MemoryDisk};
use imagezip::restore::{Failure, FreePolicy, RestoreError};
use sigs::{ByteLen, ByteOffset, ByteRange};

use crate::damage::pair;
use crate::support::{Noise, make_whole, open, restore_to};

const MIB: usize = 1 << 20;

#[test]
fn cut_off_at_every_action_it_does_not_boot_and_is_finished_by_running_it_again() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    for in_place in [false, true] {
        let mut cut = 0;
        loop {
            let target = MemoryDisk::new(disk.clone());
            target.fail_after(cut);
            let Err(error) = restore_to(&chain, &target, FreePolicy::Zero, in_place) else { break };
            assert!(matches!(error, RestoreError::Unfinished(_)), "{error}");
            assert!(error.to_string().contains("running the same restore again"));
            let head = &target.content()[..MIB];
            let whole = head == &changed[..MIB];
            // The first action makes the first block zero. Only what comes after the last write of the first MiB may
            // find it complete.
            assert!(cut == 0 || whole || head[..4096].iter().all(|byte| *byte == 0), "cut {cut}");
            target.heal();
            restore_to(&chain, &target, FreePolicy::Zero, in_place).unwrap();
            assert!(target.content() == changed, "cut {cut}, in place {in_place}");
            cut += 1;
        }
        assert!(cut > 8, "only {cut} actions");
    }
}

#[test]
fn what_cannot_be_read_in_place_is_written_and_a_second_run_is_not_needed() {
    let mut disk = vec![0; 4 * MIB];
    Noise(31).fill(&mut disk);
    let base = make_whole(&disk, &[]);
    let chain = open(&base.image, &[]).unwrap();
    let target = MemoryDisk::new(disk.clone());
    let len = u64::try_from(disk.len()).unwrap();
    // In the body, and where a backup GPT may be: it cannot be ruled out there.
    for start in [(2 << 20) + 8192, len - 4096] {
        let bad = ByteRange { start: ByteOffset::new(start), len: ByteLen::new(512) };
        target.fail_reads(bad, Some(1));
    }
    let report = restore_to(&chain, &target, FreePolicy::Keep, true).unwrap();
    assert!(target.content() == disk && report.written_bytes.get() > 2 << 20, "{report:?}");
}

fn overlaps(a: ByteRange, start: u64, end: u64) -> bool {
    a.start.get() < end && a.start.get() + a.len.get() > start
}

#[test]
fn the_ends_go_first_and_come_last_and_the_body_is_written_once() {
    let (disk, _) = pair();
    let base = make_whole(&disk, &[]);
    let chain = open(&base.image, &[]).unwrap();
    let target = MemoryDisk::new(vec![0xee; disk.len()]);
    restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    let actions = target.take_actions();
    let len = u64::try_from(disk.len()).unwrap();
    let mib = 1_u64 << 20;
    let changes: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Write(range) | Action::Zero(range) | Action::Discard(range) => Some(*range),
            Action::Flush => None,
        })
        .collect();
    assert!(overlaps(changes[0], 0, 4096), "the first block goes first");
    assert!(overlaps(*changes.last().unwrap(), 0, mib), "the first MiB comes last");
    let last_of = |start, end| changes.iter().rposition(|range| overlaps(*range, start, end)).unwrap();
    let body_end = (len - mib) / 4096 * 4096;
    let head_again =
        changes.iter().enumerate().skip(last_of(mib, body_end) + 1).find(|(_, range)| overlaps(**range, 0, mib));
    assert!(last_of(mib, body_end) < last_of(body_end, len), "the last MiB comes after the body");
    assert!(last_of(body_end, len) < head_again.unwrap().0, "the first MiB comes after the last");
    let first_flush = actions.iter().position(|action| *action == Action::Flush).unwrap();
    assert!(actions[..first_flush].iter().all(|action| matches!(action, Action::Zero(_))));
    assert_eq!(actions.last(), Some(&Action::Flush));
    // No two changes of the body overlap.
    let mut body: Vec<_> = changes.iter().filter(|range| overlaps(**range, mib, (len - mib) / 4096 * 4096)).collect();
    body.sort_unstable();
    for pair in body.windows(2) {
        assert!(pair[0].start.get() + pair[0].len.get() <= pair[1].start.get(), "{pair:?}");
    }
}

#[test]
fn in_place_only_what_differs_is_written() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    let target = MemoryDisk::new(disk.clone());
    let report = restore_to(&chain, &target, FreePolicy::Keep, true).unwrap();
    assert_eq!(target.content(), changed);
    let ends = 2 * MIB + 4096;
    let differing = disk.chunks(4096).zip(changed.chunks(4096)).filter(|(a, b)| a != b).count() * 4096;
    let written = report.written_bytes.to_usize().unwrap();
    assert!(written <= differing + ends, "{written} bytes written, {differing} differ");
    for action in target.take_actions() {
        let (Action::Write(range) | Action::Zero(range)) = action else { continue };
        let (start, len) = (usize::try_from(range.start.get()).unwrap(), range.len.to_usize().unwrap());
        let inside = start >= MIB && start + len <= disk.len() - MIB - 4096;
        assert!(!inside || disk[start..start + len] != changed[start..start + len], "{range:?} did not differ");
    }
}

#[test]
fn a_medium_that_loses_a_write_is_found_out_and_does_not_boot() {
    let (disk, _) = pair();
    let base = make_whole(&disk, &[]);
    let chain = open(&base.image, &[]).unwrap();
    let different = |place: usize| disk[place] != 0;
    let in_body = (MIB..2 * MIB).find(|place| different(*place)).unwrap();
    let in_head = (5000..MIB).find(|place| different(*place)).unwrap();
    let in_tail = (disk.len() - MIB / 2..disk.len()).find(|place| different(*place));
    for place in [Some(in_body), Some(in_head), in_tail].into_iter().flatten() {
        let target = MemoryDisk::new(vec![0; disk.len()]);
        target.lose_writes_at(place);
        let error = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap_err();
        let RestoreError::Unfinished(failure) = error else { panic!("{error}") };
        assert!(matches!(failure, Failure::WrongRoot { .. } | Failure::Changed { .. }), "{failure}");
        assert!(target.content()[..MIB].iter().all(|byte| *byte == 0), "place {place}");
        target.heal();
        restore_to(&chain, &target, FreePolicy::Zero, true).unwrap();
        assert!(target.content() == disk);
    }
}
