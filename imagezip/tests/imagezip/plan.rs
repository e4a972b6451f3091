//! A chain of images read run by run, against the disks it was made of.

use imagezip::image::{Content, ContentReader};
use proptest::prelude::*;
use sigs::{BlockIndex, BlockSize};

use crate::support::{Noise, layout, make, open};

const BLOCK: usize = 512;

/// Changes blocks here and there, and frees and allocates some.
fn edited(disk: &[u8], used: &[bool], noise: &mut Noise, one_in: u64) -> (Vec<u8>, Vec<bool>) {
    let (mut disk, mut used) = (disk.to_vec(), used.to_vec());
    for (content, used) in disk.chunks_mut(BLOCK).zip(&mut used) {
        match noise.next() % (one_in * 3) {
            0 => noise.fill(content),
            1 => content.fill(0),
            2 => *used = !*used,
            _ => {}
        }
    }
    (disk, used)
}

fn pieces(used: &[bool]) -> Vec<(u64, u64)> {
    (0_u64..).zip(used).filter(|(_, used)| **used).map(|(block, _)| (block * 512, 512)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Thousands of runs, so that many marks and several layers are passed.
    #[test]
    fn runs_of_a_chain_lead_to_the_bytes_of_the_disk(seed in 1_u64.., one_in in 1_u64..40) {
        let mut noise = Noise(seed);
        let size = BlockSize::new(512).unwrap();
        let mut states = vec![edited(&vec![7; 5000 * BLOCK + 300], &vec![true; 5001], &mut noise, one_in)];
        for _ in 0..2 {
            let (disk, used) = states.last().unwrap();
            states.push(edited(disk, used, &mut noise, one_in));
        }
        let image = |state: &(Vec<u8>, Vec<bool>), bases: &[&_]| {
            make(&state.0, &layout(&state.0, pieces(&state.1)), bases, size).unwrap()
        };
        let base = image(&states[0], &[]);
        let first = image(&states[1], &[&base]);
        let second = image(&states[2], &[&first, &base]);
        let chain = open(&second.image, &[&base.image, &first.image]).unwrap();
        let (disk, used) = &states[2];
        for _ in 0..40 {
            let (a, b) = (noise.next() % 5002, noise.next() % 5002);
            let (from, to) = (a.min(b), a.max(b).min(5001));
            let mut next = from;
            let mut reader = ContentReader::new(&chain);
            for run in chain.plan().runs_in(BlockIndex::new(from), BlockIndex::new(to)) {
                prop_assert_eq!(run.first.get(), next);
                next += run.blocks.get();
                let range = chain.plan().byte_range(&run).unwrap();
                let start = usize::try_from(range.start.get()).unwrap();
                let expected = &disk[start..start + range.len.to_usize().unwrap()];
                let occupied = &used[usize::try_from(run.first.get()).unwrap()..usize::try_from(next).unwrap()];
                prop_assert!(occupied.iter().all(|used| *used == (run.content != Content::Free)));
                match run.content {
                    Content::Free => {}
                    Content::Zero => prop_assert!(expected.iter().all(|byte| *byte == 0)),
                    Content::Frame { .. } => prop_assert_eq!(reader.content(&run).unwrap().unwrap(), expected),
                }
            }
            prop_assert_eq!(next, to.max(from));
        }
    }
}
