//! Writes the seeds that are not disks: `seeds FOLDER`, with a folder for each target. A good one is accepted, another not.
//!
//! Seeds that were found by fuzzing are not made here, and stay.

#![expect(clippy::unwrap_used, reason = "a tool for who maintains the seeds")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::write::ZlibEncoder;
use fuzz_harness::disk::{NOTHING, bases};
use fuzz_harness::image::Disk;
use fuzz_harness::input::Changes;
use fuzz_harness::resize::save;
use fuzz_harness::words::STATEMENT;
use imagezip::layout::Layout;
use sigs::image_map::{MapBuilder, MapEncoding, Origin, Run};
use sigs::map::MAX_DISK_BYTES;
use sigs::seal::{SealKind, Sealed, SigningKey};
use sigs::zdi::{Container, Contents, HEADER_BYTES, header_bytes};
use sigs::{BlockCount, BlockCounts, BlockHash, BlockSize, BlockState, ByteLen, ByteOffset, ChunkState, Digest};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/formats/golden/");

/// Where seeds go.
struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A lie about a disk: image, name, doublings of the disk, changes of bytes.
type Lie = (&'static str, &'static str, u8, &'static [(u64, &'static [u8])]);

const ALL: &[u8] = &[0xFF; 8];
const LIES: &[Lie] = &[
    ("ext4", "bad-huge-count", 0, &[(1028, &[0xFF, 0xFF, 0xFF, 0x7F]), (1024 + 0x150, &[0xFF, 0, 0, 0])]),
    ("ext4", "bad-huge-on-a-large-disk", 7, &[(1028, &[0, 0, 0x20, 0])]),
    ("ext4", "bad-bitmaps-overlap", 0, &[(2048, &[7, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0])]),
    ("ext4", "bad-bitmap-wraps-around", 0, &[(2048, ALL), (2048 + 32, ALL)]),
    ("ext2", "bad-small-groups", 0, &[(1024 + 0x20, &[0, 1, 0, 0, 0, 1, 0, 0])]),
    ("ext2", "bad-no-blocks-in-a-group", 0, &[(1024 + 0x20, &[0; 8])]),
    ("btrfs", "bad-root-is-elsewhere", 0, &[(65536 + 0x50, ALL)]),
    ("btrfs", "bad-level-too-high", 0, &[(65536 + 0xC6, &[0xFF, 0xFF, 0xFF])]),
    ("btrfs", "bad-chunks-without-end", 0, &[(65536 + 0xA0, &[0xFF; 4])]),
    ("btrfs", "bad-chunk-of-no-stripes", 0, &[(65536 + 0x32B + 17 + 44, &[0, 0])]),
    ("xfs", "bad-cycle", 0, &[(4096 + 8, &[0, 0, 0, 1])]),
    ("xfs", "bad-more-records-than-fit", 0, &[(4096 + 6, &[0xFF, 0xFF])]),
    ("xfs", "bad-other-tree", 0, &[(512 + 16, &[0, 0, 0, 2])]),
    ("xfs", "bad-tree-outside", 0, &[(512 + 16, &[0x7F, 0xFF, 0xFF, 0xFF])]),
    ("xfs", "bad-much-too-high", 0, &[(512 + 28, ALL)]),
    ("xfs", "bad-groups-without-end", 7, &[(88, &[0xFF; 4])]),
    ("xfs", "bad-log-without-end", 0, &[(96, &[0xFF; 4])]),
    ("fat12", "bad-no-clusters", 0, &[(13, &[0])]),
    ("fat16", "bad-many-sectors", 7, &[(19, &[0, 0]), (32, &[0xFF; 4])]),
    ("fat32", "bad-tables-without-end", 0, &[(36, &[0xFF; 4])]),
    ("fat32", "bad-cycle", 0, &[(32 * 512 + 12, &[3, 0, 0, 0])]),
    ("swap", "bad-bad-pages-without-end", 0, &[(1024 + 8, &[0xFF; 4])]),
    ("swap", "bad-huge-count", 7, &[(1024 + 4, &[0xFF; 4])]),
    ("lvm", "bad-label-elsewhere", 0, &[(512 + 20, &[0xFF; 4])]),
    ("lvm", "bad-text-goes-round", 0, &[(4096 + 48, &[0, 0, 0x0F, 0, 0, 0, 0, 0])]),
    ("lvm", "bad-text-without-end", 0, &[(4096 + 48, ALL)]),
    ("gpt", "good-backup-when-entries-without-end", 0, &[(512 + 80, &[0xFF; 8])]),
    ("gpt", "bad-overlap", 0, &[(1024 + 128 + 32, &[0, 8, 0, 0])]),
    ("gpt", "bad-partition-wraps-around", 0, &[(1024 + 40, ALL)]),
    ("gpt", "good-backup-when-entries-wrap-around", 0, &[(512 + 72, ALL)]),
    ("mbr", "bad-cycle", 0, &[(10240 * 512 + 446 + 16 + 8, &[0, 0, 0, 0])]),
    ("mbr", "bad-wraps-around", 0, &[(446 + 8, ALL)]),
];

