//! Restoring in place with the signature of the state: the disk is read once, and only what differs is written.

use imagezip::image::{Chain, Verified};
use imagezip::io::fake::{Action, MemoryDisk};
use imagezip::restore::{Failure, FreePolicy, Refusal, RestoreError, RestoreOptions, RestoreReport, restore_known};
use proptest::prelude::*;
use sigs::{ByteLen, ByteOffset, ByteRange, Signature};

use crate::damage::pair;
use crate::round_trip::case;
use crate::support::{Noise, THREADS, controlled, make_whole, open, open_maps};

fn restore_with(
    chain: &Chain<Verified>,
    signature: &[u8],
    target: &MemoryDisk,
    free: FreePolicy,
) -> Result<RestoreReport, RestoreError> {
    let signature = Signature::open(signature.to_vec()).expect("a signature whose tail is whole");
    let options = RestoreOptions { in_place: true, threads: THREADS, ..RestoreOptions::new(free) };
    controlled(|control| restore_known(chain, &signature, target, &options, control))
}

#[test]
fn cut_off_at_every_action_it_does_not_boot_and_is_finished_by_running_it_again() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    let mut cut = 0;
    loop {
        let target = MemoryDisk::new(disk.clone());
        target.fail_after(cut);
        let Err(error) = restore_with(&chain, &delta.signature, &target, FreePolicy::Zero) else { break };
        // Before anything is read, what somebody else wrote is flushed.
        let refused = matches!(error, RestoreError::Refused(Refusal::Settle(_)));
        assert!(if cut == 0 { refused } else { matches!(error, RestoreError::Unfinished(_)) }, "cut {cut}: {error}");
        assert!(cut > 0 || target.reads() == 0);
        let content = target.content();
        let whole = content[..1 << 20] == changed[..1 << 20];
        assert!(cut <= 1 || whole || content[..4096].iter().all(|byte| *byte == 0), "cut {cut}");
        target.heal();
        restore_with(&chain, &delta.signature, &target, FreePolicy::Zero).unwrap();
        assert!(target.content() == changed, "cut {cut}");
        cut += 1;
    }
    assert!(cut > 8, "only {cut} actions");
}

#[test]
fn only_what_differs_is_written() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    let target = MemoryDisk::new(disk);
    let report = restore_with(&chain, &delta.signature, &target, FreePolicy::Keep).unwrap();
    assert!(target.content() == changed);
    // The first and the last MiB are always written.
    assert_eq!(report.kept_bytes.get(), 1 << 20, "{report:?}");
    let written: u64 = target
        .take_actions()
        .iter()
        .map(|action| if let Action::Write(range) = action { range.len.get() } else { 0 })
        .sum();
    assert!(written <= report.written_bytes.get(), "{written} bytes were written, {report:?}");
}

#[test]
fn a_write_that_is_lost_is_found_out() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    let places = (0..disk.len()).filter(|at| disk[*at] != changed[*at]).step_by(50_000);
    for place in places {
        let target = MemoryDisk::new(disk.clone());
        target.lose_writes_at(place);
        let error = restore_with(&chain, &delta.signature, &target, FreePolicy::Zero).unwrap_err();
        assert!(matches!(error, RestoreError::Unfinished(_)), "{place}: {error}");
    }
}

#[test]
fn another_signature_is_refused_before_the_first_write() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    let target = MemoryDisk::new(disk.clone());
    let error = restore_with(&chain, &base.signature, &target, FreePolicy::Zero).unwrap_err();
    assert!(matches!(error, RestoreError::Refused(Refusal::Signature)), "{error}");
    // A page that is damaged is found when it is fetched.
    let mut damaged = delta.signature.clone();
    damaged[200] ^= 1;
    let error = restore_with(&chain, &damaged, &target, FreePolicy::Zero).unwrap_err();
    assert!(matches!(error, RestoreError::Refused(Refusal::Signature)), "{error}");
    assert!(target.content() == disk && target.take_actions().iter().all(|action| *action == Action::Flush));
}

#[test]
fn frames_that_are_needed_are_checked_before_the_first_write_and_others_not_at_all() {
    let mut disk = vec![0; 8 << 20];
    Noise(11).fill(&mut disk);
    let mut changed = disk.clone();
    changed[3 << 20..(3 << 20) + 40_000].fill(9);
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    // Of noise, the frames are about as large as what they hold.
    let mut damaged = base.image.clone();
    damaged[(5 << 20) + 300_000] ^= 1;
    assert!(open(&delta.image, &[&damaged]).is_err());
    let chain = open_maps(&delta.image, &[&damaged]).unwrap();

    let target = MemoryDisk::new(disk.clone());
    restore_with(&chain, &delta.signature, &target, FreePolicy::Keep).unwrap();
    assert!(target.content() == changed);

    // Nor is it blamed for what a target does.
    let target = MemoryDisk::new(disk.clone());
    target.lose_writes_at((3 << 20) + 100);
    let error = restore_with(&chain, &delta.signature, &target, FreePolicy::Keep).unwrap_err();
    assert!(matches!(error, RestoreError::Unfinished(Failure::Changed { .. })), "{error:?}");

    disk[(5 << 20) + 300_000] ^= 1;
    let target = MemoryDisk::new(disk.clone());
    let error = restore_with(&chain, &delta.signature, &target, FreePolicy::Keep).unwrap_err();
    assert!(matches!(error, RestoreError::Refused(Refusal::Image(_))), "{error}");
    assert!(target.content() == disk && target.take_actions().iter().all(|action| *action == Action::Flush));
}

#[test]
fn blocks_that_cannot_be_read_are_written_and_their_neighbours_are_not() {
    let mut disk = vec![0; 4 << 20];
    Noise(12).fill(&mut disk);
    let base = make_whole(&disk, &[]);
    let chain = open(&base.image, &[]).unwrap();
    let target = MemoryDisk::new(disk.clone());
    // As long as the disk is compared: once for what is read together, once by itself.
    let bad = ByteRange { start: ByteOffset::new((2 << 20) + 8192), len: ByteLen::new(512) };
    target.fail_reads(bad, Some(2));
    let report = restore_with(&chain, &base.signature, &target, FreePolicy::Keep).unwrap();
    assert!(target.content() == disk);
    // The ends, and the one block.
    assert_eq!(report.written_bytes.get(), (2 << 20) + 4096, "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_there_the_state_comes_back(
        (first, second) in case(),
        free in prop_oneof![Just(FreePolicy::Keep), Just(FreePolicy::Zero), Just(FreePolicy::Discard)],
        seed in 1_u64..,
        spoiled in 0_u64..4,
    ) {
        let base = first.make(&[]);
        let delta = second.make(&[&base]);
        let chain = open(&delta.image, &[&base.image]).unwrap();
        // The disk holds the state, more or less.
        let mut before = second.disk.clone();
        let mut noise = Noise(seed);
        for block in before.chunks_mut(512) {
            if noise.next() % 4 < spoiled {
                noise.fill(block);
            }
        }
        let target = MemoryDisk::new(before.clone());
        restore_with(&chain, &delta.signature, &target, free).unwrap();
        second.check(&target.content(), &before, free);
    }
}
