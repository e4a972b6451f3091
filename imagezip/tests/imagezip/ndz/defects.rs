//! Each thing that Emulab's own tool does not check, or takes for success.

use imagezip::foreign::ndz::{ChunkDefect, Refused};
use imagezip::io::ReadAt as _;
use sigs::ByteOffset;

use super::maker::{CHUNK, Chunk, HEADER, defect, deflate, open, refusal};

/// Two chunks that belong together.
fn pair(version: u32) -> [Chunk; 2] {
    [Chunk::new(version, 0, &[(0, 10), (20, 300)]), Chunk::new(version, 1, &[(400, 50), (500, 1)])]
}

fn file(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(Chunk::build).collect()
}

/// Reads all of a file that opens; says how that ended.
fn read(file: &[u8]) -> Result<Vec<u8>, String> {
    let disk = open(file).map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let mut all = vec![0; disk.len().to_usize().unwrap()];
    disk.read_exact_at(&mut all, ByteOffset::ZERO).map_err(|error| error.to_string())?;
    Ok(all)
}

#[test]
fn a_sound_pair_is_read() {
    for version in 1..=4 {
        let all = read(&file(&pair(version))).unwrap();
        assert_eq!(all.len(), 501 * 512);
        let sector = |at: usize| &all[at * 512..(at + 1) * 512];
        assert_eq!(sector(20), &pair(version)[0].content[10 * 512..11 * 512]);
        assert_eq!(sector(500), &pair(version)[1].content[50 * 512..]);
        assert!(sector(15).iter().all(|byte| *byte == 0), "what was free");
    }
}

/// Emulab checks neither order nor duplicates nor absence of chunks.
#[test]
fn chunks_that_are_missing_doubled_or_out_of_order_are_refused() {
    for version in 2..=4 {
        let [first, second] = pair(version).map(|chunk| chunk.build());
        assert_eq!(defect(&[second.clone(), first.clone()].concat()), (0, ChunkDefect::OutOfSequence(1)));
        assert_eq!(defect(&[first.clone(), first.clone()].concat()), (1, ChunkDefect::OutOfSequence(0)));
        assert_eq!(defect(&second), (0, ChunkDefect::OutOfSequence(1)));
        let [first, mut second] = pair(version);
        second.regions[0].0 = 300;
        second.described.0 = 300;
        assert_eq!(defect(&file(&[first, second])), (1, ChunkDefect::Order(300)), "it overlaps the chunk before");
    }
    // The first files of version 1 have no numbers; then the sectors still have to be in order.
    let [mut first, mut second] = pair(1);
    (first.index, second.index) = (0, 0);
    assert!(read(&file(&[first.clone(), second.clone()])).is_ok());
    assert_eq!(defect(&file(&[second, first])), (1, ChunkDefect::Order(0)));
}

#[test]
fn a_file_that_ends_after_a_chunk_is_missed_by_its_count() {
    let [mut first, mut second] = pair(1);
    (first.total, second.total) = (2, 2);
    assert!(open(&file(&[first.clone(), second.clone()])).unwrap().summary().counted);
    assert_eq!(refusal(&first.build()), Refused::Missing { found: 1, total: 2 });
    second.total = 3;
    assert_eq!(defect(&file(&[first, second])), (1, ChunkDefect::OtherTotal(3)));
}

/// Emulab takes the id of the first chunk for that of all.
#[test]
fn chunks_of_two_images_are_refused() {
    let [first, mut second] = pair(4);
    second.image_id[3] ^= 1;
    assert_eq!(defect(&file(&[first.clone(), second])), (1, ChunkDefect::OtherImage));
    let [_, other] = pair(3);
    assert_eq!(defect(&file(&[first, other])), (1, ChunkDefect::OtherVersion));
}

#[test]
fn regions_are_in_order_and_where_the_chunk_says() {
    let with = |regions: &[(u32, u32)]| {
        let mut chunk = Chunk::new(3, 0, &[(10, 10), (30, 10)]);
        chunk.regions = regions.to_vec();
        defect(&chunk.build()).1
    };
    assert_eq!(with(&[(10, 10), (19, 5)]), ChunkDefect::Order(19));
    assert_eq!(with(&[(30, 10), (10, 10)]), ChunkDefect::Order(10));
    assert_eq!(with(&[(10, 0)]), ChunkDefect::Order(10));
    assert_eq!(with(&[(9, 10)]), ChunkDefect::Outside(9));
    assert_eq!(with(&[(10, 31)]), ChunkDefect::Outside(10));
    assert_eq!(with(&[(u32::MAX - 1, 5)]), ChunkDefect::Order(u64::from(u32::MAX) - 1));
    assert!(matches!(with(&[]), ChunkDefect::Header(_)));
    assert!(matches!(with(&[(10, 1); 508]), ChunkDefect::Header(_)), "more than fit");
}

#[test]
fn the_header_area_is_checked() {
    let put = |at: usize, value: u32| {
        let mut file = Chunk::new(2, 0, &[(0, 10)]).build();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        defect(&file).1
    };
    assert_eq!(put(0, 0x6969_696d), ChunkDefect::Magic);
    assert_eq!(put(0, 0x6969_6968), ChunkDefect::Magic);
    for (at, value) in [(4, 0), (4, 1 << 20), (4, u32::MAX), (16, 0), (16, 1 << 20), (20, u32::MAX), (32, u32::MAX)] {
        assert!(matches!(put(at, value), ChunkDefect::Header(_)), "{at} {value}");
    }
}

