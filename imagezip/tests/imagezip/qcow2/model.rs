//! The writer and the reader against a plain vector of bytes.

use std::io::Cursor;
use std::sync::Arc;

use imagezip::foreign::qcow2::{Disk, Layout, Stored, WriteError, Writer};
use imagezip::io::ReadAt;
use proptest::prelude::*;
use sigs::{ByteLen, ByteOffset, ByteRange};

use crate::support::{Noise, patchwork};

/// Writes the clusters of `disk` that are not zeros, some of them compressed where `zstd` allows it.
pub(super) fn write(disk: &[u8], cluster_bits: u32, zstd: bool, seed: u64) -> Vec<u8> {
    let layout = Layout::new(ByteLen::of(disk), cluster_bits, zstd);
    let cluster = layout.cluster_bytes().to_usize().unwrap();
    let mut writer = Writer::new(Cursor::new(Vec::new()), layout).unwrap();
    let mut noise = Noise(seed | 1);
    for (number, bytes) in (0..).zip(disk.chunks(cluster)).filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)) {
        let mut bytes = bytes.to_vec();
        bytes.resize(cluster, 0);
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        let small = zstd && packed.len() + 512 < cluster && !noise.next().is_multiple_of(4);
        writer.put(number, &if small { Stored::Zstd(packed) } else { Stored::Plain(bytes) }).unwrap();
    }
    let (out, len) = writer.finish().unwrap();
    let file = out.into_inner();
    assert_eq!(len, ByteLen::of(&file));
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        len in prop_oneof![0..3000_usize, 100_000..3_000_000_usize],
        bits in 9..18_u32,
        zstd: bool,
        seed: u64,
    ) {
        let disk = patchwork(len, seed);
        let file = Disk::open(Arc::new(write(&disk, bits, zstd, seed))).unwrap();
        let mut padded = disk;
        padded.resize(len.next_multiple_of(512), 0);
        prop_assert_eq!(file.len(), ByteLen::of(&padded));
        let mut all = vec![1; padded.len()];
        file.read_exact_at(&mut all, ByteOffset::ZERO).unwrap();
        prop_assert!(all == padded);
        let mut noise = Noise(seed | 1);
        for _ in 0..50 {
            let start = usize::try_from(noise.next()).unwrap() % (padded.len() + 1);
            let end = (start + usize::try_from(noise.next() % 300_000).unwrap()).min(padded.len());
            let mut piece = vec![1; end - start];
            let range = ByteRange { start: ByteOffset::new(u64::try_from(start).unwrap()), len: ByteLen::of(&piece) };
            file.read_exact_at(&mut piece, range.start).unwrap();
            prop_assert!(piece == padded[start..end]);
            let data = file.next_data(range).unwrap().map_or(end, |at| usize::try_from(at.get()).unwrap());
            prop_assert!(start <= data && data <= end);
            prop_assert!(padded[start..data].iter().all(|byte| *byte == 0), "called a hole");
        }
        let mut past = [0];
        prop_assert!(file.read_exact_at(&mut past, ByteOffset::new(file.len().get())).is_err());
    }
}

#[test]
fn clusters_out_of_order_or_of_a_wrong_length_are_refused() {
    let layout = Layout::new(ByteLen::new(1 << 20), 12, false);
    let new = || Writer::new(Cursor::new(Vec::new()), layout).unwrap();
    let plain = Stored::Plain(vec![1; 4096]);
    let mut writer = new();
    writer.put(5, &plain).unwrap();
    assert!(matches!(writer.put(5, &plain), Err(WriteError::Order(5))));
    assert!(matches!(writer.put(4, &plain), Err(WriteError::Order(4))));
    assert!(matches!(new().put(256, &plain), Err(WriteError::Order(256))));
    assert!(matches!(new().put(0, &Stored::Plain(vec![1; 4095])), Err(WriteError::Order(0))));
    assert!(
        matches!(new().put(0, &Stored::Zstd(vec![1; 100])), Err(WriteError::Order(0))),
        "the header does not say so"
    );
    assert!(Writer::new(Cursor::new(Vec::new()), Layout::new(ByteLen::new(1 << 46), 9, false)).is_err());
}

#[test]
fn a_disk_of_64_tib_that_is_empty_costs_its_first_table_only() {
    let layout = Layout::new(ByteLen::new(1 << 46), 16, false);
    let mut writer = Writer::new(Cursor::new(Vec::new()), layout).unwrap();
    writer.put((1 << 30) - 1, &Stored::Plain(vec![7; 65536])).unwrap();
    let (out, len) = writer.finish().unwrap();
    assert!(len.get() < 2 << 20, "{len} bytes");
    let disk = Disk::open(Arc::new(out.into_inner())).unwrap();
    let all = ByteRange { start: ByteOffset::ZERO, len: disk.len() };
    assert_eq!(disk.next_data(all).unwrap(), Some(ByteOffset::new((1 << 46) - 65536)));
}
