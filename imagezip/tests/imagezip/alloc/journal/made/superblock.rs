//! Superblocks of journals that say what cannot be.

use super::states::States;
use super::{PLAIN, V3};

#[test]
fn what_cannot_be_is_not_believed() {
    let states = States::new(&["-J", "size=1"]);
    let len = states.len;
    let lies: &[(usize, u32, &str)] = &[
        (0, 0, "magic number"),
        (4, 5, "version"),
        (12, 4096, "block size"),
        (16, len + 1, "length"),
        (16, u32::MAX, "length"),
        (16, 1023, "length"),
        (20, 0, "first block of the log"),
        (20, len, "first block of the log"),
        (20, u32::MAX, "first block of the log"),
        (20, 4, "start of the log"),
        (28, len, "start of the log"),
        (28, u32::MAX, "start of the log"),
        (32, 5, "recorded the error"),
        (36, 2, "compat feature flags 0x2"),
        (40, 0x40 | 1, "incompat feature flags 0x40"),
        (44, 1, "ro_compat feature flags 0x1"),
        (40, 8 | 0x10, "choice of checksums"),
        (40, 0x20 | 1, "number of fast commit blocks"),
        (64, 2, "number of users"),
    ];
    for (at, value, says) in lies {
        let mut log = states.log(3, 70, PLAIN);
        log.transaction(&states.changes(1));
        log.set(*at, *value);
        states.assert_refused(&log.disk, says, &format!("{at} {value:#x}"));
    }
    let mut log = states.log(3, 70, V3);
    log.transaction(&states.changes(1));
    log.at(0)[252] ^= 1;
    states.assert_refused(&log.disk, "impossible checksum", "checksum");
}

#[test]
fn an_empty_log_does_nothing() {
    let states = States::new(&["-J", "size=1"]);
    for format in [PLAIN, V3] {
        let mut log = states.log(3, 70, format);
        log.transaction(&states.changes(1));
        log.set(28, 0);
        states.assert_empty(&log.disk, &format!("{format:?}"));
    }
}

#[test]
fn a_log_that_begins_nowhere_in_particular_is_empty() {
    let states = States::new(&["-J", "size=1"]);
    let mut log = states.log(3, 70, V3);
    log.transaction(&states.changes(1));
    // Inside of the ring, but there is a block of data.
    log.set(28, 4);
    states.assert_replays(&log.disk, &states.expect_state(0), "data");
}

/// The ring ends where the superblock says, not where the file does.
#[test]
fn a_file_longer_than_its_log() {
    let states = States::new(&["-J", "size=2"]);
    assert_eq!(states.len, 2048);
    for len in [1024, 1500, 2048] {
        let mut log = states.log_of(len, len - 10, 70, V3);
        for state in 1..=3 {
            log.transaction(&states.changes(state));
        }
        assert!(log.next < len - 10, "went round");
        states.assert_replays(&log.disk, &states.expect_state(3), &format!("{len}"));
    }
    // One block less is another log, the first transaction of which is not complete.
    let mut log = states.log_of(1500, 1490, 70, V3);
    log.transaction(&states.changes(1));
    log.set(16, 1499);
    states.assert_replays(&log.disk, &states.expect_state(0), "one less");
}
