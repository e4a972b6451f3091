//! What is captured comes back; compared with a model that knows nothing of chunks, frames and threads.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use imagezip::verify::{compare, verify_content};
use proptest::prelude::*;
use sigs::{BlockHash, BlockSize, BlockState, ChunkState, RootBuilder};

use crate::support::{Made, Noise, THREADS, controlled, layout, make, open, restore_to};

/// A disk at random: its bytes, and which of them are allocated.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) disk: Vec<u8>,
    pieces: Vec<(u64, u64)>,
    pub(crate) block_size: BlockSize,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..3_usize,
        500..10_000_usize,
        Just(4096_usize),
        Just(1 << 20),
        (1_usize << 20) - 3..(1 << 20) + 5000,
        (3_usize << 20)..(5 << 20),
    ]
}

/// Fills a disk with stretches of zeros, text and noise.
fn fill(len: usize, seed: u64) -> Vec<u8> {
    let mut noise = Noise(seed | 1);
    let mut disk = vec![0; len];
    let mut at = 0;
    while at < len {
        let stretch = usize::try_from(noise.next() % 60_000).unwrap() + 1;
        let end = (at + stretch).min(len);
        match noise.next() % 3 {
            0 => {}
            1 => disk[at..end].fill(noise.next().to_le_bytes()[0]),
            _ => noise.fill(&mut disk[at..end]),
        }
        at = end;
    }
    disk
}

/// Changes some places of a disk.
fn change(disk: &mut [u8], seed: u64) {
    let mut noise = Noise(seed | 1);
    for _ in 0..noise.next() % 40 {
        if disk.is_empty() {
            return;
        }
        let len = disk.len();
        let at = usize::try_from(noise.next()).unwrap() % len;
        let end = (at + usize::try_from(noise.next() % 20_000).unwrap()).min(len);
        if noise.next().is_multiple_of(4) { disk[at..end].fill(0) } else { noise.fill(&mut disk[at..end]) }
    }
}

fn pieces(len: usize, seed: u64) -> Vec<(u64, u64)> {
    let mut noise = Noise(seed | 1);
    let len = u64::try_from(len).unwrap();
    match noise.next() % 4 {
        0 => vec![(0, len)],
        1 => Vec::new(),
        _ => (0..noise.next() % 60).map(|_| (noise.next() % len.max(1), 1 + noise.next() % 90_000)).collect(),
    }
}

pub(crate) fn case() -> impl Strategy<Value = (Case, Case)> {
    let blocks = prop_oneof![Just(512_u32), Just(4096), Just(65536), Just(1 << 20)];
    (size(), any::<u64>(), any::<u64>(), blocks).prop_map(|(len, seed, other, block)| {
        let block_size = BlockSize::new(block).unwrap();
        let disk = fill(len, seed);
        let mut changed = disk.clone();
        change(&mut changed, other);
        let first = Case { pieces: pieces(len, seed ^ 0xabc), disk, block_size };
        let second = Case { pieces: pieces(len, other ^ 0xabc), disk: changed, block_size };
        (first, second)
    })
}

impl Case {
    pub(crate) fn layout(&self) -> Layout {
        layout(&self.disk, self.pieces.clone())
    }

    pub(crate) fn make(&self, bases: &[&Made]) -> Made {
        make(&self.disk, &self.layout(), bases, self.block_size).unwrap()
    }

    /// The model: every block on its own. Returns the content a block must have, or nothing for a FREE one.
    pub(crate) fn model(&self) -> Vec<Option<Vec<u8>>> {
        let mut allocated = vec![false; self.disk.len()];
        for piece in self.layout().allocated() {
            let start = usize::try_from(piece.start.get()).unwrap();
            allocated[start..start + piece.len.to_usize().unwrap()].fill(true);
        }
        let size = self.block_size.as_usize();
        let blocks = self.disk.chunks(size).zip(allocated.chunks(size));
        blocks
            .map(|(content, allocated)| {
                let masked = content.iter().zip(allocated).map(|(byte, used)| if *used { *byte } else { 0 });
                allocated.contains(&true).then(|| masked.collect())
            })
            .collect()
    }

    fn root(&self, made: &Made) -> sigs::Root {
        let geometry = made.captured.manifest.geometry;
        let states: Vec<_> = self
            .model()
            .into_iter()
            .map(|content| match content {
                None => BlockState::Free,
                Some(content) if content.iter().all(|byte| *byte == 0) => BlockState::Zero,
                Some(content) => BlockState::Data(BlockHash::of(&content)),
            })
            .collect();
        let per_chunk = usize::try_from(self.block_size.blocks_per_chunk()).unwrap();
        let mut builder = RootBuilder::new(geometry);
        states.chunks(per_chunk).for_each(|states| builder.push(ChunkState::from_states(states).summarise()));
        builder.finish().unwrap().root()
    }

    /// Checks a restored disk that held `before`.
    pub(crate) fn check(&self, restored: &[u8], before: &[u8], free: FreePolicy) {
        let size = self.block_size.as_usize();
        for (index, wanted) in self.model().into_iter().enumerate() {
            let span = index * size..((index + 1) * size).min(restored.len());
            let found = &restored[span.clone()];
            match (wanted, free) {
                (Some(wanted), _) => assert!(found == wanted, "block {index}"),
                (None, FreePolicy::Zero) => assert!(found.iter().all(|byte| *byte == 0), "free block {index}"),
                (None, FreePolicy::Keep) => assert!(found == &before[span], "free block {index} was touched"),
                (None, FreePolicy::Discard) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn full_and_delta_come_back((first, second) in case(), free in 0..3, in_place: bool) {
        let free = [FreePolicy::Keep, FreePolicy::Zero, FreePolicy::Discard][usize::try_from(free).unwrap()];
        let base = first.make(&[]);
        assert_eq!(base.captured.target_root, first.root(&base));
        let delta = second.make(&[&base]);
        assert_eq!(delta.captured.target_root, second.root(&delta), "a delta has the root of its target");
        assert_eq!(delta.signature, second.make(&[]).signature, "whatever it is compared with");

        let full = open(&base.image, &[]).unwrap();
        controlled(|control| verify_content(&full, THREADS, control)).unwrap();
        let before = fill(first.disk.len(), 77);
        let target = MemoryDisk::new(before.clone());
        let report = restore_to(&full, &target, free, in_place).unwrap();
        assert_eq!(report.root, base.captured.target_root);
        first.check(&target.content(), &before, free);

        let before = target.content();
        let chain = open(&delta.image, &[&base.image]).unwrap();
        controlled(|control| verify_content(&chain, THREADS, control)).unwrap();
        restore_to(&chain, &target, free, in_place).unwrap();
        second.check(&target.content(), &before, free);

        let same = |disk: &Vec<u8>| controlled(|control| compare(&chain, disk, &second.layout(), THREADS, control)).unwrap();
        assert!(same(&second.disk).is_identical(), "stale bytes in used blocks do not count");
        assert!(same(&target.content()).is_identical());
    }
}
