//! Where a log ends: commit blocks that are missing, torn, or of another time, and checksums that are wrong.

use super::states::States;
use super::writer::{Checksums, Format, Log};
use super::{PLAIN, V3};

const ASYNC: Format = Format { async_commit: true, ..V3 };
const BY_BLOCK: [Format; 5] =
    [Format::new(Checksums::V2, false), Format::new(Checksums::V2, true), Format::new(Checksums::V3, false), V3, ASYNC];

/// The blocks of a log of three transactions that tests damage.
struct Parts {
    log: Log,
    descriptors: Vec<u32>,
    revocations: u32,
    commit: u32,
}

/// What is done to a block, and its name.
type Damage = (&'static str, fn(&mut [u8]));

/// Writes three transactions; the parts are those of the third, whose time may be before that of the second.
fn three(states: &States, format: Format, older: bool) -> Parts {
    let mut log = states.log(3, 70, format);
    log.transaction(&states.changes(1));
    log.transaction(&states.changes(2));
    if older {
        log.time -= 500;
    }
    let descriptors = log.describe(&states.changes(3));
    let revocations = log.revoke(&states.free(1));
    let commit = log.commit();
    Parts { log, descriptors, revocations, commit }
}

#[test]
fn without_a_commit_block_a_transaction_never_was() {
    let states = States::new(&["-J", "size=1"]);
    let expected = states.expect_state(2);
    for format in [PLAIN, Format::new(Checksums::V1, true), Format::new(Checksums::V2, false), ASYNC] {
        let parts = three(&states, format, false);
        states.assert_replays(&parts.log.disk, &states.expect_state(3), &format!("{format:?}"));
        let damages: &[Damage] = &[
            ("nothing", |block| block.fill(0)),
            ("another number", |block| block[11] ^= 1),
            ("another magic number", |block| block[0] ^= 1),
            ("an unknown kind", |block| block[7] = 6),
            ("a superblock", |block| block[7] = 4),
        ];
        // Where they end does not depend on checksums.
        let few = if format.checksums == Checksums::V2 { 1 } else { damages.len() };
        for (what, damage) in &damages[..few] {
            let mut log = parts.log.clone();
            damage(log.at(parts.commit));
            states.assert_replays(&log.disk, &expected, &format!("{format:?}: {what}"));
        }
        let mut log = parts.log.clone();
        log.at(parts.descriptors[0]).fill(0);
        states.assert_replays(&log.disk, &expected, &format!("{format:?}: no descriptor"));
    }
}

#[test]
fn a_log_without_a_single_commit_block_does_nothing() {
    let states = States::new(&["-J", "size=1"]);
    let mut log = states.log(1, 70, V3);
    log.describe(&states.changes(1));
    states.assert_replays(&log.disk, &states.expect_state(0), "descriptor alone");
}

/// A wrong checksum of a descriptor or of revocations counts for nothing when the commit block is of an older log, and
/// else it is damage.
#[test]
fn damaged_descriptors_and_revocations() {
    let states = States::new(&["-J", "size=1"]);
    for format in BY_BLOCK {
        for older in [false, true] {
            let parts = three(&states, format, older);
            let last = *parts.descriptors.last().unwrap();
            for (block, part) in [(last, "descriptor"), (parts.revocations, "revocations")] {
                let mut log = parts.log.clone();
                *log.at(block).last_mut().unwrap() ^= 1;
                let what = format!("{format:?} {part} {older}");
                if older {
                    states.assert_replays(&log.disk, &states.expect_state(2), &what);
                } else {
                    states.assert_refused(&log.disk, &format!("wrong checksum in its {part}"), &what);
                    states.assert_nobody_replays(&log.disk, &what);
                }
            }
        }
    }
}

#[test]
fn damaged_blocks() {
    let states = States::new(&["-J", "size=1"]);
    for format in BY_BLOCK {
        // Whatever the time is: the commit block says that the blocks are there.
        for older in [false, true] {
            let mut parts = three(&states, format, older);
            let place = parts.descriptors[0] + 1;
            parts.log.at(place)[500] ^= 1;
            let what = format!("{format:?} {older}");
            states.assert_refused(&parts.log.disk, "wrong checksum in its blocks", &what);
            states.assert_nobody_replays(&parts.log.disk, &what);
        }
    }
}

#[test]
fn damaged_tags() {
    let states = States::new(&["-J", "size=1"]);
    for (format, at) in [(V3, 15), (Format::new(Checksums::V2, true), 5)] {
        let mut log = states.log(3, 70, format);
        log.transaction(&states.changes(1));
        let descriptor = log.describe(&states.changes(2))[0];
        log.commit();
        // The checksum of the block in the tag; that of the descriptor is put right.
        log.change_descriptor(descriptor, |block| block[12 + at] ^= 1);
        states.assert_refused(&log.disk, "wrong checksum in its blocks", "tag");
        states.assert_nobody_replays(&log.disk, "tag");
    }
}

#[test]
fn damaged_commit_blocks() {
    let states = States::new(&["-J", "size=1"]);
    let v1 = Format::new(Checksums::V1, false);
    for format in [v1, Format { async_commit: true, ..v1 }, Format::new(Checksums::V2, true), V3, ASYNC] {
        for older in [false, true] {
            let mut parts = three(&states, format, older);
            let commit = parts.commit;
            parts.log.at(commit)[17] ^= 1;
            let what = format!("{format:?} {older}");
            // Asynchronous ones may be there before what they commit.
            if older || format.async_commit {
                states.assert_replays(&parts.log.disk, &states.expect_state(2), &what);
            } else {
                states.assert_refused(&parts.log.disk, "wrong checksum in its commit block", &what);
            }
        }
    }
}

#[test]
fn a_transaction_behind_a_torn_one_is_damage() {
    let states = States::new(&["-J", "size=1"]);
    let mut log = states.log(3, 70, ASYNC);
    log.transaction(&states.changes(1));
    let commit = log.transaction(&states.changes(2));
    log.transaction(&states.changes(3));
    log.at(commit)[17] ^= 1;
    states.assert_refused(&log.disk, "transaction 71 of the journal has a wrong checksum in its commit block", "torn");
}

/// Since Linux 6.7 a commit block counts of which only the first sector arrived; before, and for e2fsck, it does not.
#[test]
fn commit_blocks_without_their_end_depend_on_the_kernel() {
    let states = States::new(&["-J", "size=1"]);
    for format in [V3, ASYNC, Format { async_commit: true, ..Format::new(Checksums::V2, false) }] {
        for older in [false, true] {
            let mut parts = three(&states, format, older);
            let commit = parts.commit;
            parts.log.at(commit)[600..].fill(0x5A);
            let what = format!("{format:?} {older}");
            states.assert_refused(&parts.log.disk, "commit block", &what);
        }
    }
}

/// Linux takes the number 0 for none, and forgets that the transaction was torn.
#[test]
fn a_torn_transaction_of_number_zero_is_not_understood() {
    let states = States::new(&["-J", "size=1"]);
    for (first, refused) in [(u32::MAX, true), (u32::MAX - 1, false)] {
        let mut log = states.log(3, first, ASYNC);
        log.transaction(&states.changes(1));
        let commit = log.transaction(&states.changes(2));
        log.at(commit)[17] ^= 1;
        if refused {
            states.assert_refused(&log.disk, "transaction 0 of the journal has a wrong checksum", "0");
        } else {
            states.assert_replays(&log.disk, &states.expect_state(1), "not 0");
        }
    }
}

#[test]
fn checksums_of_whole_transactions_may_be_absent() {
    let states = States::new(&["-J", "size=1"]);
    let mut parts = three(&states, Format::new(Checksums::V1, true), false);
    let commit = parts.commit;
    parts.log.at(commit)[12..20].fill(0);
    states.assert_replays(&parts.log.disk, &states.expect_state(3), "absent");
    // Or they are of a block that was damaged.
    let mut parts = three(&states, Format::new(Checksums::V1, true), false);
    let place = parts.descriptors[0] + 1;
    parts.log.at(place)[500] ^= 1;
    states.assert_refused(&parts.log.disk, "wrong checksum in its commit block", "block");
}

#[test]
fn a_log_that_bites_its_tail_has_no_end() {
    let states = States::new(&["-J", "size=1"]);
    let mut log = states.log(1, 70, PLAIN);
    for _ in 1..states.len {
        log.revoke(&[5]);
    }
    states.assert_refused(&log.disk, "without an end", "revocations");
    let mut log = states.log(1, 70, PLAIN);
    let blocks: Vec<_> = states.free(30).into_iter().map(|home| (home, vec![1; 1024])).collect();
    for _ in 0..33 {
        log.describe(&blocks);
    }
    states.assert_refused(&log.disk, "without an end", "descriptors");
}
