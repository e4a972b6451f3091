//! What is read is the state, in whatever way it is asked for; all else is refused, and the conversation goes on.

use std::sync::Arc;

use imagezip::image::ImageDisk;
use imagezip::io::DiskIo as _;
use imagezip::io::fake::MemoryDisk;
use imagezip::nbd::{Export, Trouble};
use imagezip::restore::FreePolicy;
use proptest::prelude::*;
use sigs::{ByteOffset, ByteRange};

use super::client::{BLOCK_STATUS, READ};
use super::{BLOCK, Pair, talk};
use crate::round_trip::case;
use crate::support::{Noise, open, restore_to};

const DF: u16 = 4;
const REQ_ONE: u16 = 8;

#[test]
fn reads_are_right_in_one_piece_and_in_chunks() {
    let pair = Pair::new();
    let len = pair.state.len();
    let all = u32::try_from(len).unwrap();
    for (structured, flags) in [(false, 0), (true, 0), (true, DF)] {
        let ((), (ending, troubles)) = talk(&pair.export(), |client| {
            client.go(structured);
            assert!(client.read(flags, 0, all) == pair.state);
            for (offset, bytes) in [(0, 1), (len - 1, 1), (len - 700, 700), (4095, 2), (400_000, 1_300_000)] {
                let found = client.read(flags, u64::try_from(offset).unwrap(), u32::try_from(bytes).unwrap());
                assert!(found == pair.state[offset..offset + bytes], "{bytes} at {offset}");
            }
            client.send(&super::client::request(0, 2, 0, 0));
            client.expect_end();
        });
        ending.unwrap();
        assert!(troubles.is_empty());
    }
}

#[test]
fn zeros_are_not_sent_unless_in_one_piece() {
    let pair = Pair::new();
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.go(true);
        let start = u64::try_from(99 * BLOCK).unwrap();
        let sizes = |replies: Vec<super::client::Reply>| -> Vec<_> {
            replies.into_iter().map(|reply| (reply.kind.unwrap(), reply.payload.len())).collect()
        };
        // A block of data, 20 of zeros, one of data.
        let bytes = u32::try_from(22 * BLOCK).unwrap();
        assert_eq!(sizes(client.ask(0, READ, start, bytes)), [(1, 8 + BLOCK), (2, 12), (1, 8 + BLOCK)]);
        assert_eq!(sizes(client.ask(DF, READ, start, bytes)), [(1, 8 + 22 * BLOCK)]);
        // What is free is a hole as well, and joins zeros beside it.
        assert_eq!(sizes(client.ask(0, READ, 4 << 20, 1 << 20)), [(2, 12)]);
        // Data goes out in pieces of a MiB.
        assert_eq!(sizes(client.ask(0, READ, 3 << 20, (1 << 20) + 5)), [(1, 8 + (1 << 20)), (2, 12)]);
    });
    ending.unwrap();
}

#[test]
fn allocation_is_told_as_it_is() {
    let pair = Pair::new();
    let all = u32::try_from(pair.state.len()).unwrap();
    let wanted = pair.extents();
    assert!([0, 2, 3].iter().all(|flags| wanted.iter().any(|extent| extent.1 == *flags)), "{wanted:?}");
    let ((), (ending, _)) = talk(&pair.export(), |client| {
        client.go(true);
        assert_eq!(client.extents(0, 0, all), wanted);
        assert_eq!(client.extents(REQ_ONE, 0, all), wanted[..1]);
        assert_eq!(client.extents(REQ_ONE, 10, 5), [(5, 0)]);
        assert_eq!(client.extents(0, u64::try_from(200 * BLOCK - 1).unwrap(), 4098), [(1, 0), (4096, 2), (1, 0)]);
    });
    ending.unwrap();
}

#[test]
fn what_cannot_be_done_is_refused_and_the_next_request_is_served() {
    let pair = Pair::new();
    let len = u64::try_from(pair.state.len()).unwrap();
    for structured in [false, true] {
        let ((), (ending, troubles)) = talk(&pair.export(), |client| {
            client.go(structured);
            for (offset, bytes) in [(len, 1), (len - 1, 2), (u64::MAX, 1), (u64::MAX, u32::MAX), (0, 0), (len, 0)] {
                assert_eq!(client.refused(0, READ, offset, bytes), 22, "{bytes} at {offset}");
                assert_eq!(client.refused(0, BLOCK_STATUS, offset, bytes), 22, "{bytes} at {offset}");
            }
            // Flags nobody offered; one piece is offered only with structured replies.
            for flags in [1, 2, REQ_ONE, 1 << 15] {
                assert_eq!(client.refused(flags, READ, 0, 512), 22, "{flags}");
            }
            if !structured {
                assert_eq!(client.refused(DF, READ, 0, 512), 22);
                assert_eq!(client.refused(0, BLOCK_STATUS, 0, 512), 22);
            }
            assert_eq!(client.refused(DF, BLOCK_STATUS, 0, 512), 22);
            // FLUSH, CACHE, resize, and nothing at all.
            for command in [3, 5, 8, 9, u16::MAX] {
                assert_eq!(client.refused(0, command, 0, 0), 22, "{command}");
            }
            // TRIM and WRITE_ZEROES have no data; a write has, and it is not taken for the next request.
            assert_eq!(client.refused(0, 4, 0, 512), 1);
            assert_eq!(client.refused(0, 6, 0, u32::MAX), 1);
            for bytes in [0, 1, 512, 300_000, 32 << 20] {
                client.send(&super::client::request(0, 1, 0, bytes));
                client.send(&vec![0x25; usize::try_from(bytes).unwrap()]);
                let reply = client.reply(0);
                assert_eq!((reply.error, reply.kind), (1, None), "{bytes}");
            }
            assert_eq!(client.read(0, 77, 1000), pair.state[77..1077]);
        });
        ending.unwrap();
        assert!(troubles.is_empty());
    }
}