fn main() {
    let seeds = Seeds { folder: std::env::args_os().nth(1).unwrap().into() };
    disks(&seeds);
    stored(&seeds);
    endless(&seeds, "good-64-tib-of-zeros", Origin::Zero);
    endless(&seeds, "good-64-tib-free", Origin::Free);
    words(&seeds);
    ndz(&seeds);
    nbd(&seeds);
}

fn disks(seeds: &Seeds) {
    for (target, number, base) in bases() {
        let (image, _) = base.state();
        let (target, number) = (target.to_lowercase(), u8::try_from(number).unwrap());
        seeds.put(&target, &format!("good-{}", base.name), &[number, 0]);
        if target == "ext" {
            // Only a mount replays what a fast commit says of names.
            let verdict = if base.name == "ext4-fast-commit" { "bad" } else { "good" };
            seeds.put("files", &format!("{verdict}-{}", base.name), &[number, 0]);
        }
        if target == "table" {
            seeds.put(&target, &format!("good-resize-{}", base.name), &[number, 16]);
        }
        for (_, name, doublings, changes) in LIES.iter().filter(|lie| lie.0 == base.name) {
            let input = Changes::encode(number, image, false, *doublings, changes);
            seeds.put(&target, &format!("{name}-{}", base.name), &input);
        }
    }
    let (_, _, gpt) = bases().find(|(_, _, base)| base.name == "gpt").unwrap();
    let (image, survey) = gpt.state();
    let layout = Layout::from_survey(ByteLen::new(image.len), survey).unwrap();
    seeds.put("zdi", "good-gpt", &save(&Disk::new(image), &layout));
    let swap: &[(u64, &[u8])] = &[(1024, &[1, 0, 0, 0, 0xFF, 3]), (4086, b"SWAPSPACE2")];
    seeds.put("survey", "good-swap", &Changes::encode(0, &NOTHING, false, 0, swap));
    let owners: &[(u64, &[u8])] = &[(0, b"XFSB"), (1024 + 0x38, &[0x53, 0xEF]), (4086, b"SWAPSPACE2")];
    seeds.put("survey", "bad-many-owners", &Changes::encode(0, &NOTHING, false, 0, owners));
}

fn stored(seeds: &Seeds) {
    for name in ["base", "delta", "v2-base", "v2-delta", "v2-incomplete"] {
        let file = fs::read(format!("{GOLDEN}{name}.zdi")).unwrap();
        for target in ["zdi", "boss_verify"] {
            seeds.put(target, &format!("good-{name}"), &file);
        }
        let container = Container::open(file).unwrap();
        seeds.put("manifest", &format!("good-{name}"), &container.contents().manifest);
    }
    for name in ["base", "delta"] {
        seeds.put("signature", &format!("good-{name}"), &fs::read(format!("{GOLDEN}{name}.sig")).unwrap());
    }
}

/// An image without frames of the largest disk there may be, cut into the smallest blocks, of one run.
fn endless(seeds: &Seeds, name: &str, origin: Origin) {
    let golden = Container::open(fs::read(format!("{GOLDEN}v2-base.zdi")).unwrap()).unwrap();
    let mut manifest = golden.manifest().clone();
    manifest.geometry.disk_bytes = ByteLen::new(MAX_DISK_BYTES);
    manifest.geometry.block_size = BlockSize::new(512).unwrap();
    let (blocks, none) = (manifest.geometry.blocks(), BlockCount::ZERO);
    let free = if origin == Origin::Free { blocks } else { none };
    let zero = if origin == Origin::Zero { blocks } else { none };
    manifest.counts = BlockCounts { data: none, zero, free };
    (manifest.stored_blocks, manifest.frame_table) = (none, Digest::of(&[]));
    let mut builder = MapBuilder::new(manifest.format.map_encoding(manifest.geometry.block_size));
    builder.push(Run { origin, blocks });
    let map = builder.finish();
    manifest.map = Digest::of(map.as_bytes());
    let contents = Contents {
        frames: Vec::new(),
        stored_map: zstd::bulk::compress(map.as_bytes(), 3).unwrap(),
        map_bytes: ByteLen::of(map.as_bytes()),
        manifest: manifest.to_bytes(),
    };
    let tail = contents.encode_tail(&[], ByteOffset::new(HEADER_BYTES));
    for target in ["zdi", "boss_verify"] {
        seeds.put(target, name, &[&header_bytes()[..], &tail].concat());
    }
}