/// A stream that expands to more or less than the regions would put everything behind it at a wrong place.
#[test]
fn the_stream_ends_where_the_regions_end() {
    let chunk = Chunk::new(3, 0, &[(0, 4000)]);
    let damaged = |stream: &[u8]| read(&chunk.with_stream(stream)).unwrap_err();
    let longer = [&chunk.content[..], &[0]].concat();
    assert!(damaged(&deflate(&longer)).contains("does not end where"));
    assert!(damaged(&deflate(&chunk.content[1..])).contains("does not end where"));
    let stream = deflate(&chunk.content);
    assert!(damaged(&[&stream[..], &[0]].concat()).contains("does not end where"), "a byte behind the end");
    assert!(damaged(&stream[..stream.len() - 1]).contains("damaged"), "the checksum of zlib is cut off");
    assert!(damaged(&stream[..stream.len() / 2]).contains("damaged"));
    let mut flipped = stream.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(damaged(&flipped).contains("damaged"));
    assert!(read(&chunk.with_stream(&stream)).is_ok());
}

#[test]
fn a_checksum_covers_header_and_content() {
    let mut chunk = Chunk::new(4, 0, &[(0, 100), (200, 7)]);
    chunk.checksum = 1;
    let sound = chunk.build();
    assert_eq!(open(&sound).unwrap().summary().checked_chunks, 1);
    let whole = read(&sound).unwrap();
    let stored = HEADER + deflate(&chunk.content).len();
    let mut caught = 0;
    for at in (0..HEADER).step_by(3).chain(HEADER..stored).chain([stored + 5]) {
        for bit in [1, 128] {
            let mut file = sound.clone();
            file[at] ^= bit;
            match read(&file) {
                Err(_) => caught += 1,
                // The rest of the checksum field, the padding, or the kind of checksum made none.
                Ok(all) => assert!(all == whole, "byte {at} gives other content silently"),
            }
        }
    }
    assert!(caught > 2 * (stored - HEADER), "{caught}");
    let mut file = sound;
    file[CHUNK - 1] = 9;
    assert!(read(&file).is_ok(), "padding means nothing");
}

#[test]
fn any_bit_of_a_stream_that_is_wrong_is_found_without_a_checksum() {
    let chunk = Chunk::new(3, 0, &[(0, 40)]);
    let stream = deflate(&chunk.content);
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut damaged = stream.clone();
            damaged[at] ^= 1 << bit;
            match read(&chunk.with_stream(&damaged)) {
                Err(_) => {}
                // Two bits of the zlib header are a hint of the compressor.
                Ok(all) => assert!(all == chunk.content, "byte {at}, bit {bit}"),
            }
        }
    }
}

#[test]
fn what_needs_a_key_is_refused_or_said() {
    let mut chunk = Chunk::new(4, 0, &[(0, 10)]);
    chunk.cipher = 1;
    assert_eq!(defect(&chunk.build()).1, ChunkDefect::Encrypted(1));
    chunk.cipher = 0;
    chunk.checksum = 0x8001;
    assert_eq!(open(&chunk.build()).unwrap().summary().signed_chunks, 1);
    chunk.checksum = 2;
    assert_eq!(defect(&chunk.build()).1, ChunkDefect::ChecksumKind(2));
}

/// Emulab's tool once dropped relocations silently, and prints a line for those it does not know.
#[test]
fn relocations_are_followed_or_refused() {
    let with = |relocations: &[[u32; 4]]| {
        let mut chunk = Chunk::new(3, 0, &[(0, 10), (50, 10)]);
        chunk.relocations = relocations.to_vec();
        chunk.build()
    };
    for kind in [1, 2, 3, 4, 5, 7, 100] {
        assert_eq!(defect(&with(&[[kind, 50, 0, 64]])).1, ChunkDefect::Relocation(kind, 50));
    }
    let short = open(&with(&[[6, 59, 0, 100]])).unwrap();
    assert_eq!(short.len().get(), 59 * 512 + 100, "the source had no more");
    assert_eq!(short.layout().unwrap().allocated_bytes().get(), 19 * 512 + 100);
    for wrong in [[6, 58, 0, 100], [6, 59, 1, 100], [6, 59, 0, 512], [6, 59, 0, 0], [6, u32::MAX, 0, 1]] {
        assert_eq!(defect(&with(&[wrong])).1, ChunkDefect::ShortSector);
    }
    let followed = [with(&[[6, 59, 0, 100]]), Chunk::new(3, 1, &[(70, 1)]).build()].concat();
    assert_eq!(defect(&followed), (1, ChunkDefect::ShortSector));
}

/// A chunk of zeros expands a thousandfold; it is never in memory as a whole.
#[test]
fn a_bomb_is_expanded_piece_by_piece() {
    let mut chunk = Chunk::new(2, 0, &[(5, 1)]);
    let sectors = 1 << 18;
    chunk.regions = vec![(5, sectors)];
    chunk.described = (5, 5 + sectors);
    chunk.content = vec![0; usize::try_from(sectors).unwrap() * 512];
    let disk = open(&chunk.build()).unwrap();
    let mut piece = vec![1; 1000];
    disk.read_exact_at(&mut piece, ByteOffset::new(disk.len().get() - 1000)).unwrap();
    assert!(piece.iter().all(|byte| *byte == 0));
}
