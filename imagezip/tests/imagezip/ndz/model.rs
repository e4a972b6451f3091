//! Random regions of a random disk, read in random order by several threads, against the bytes themselves.

use std::thread;

use imagezip::io::ReadAt as _;
use proptest::prelude::*;
use sigs::ByteOffset;

use super::maker::{Chunk, open};
use crate::support::Noise;

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_the_regions_hold_is_read_wherever_it_is(version in 1..5_u32, chunks in 1..5_u32, seed: u64) {
        let mut noise = Noise(seed | 1);
        let mut below = |most: u64| u32::try_from(noise.next() % most).unwrap();
        let (mut sector, mut file, mut model) = (below(50), Vec::new(), Vec::new());
        for index in 0..chunks {
            let regions: Vec<_> = (0..=below(30))
                .map(|_| {
                    let region = (sector + below(100), 1 + below(if index == 1 { 3000 } else { 200 }));
                    sector = region.0 + region.1;
                    region
                })
                .collect();
            let chunk = Chunk::new(version, index, &regions);
            let mut content = &chunk.content[..];
            for (start, len) in &regions {
                let (now, later) = content.split_at(usize::try_from(len * 512).unwrap());
                model.resize(usize::try_from(start * 512).unwrap(), 0);
                model.extend(now);
                content = later;
            }
            file.extend(chunk.build());
        }
        let disk = open(&file).unwrap();
        prop_assert_eq!(disk.len().get(), u64::try_from(model.len()).unwrap());
        thread::scope(|scope| {
            for number in 0..3 {
                let (disk, model) = (&disk, &model);
                scope.spawn(move || {
                    let mut noise = Noise(seed ^ (number + 1));
                    for _ in 0..20 {
                        let start = usize::try_from(noise.next()).unwrap() % (model.len() + 1);
                        let end = (start + usize::try_from(noise.next() % 500_000).unwrap()).min(model.len());
                        let mut piece = vec![1; end - start];
                        disk.read_exact_at(&mut piece, ByteOffset::new(u64::try_from(start).unwrap())).unwrap();
                        assert!(piece == model[start..end], "{start} to {end}");
                    }
                });
            }
        });
    }
}