fn words(seeds: &Seeds) {
    let frame = |frame, first| Origin::Frame { pack: 0, frame, first };
    let runs = [(Origin::Free, 1 << 40), (frame(0, 0), 256), (frame(1, 0), 3), (Origin::Base(2), 9), (Origin::Zero, 1)];
    for (number, encoding) in
        [MapEncoding::Explicit, MapEncoding::Implied { frame_blocks: 256 }].into_iter().enumerate()
    {
        let mut builder = MapBuilder::new(encoding);
        let blocks = |blocks| BlockCount::new(blocks);
        runs.iter().for_each(|(origin, count)| builder.push(Run { origin: *origin, blocks: blocks(*count) }));
        let total: u64 = runs.iter().map(|(_, count)| count).sum();
        let head = [&[u8::try_from(number).unwrap()], &total.to_le_bytes()[..]].concat();
        seeds.put("image_map", &format!("good-{number}"), &[&head, builder.finish().as_bytes()].concat());
    }
    let states = [BlockState::Free, BlockState::Zero, BlockState::Data(BlockHash::of(b"x")), BlockState::Zero];
    let ChunkState::Mixed(page) = ChunkState::from_states(&states.repeat(64)) else { return };
    seeds.put("total_map", "good-page", &[&[0, 1, 64, 0], page.as_bytes()].concat());
    let key = SigningKey::from_seed(&[7; 32]);
    seeds.put("seals", "good-permit", &Sealed::sign(SealKind::Permit, STATEMENT.into(), &key).to_bytes());
    seeds.put("seals", "bad-only-a-key", key.public().to_pem().unwrap().as_bytes());
}

/// A chunk of an Emulab image as the target takes it.
fn chunk(version: u8, index: u32, regions: &[(u32, u32)], content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    let stream = encoder.finish().unwrap();
    let mut header = vec![b'h' + version, b'i', b'i', b'i'];
    let count = u32::try_from(regions.len()).unwrap();
    [0, index, 0, 4096, count].iter().for_each(|word| header.extend(word.to_le_bytes()));
    if version > 1 {
        let last = regions.last().map_or(0, |(start, len)| start.saturating_add(*len));
        [regions[0].0, last, 0].iter().for_each(|word: &u32| header.extend(word.to_le_bytes()));
    }
    if version > 3 {
        header.extend([0, 0, 1, 0]);
        header.extend([0; 32 + 256 + 16]);
    }
    regions.iter().for_each(|(start, len)| header.extend([start.to_le_bytes(), len.to_le_bytes()].concat()));
    let len = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_le_bytes();
    [&len(&header)[..], &len(&stream), &header, &stream].concat()
}

fn ndz(seeds: &Seeds) {
    let content = |sectors: u32| b"content ".repeat(64 * usize::try_from(sectors).unwrap());
    for version in 1..=4 {
        let first = chunk(version, 0, &[(0, 3), (10, 5)], &content(8));
        let second = chunk(version, 1, &[(64, 1)], &content(1));
        seeds.put("ndz", &format!("good-version-{version}"), &[first, second].concat());
    }
    seeds.put("ndz", "bad-bomb", &chunk(3, 0, &[(0, 2)], &vec![0; 8 << 20]));
    seeds.put("ndz", "bad-overlap", &chunk(3, 0, &[(0, 5), (4, 5)], &content(10)));
    seeds.put("ndz", "bad-wraps-around", &chunk(3, 0, &[(u32::MAX, 2)], &content(2)));
    seeds.put("ndz", "bad-too-little", &chunk(3, 0, &[(0, 1 << 30)], &content(2)));
    seeds.put("ndz", "bad-order", &[chunk(3, 1, &[(0, 1)], &content(1)), chunk(3, 0, &[(8, 1)], &content(1))].concat());
}

/// What a client of NBD says: options, then requests.
fn nbd(seeds: &Seeds) {
    let option = |number: u32, data: &[u8]| {
        let len = u32::try_from(data.len()).unwrap();
        [b"IHAVEOPT", &number.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
    };
    let request = |command: u16, offset: u64, bytes: u32| {
        let head = [0x2560_9513_u32.to_be_bytes(), [0, 0, 0, 0]].concat();
        let mut all =
            [head, b"a cookie".to_vec(), offset.to_be_bytes().to_vec(), bytes.to_be_bytes().to_vec()].concat();
        all[6..8].copy_from_slice(&command.to_be_bytes());
        all
    };
    let talk =
        |options: &[Vec<u8>], requests: &[Vec<u8>]| [&[0, 0, 0, 3][..], &options.concat(), &requests.concat()].concat();
    let requests = [request(0, 0, 65536), request(7, 0, 1 << 20), request(0, u64::MAX, 2), request(2, 0, 0)];
    seeds.put("nbd", "good-old-client", &talk(&[option(1, b"")], &requests));
    let context = [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat();
    let options = [option(3, b""), option(8, b""), option(10, &context), option(7, &[0, 0, 0, 0, 0, 0])];
    seeds.put("nbd", "good-new-client", &talk(&options, &requests));
    let long = [request(0, 0, u32::MAX), request(0, 1, 32 << 20), request(1, 0, u32::MAX)];
    seeds.put("nbd", "bad-long-requests", &talk(&options, &long));
}