#[test]
fn no_request_is_longer_than_32_mib() {
    let disk = vec![0; 40 << 20];
    let made = crate::support::make_whole(&disk, &[]);
    let export = Export::new(ImageDisk::new(Arc::new(open(&made.image, &[]).unwrap())));
    for structured in [false, true] {
        let ((), (ending, _)) = talk(&export, |client| {
            client.go(structured);
            assert_eq!(client.refused(0, READ, 0, (32 << 20) + 1), 22);
            let flags = if structured { DF } else { 0 };
            assert!(client.read(flags, 1, 32 << 20) == disk[..32 << 20]);
            if structured {
                assert_eq!(client.extents(0, 0, 40 << 20), [(40 << 20, 2)], "a question may be longer");
            }
        });
        ending.unwrap();
    }
}

/// What the delta stores lies in one frame; this is where.
const CHANGED: (u64, u32) = (300_000, 50_000);

#[test]
fn a_damaged_frame_is_an_error_and_never_wrong_data() {
    let pair = Pair::new();
    for structured in [false, true] {
        for flags in if structured { vec![0, DF] } else { vec![0] } {
            let image = Arc::new(MemoryDisk::new(pair.delta.image.clone()));
            let export = pair.export_of(Arc::clone(&image));
            let ((), (ending, troubles)) = talk(&export, |client| {
                client.go(structured);
                // One byte of the first frame changes after the image was checked.
                let byte = pair.delta.image[80] ^ 1;
                image.write_all_at(&[byte], ByteOffset::new(80)).unwrap();
                assert_eq!(client.refused(flags, READ, CHANGED.0, CHANGED.1), 5);
                assert_eq!(client.refused(flags, READ, 0, 1 << 20), 5);
                // What lies elsewhere is served; and once it is healed, all is.
                assert!(client.read(flags, 3 << 20, 1 << 20) == pair.state[3 << 20..4 << 20]);
                image.write_all_at(&[byte ^ 1], ByteOffset::new(80)).unwrap();
                assert!(client.read(flags, 0, 1 << 20) == pair.state[..1 << 20]);
            });
            ending.unwrap();
            assert_eq!(troubles.len(), 2);
            assert!(troubles.iter().all(|trouble| matches!(trouble, Trouble::Read { .. })), "{troubles:?}");
        }
    }
}

#[test]
fn a_medium_that_fails_is_an_error() {
    let pair = Pair::new();
    let image = Arc::new(MemoryDisk::new(pair.delta.image.clone()));
    let export = pair.export_of(Arc::clone(&image));
    let ((), (ending, troubles)) = talk(&export, |client| {
        client.go(true);
        image.fail_reads(ByteRange { start: ByteOffset::new(80), len: sigs::ByteLen::new(1) }, Some(1));
        assert_eq!(client.refused(0, READ, CHANGED.0, CHANGED.1), 5);
        assert_eq!(client.read(0, CHANGED.0, CHANGED.1), pair.state[300_000..350_000]);
    });
    ending.unwrap();
    assert_eq!(troubles.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn every_window_is_what_a_restore_writes((first, second) in case(), seed: u64, structured: bool, df: bool) {
        let base = first.make(&[]);
        let delta = second.make(&[&base]);
        let chain = open(&delta.image, &[&base.image]).unwrap();
        let target = MemoryDisk::new(vec![0; chain.geometry().disk_bytes.to_usize().unwrap()]);
        restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
        let wanted = target.content();
        let export = Export::new(ImageDisk::new(Arc::new(chain)));
        let flags = if structured && df { DF } else { 0 };
        let ((), (ending, _)) = talk(&export, |client| {
            client.go(structured);
            let mut noise = Noise(seed | 1);
            // Of a disk without bytes there is nothing to read.
            for _ in 0..if wanted.is_empty() { 0 } else { 20 } {
                let most = [9, 5000, 100_000, 3 << 20][usize::try_from(noise.next() % 4).unwrap()];
                let start = usize::try_from(noise.next()).unwrap() % wanted.len();
                let end = (start + 1 + usize::try_from(noise.next()).unwrap() % most).min(wanted.len());
                let (offset, bytes) = (u64::try_from(start).unwrap(), u32::try_from(end - start).unwrap());
                assert!(client.read(flags, offset, bytes) == wanted[start..end], "{start}..{end}");
                if structured {
                    let mut at = start;
                    for (len, flags) in client.extents(0, offset, bytes) {
                        let end = at + usize::try_from(len).unwrap();
                        let zero = wanted[at..end].iter().all(|byte| *byte == 0);
                        assert!(zero || flags == 0, "{at}..{end} is not zero");
                        at = end;
                    }
                    assert_eq!(at, end, "all of it is told");
                }
            }
        });
        prop_assert!(ending.is_ok());
    }
}
