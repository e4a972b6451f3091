//! Logs by chance, against a model that is as simple as it can be.

use super::FORMATS;
use super::states::{BLOCK, Blocks, States};
use crate::support::Noise;

#[test]
fn whatever_is_written_and_revoked() {
    let states = States::new(&["-J", "size=1"]);
    let places = states.free(12);
    let mut noise = Noise(0x1065);
    let mut number = |below: usize| usize::try_from(noise.next() % u64::try_from(below).unwrap()).unwrap();
    for round in 0..18 {
        let format = FORMATS[round % FORMATS.len()];
        let start = 1 + u32::try_from(number(1023)).unwrap();
        let first = u32::MAX - u32::try_from(number(6)).unwrap();
        let mut log = states.log(start, first, format);
        let mut written: Vec<(usize, Blocks)> = Vec::new();
        let mut revoked: Vec<(usize, u64)> = Vec::new();
        let transactions = 1 + number(6);
        for transaction in 0..transactions {
            for _ in 0..number(4) {
                if number(3) == 0 {
                    let homes: Vec<u64> = (0..1 + number(4)).map(|_| places[number(12)]).collect();
                    log.revoke(&homes);
                    revoked.extend(homes.into_iter().map(|home| (transaction, home)));
                } else {
                    let mut block = vec![u8::try_from(number(256)).unwrap(); BLOCK];
                    if number(3) == 0 {
                        block[..4].copy_from_slice(&super::writer::MAGIC);
                    }
                    let blocks: Blocks = (0..1 + number(70)).map(|_| (places[number(12)], block.clone())).collect();
                    log.describe(&blocks);
                    written.push((transaction, blocks));
                }
            }
            log.commit();
        }
        let counts = |transaction: usize, home: u64| !revoked.iter().any(|(at, it)| *at >= transaction && *it == home);
        let kept = written.into_iter().flat_map(|(transaction, blocks)| {
            blocks.into_iter().filter(move |(home, _)| counts(transaction, *home)).collect::<Vec<_>>()
        });
        states.assert_replays(&log.disk, &states.expect(kept), &format!("round {round}: {format:?}"));
    }
}
