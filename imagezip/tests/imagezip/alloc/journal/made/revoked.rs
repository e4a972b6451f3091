//! Revocations: before, behind and in the transaction that writes, in numbers of 32 and of 64 bits.

use super::FORMATS;
use super::states::{BLOCK, States};

#[test]
fn they_forbid_what_is_not_younger() {
    let states = States::new(&["-J", "size=1"]);
    let free = states.free(4);
    let [before, same, behind, again] = free.as_slice() else { panic!("{free:?}") };
    let block = |home: &u64, letter| (*home, vec![letter; BLOCK]);
    for format in FORMATS {
        let mut log = states.log(states.len - 3, u32::MAX - 1, format);
        log.revoke(&[*before, *again]);
        log.transaction(&[block(behind, b'a'), block(again, b'b')]);
        log.describe(&[block(before, b'c'), block(same, b'd')]);
        log.revoke(&[*same, *again, *behind]);
        log.commit();
        log.transaction(&[block(again, b'e')]);
        let expected = states.expect([block(before, b'c'), block(again, b'e')]);
        states.assert_replays(&log.disk, &expected, &format!("{format:?}"));
    }
}

#[test]
fn bitmaps_and_all_else_of_a_transaction() {
    let states = States::new(&["-J", "size=1"]);
    let homes: Vec<u64> = states.changes(1).into_iter().map(|(home, _)| home).collect();
    for format in FORMATS {
        let mut log = states.log(9, 70, format);
        log.transaction(&states.changes(1));
        for homes in homes.chunks(100) {
            log.revoke(homes);
        }
        let torn = log.clone();
        log.commit();
        let what = format!("{format:?}");
        states.assert_replays(&log.disk, &states.expect_state(0), &what);
        // Those of a transaction that never was forbid nothing.
        states.assert_replays(&torn.disk, &states.expect_state(1), &what);
    }
}

#[test]
fn all_64_bits_count() {
    let states = States::new(&["-J", "size=1"]);
    let home = states.free(1)[0];
    for format in FORMATS.into_iter().filter(|format| format.wide) {
        let mut log = states.log(9, 70, format);
        log.transaction(&[(home, vec![1; BLOCK])]);
        log.revoke(&[home + (1 << 32), home << 32]);
        log.commit();
        states.assert_replays(&log.disk, &states.expect([(home, vec![1; BLOCK])]), &format!("{format:?}"));
    }
}

#[test]
fn damaged_blocks_that_are_revoked_do_not_matter() {
    let states = States::new(&["-J", "size=1"]);
    let home = states.free(1)[0];
    for format in FORMATS.into_iter().filter(|format| format.checksums != super::Checksums::V1) {
        let mut log = states.log(9, 70, format);
        let descriptor = log.describe(&[(home, vec![1; BLOCK])])[0];
        log.at(descriptor + 1).fill(3);
        log.revoke(&[home]);
        log.commit();
        states.assert_replays(&log.disk, &states.expect([]), &format!("{format:?}"));
    }
}

#[test]
fn a_number_that_does_not_fit_is_not_understood() {
    let states = States::new(&["-J", "size=1"]);
    for format in FORMATS {
        let mut log = states.log(9, 70, format);
        let block = log.revoke(&[5]);
        log.change_descriptor(block, |block| block[12..16].copy_from_slice(&1025_u32.to_be_bytes()));
        log.commit();
        let what = format!("{format:?}");
        states.assert_refused(&log.disk, "impossible number of revocations", &what);
        states.assert_nobody_replays(&log.disk, &what);
    }
}
