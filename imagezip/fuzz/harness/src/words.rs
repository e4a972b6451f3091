//! The formats of `sigs`: what is accepted is canonical, so it is written again as it was read.

use std::sync::LazyLock;

use boss_verify::runs::{From, RunReader};
use sigs::image_map::{ImageMap, MapBuilder, MapEncoding, Origin};
use sigs::manifest::{Manifest, ManifestFormat};
use sigs::map::{COARSE_RECORD_BYTES, CoarseRecord, LeafPage};
use sigs::seal::{KeyId, PublicKey, SealKind, Sealed, SigningKey, TrustedKeys};
use sigs::zdi::{Container, Contents};
use sigs::{BlockCount, BlockSize, ChunkIndex, ChunkState, Signature, SignatureError};

/// A signature, `.sig`, its root put right.
pub fn signature(input: &[u8]) -> bool {
    let mut bytes = input.to_vec();
    if let Err(SignatureError::WrongRoot { found, .. }) = Signature::open(bytes.clone()) {
        let at = bytes.len() - 40;
        bytes[at..at + 32].copy_from_slice(found.as_bytes());
    }
    let Ok(signature) = Signature::open(bytes) else { return false };
    let sound = signature.check_all().is_ok();
    let chunks = signature.geometry().chunks();
    for chunk in (0..chunks.min(64)).chain(chunks.saturating_sub(2)..chunks.saturating_add(2)) {
        let index = ChunkIndex::new(chunk);
        let blocks = signature.geometry().blocks_in_chunk(index);
        assert_eq!(blocks.is_some(), chunk < chunks);
        if let (Ok(state @ ChunkState::Mixed(_)), Some(blocks)) = (signature.chunk(index), blocks) {
            assert_eq!(u32::try_from(state.states(blocks).len()), Ok(blocks));
            assert_eq!(state.summarise(), signature.summary(index));
        }
    }
    sound
}

/// A manifest, and the end of an upload, which has one in it.
pub fn manifest(input: &[u8]) -> bool {
    let _ = Contents::from_wire(input);
    let Ok(manifest) = Manifest::parse(input) else { return false };
    assert_eq!(Manifest::parse(&manifest.to_bytes()).unwrap(), manifest);
    assert!(manifest.bad_sectors().len() <= sigs::manifest::MAX_BAD_RANGES);
    true
}

/// The map of an image, by both readers: `0 encoding (8)  1 blocks (64)  9 the map`.
pub fn image_map(input: &[u8]) -> bool {
    let Some(([encoding, blocks @ ..], bytes)) = input.split_first_chunk::<9>() else { return false };
    let blocks = BlockCount::new(u64::from_le_bytes(*blocks));
    let encoding = match encoding % 3 {
        0 => MapEncoding::Explicit,
        1 => MapEncoding::Implied { frame_blocks: 256 },
        _ => MapEncoding::Implied { frame_blocks: 2048 },
    };
    let ours = ImageMap::parse(bytes.to_vec(), blocks, encoding);
    let theirs = other_runs(bytes, encoding);
    let Ok(map) = ours else { return false };
    let mut builder = MapBuilder::new(encoding);
    map.runs().for_each(|(_, run)| builder.push(run));
    assert_eq!(builder.finish().as_bytes(), bytes, "not canonical");
    let runs: Vec<_> = map.runs().map(|(_, run)| (origin(run.origin), run.blocks.get())).collect();
    // A run in another file: the engine reads such maps to say so, boss does not.
    let elsewhere = |origin| matches!(origin, Origin::Frame { pack: 1.., .. });
    if map.runs().any(|(_, run)| elsewhere(run.origin)) {
        assert_eq!(theirs, None);
        return false;
    }
    assert_eq!(theirs, Some(runs), "the two readers differ");
    true
}

/// Reads a map as boss does.
fn other_runs(bytes: &[u8], encoding: MapEncoding) -> Option<Vec<(From, u64)>> {
    let mut manifest = MANIFEST.clone();
    let block_bytes = match encoding {
        MapEncoding::Explicit => 4096,
        MapEncoding::Implied { frame_blocks } => (1 << 20) / frame_blocks,
    };
    manifest.format = if encoding == MapEncoding::Explicit { ManifestFormat::V1 } else { ManifestFormat::V2 };
    manifest.geometry.block_size = BlockSize::new(block_bytes).unwrap();
    let mut reader = RunReader::new(bytes, &manifest);
    let mut runs = Vec::new();
    while let Some(run) = reader.next_run().ok()? {
        runs.push(run);
    }
    Some(runs)
}

fn origin(origin: Origin) -> From {
    match origin {
        Origin::Free => From::Free,
        Origin::Zero => From::Zero,
        Origin::Base(base) => From::Base(u64::from(base)),
        Origin::Frame { frame, first, .. } => From::Frame { frame: u64::from(frame), first: u64::from(first) },
    }
}

/// A page of the total map and a record of its table: `0 blocks (16)  2 blocks that are data (16)  4 the page`.
pub fn total_map(input: &[u8]) -> bool {
    for record in input.as_chunks::<COARSE_RECORD_BYTES>().0 {
        if let Some(parsed) = CoarseRecord::from_bytes(record) {
            assert_eq!(parsed.to_bytes(), *record, "not canonical");
        }
    }
    let Some(([b0, b1, d0, d1], page)) = input.split_first_chunk() else { return false };
    let (blocks, data) = (u16::from_le_bytes([*b0, *b1]), u16::from_le_bytes([*d0, *d1]));
    let Ok(page) = LeafPage::parse(page.to_vec(), u32::from(blocks), u32::from(data)) else { return false };
    let states: Vec<_> = page.states().collect();
    assert_eq!(states.len(), usize::from(blocks));
    match ChunkState::from_states(&states) {
        ChunkState::Mixed(again) => assert_eq!(again.as_bytes(), page.as_bytes(), "not canonical"),
        ChunkState::Free | ChunkState::Zero => assert_eq!(data, 0),
    }
    true
}

/// Sealed files and keys. No seal is true that was not made here.
pub fn seals(input: &[u8]) -> bool {
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[7; 32]));
    if let Ok(text) = str::from_utf8(input) {
        if let Ok(key) = PublicKey::from_pem(text) {
            assert_eq!(PublicKey::from_pem(&key.to_pem().unwrap()).unwrap(), key);
        }
        let _ = SigningKey::from_pem(text);
        let _ = text.parse::<KeyId>();
    }
    let Ok(sealed) = Sealed::parse(input) else { return false };
    assert_eq!(Sealed::parse(&sealed.to_bytes()).unwrap(), sealed);
    for kind in [SealKind::Base, SealKind::SwapPoint, SealKind::Permit, SealKind::Head] {
        if let Ok(statement) = sealed.verify(kind, &TrustedKeys::new([KEY.public()])) {
            assert_eq!((kind, statement), (SealKind::Permit, STATEMENT), "a seal that nobody made");
        }
    }
    true
}

/// What the seed of a sealed file states.
pub const STATEMENT: &str = "{\"node\":\"pc1\"}";

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let image = include_bytes!("../../../../docs/formats/golden/v2-base.zdi").to_vec();
    Container::open(image).unwrap().manifest().clone()
});
