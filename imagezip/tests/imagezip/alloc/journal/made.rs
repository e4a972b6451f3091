//! Logs made by hand: what the kernel rarely leaves behind, against a naive model and the tools of ext.

mod chance;
mod end;
mod map;
mod revoked;
mod states;
mod superblock;
mod writer;

use states::States;
use writer::{Checksums, Format};

const PLAIN: Format = Format::new(Checksums::None, false);
const V3: Format = Format::new(Checksums::V3, true);

/// Every way to write a log.
const FORMATS: [Format; 9] = [
    PLAIN,
    Format::new(Checksums::None, true),
    Format::new(Checksums::V1, false),
    Format::new(Checksums::V1, true),
    Format::new(Checksums::V2, false),
    Format::new(Checksums::V2, true),
    Format::new(Checksums::V3, false),
    V3,
    Format { uuids: true, async_commit: true, ..V3 },
];

#[test]
fn every_format_round_the_end_of_the_ring_and_of_the_numbers() {
    let states = States::new(&["-J", "size=1"]);
    let escaped = states.changes(1).iter().any(|(_, block)| block.starts_with(&writer::MAGIC));
    assert!(escaped, "the test needs a block that has to be escaped");
    for format in FORMATS {
        let what = format!("{format:?}");
        let mut log = states.log(states.len - 40, u32::MAX, format);
        for state in 1..=3 {
            log.transaction(&states.changes(state));
        }
        assert!(log.next < 500 && log.transaction == 2, "{what}: {} {}", log.next, log.transaction);
        states.assert_replays(&log.disk, &states.expect_state(3), &what);
    }
}

#[test]
fn uuids_behind_all_tags() {
    let states = States::new(&["-J", "size=1"]);
    for format in [PLAIN, Format::new(Checksums::V2, true)] {
        let mut log = states.log(7, 5, Format { uuids: true, ..format });
        for state in 1..=2 {
            log.transaction(&states.changes(state));
        }
        states.assert_replays(&log.disk, &states.expect_state(2), &format!("{format:?}"));
    }
}

#[test]
fn places_that_cannot_be() {
    let states = States::new(&["-J", "size=1"]);
    let block = |home: u64| vec![(home, vec![7; states::BLOCK])];
    for (home, what) in [
        (8194, "behind the disk"),
        (1 << 40, "far behind the disk"),
        (u64::MAX, "at the end of all numbers"),
        (states.journal, "the start of the journal"),
        (states.journal + u64::from(states.len) - 1, "the end of the journal"),
    ] {
        let mut log = states.log(1, 9, V3);
        log.transaction(&states.changes(1));
        log.describe(&block(home));
        let torn = log.clone();
        log.commit();
        states.assert_refused(&log.disk, "impossible place of a block", what);
        // Without its commit block the transaction never was.
        states.assert_replays(&torn.disk, &states.expect_state(1), what);
        // What is revoked does not matter either.
        log.revoke(&[home]);
        log.commit();
        states.assert_replays(&log.disk, &states.expect_state(1), what);
    }
    // Behind the file system there is a block of the partition, which is data anyway.
    let mut log = states.log(1, 9, V3);
    log.transaction(&block(8192));
    states.assert_replays(&log.disk, &states.expect(block(8192)), "behind the file system");
}
