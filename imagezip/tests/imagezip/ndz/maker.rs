//! Making files of the format, whole or with something wrong.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use imagezip::foreign::ndz::{ChunkDefect, Disk, OpenError, Options, Refused};
use sha1::{Digest as _, Sha1};

pub(super) const CHUNK: usize = 1 << 20;
pub(super) const HEADER: usize = 4096;

/// One chunk to be.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) version: u32,
    pub(super) index: u32,
    pub(super) total: u32,
    pub(super) described: (u32, u32),
    pub(super) regions: Vec<(u32, u32)>,
    pub(super) relocations: Vec<[u32; 4]>,
    pub(super) content: Vec<u8>,
    pub(super) cipher: u16,
    pub(super) checksum: u16,
    pub(super) image_id: [u8; 16],
}

impl Chunk {
    /// A chunk whose regions have a content that tells where it belongs.
    pub(super) fn new(version: u32, index: u32, regions: &[(u32, u32)]) -> Self {
        let sector = |sector: u32| sector.wrapping_mul(2_654_435_761).to_le_bytes().repeat(128);
        let content = regions.iter().flat_map(|(start, len)| (*start..start + len).flat_map(sector)).collect();
        let described = (regions[0].0, regions.last().map(|(start, len)| start + len).unwrap());
        Self {
            version,
            index,
            total: 0,
            described,
            regions: regions.to_vec(),
            relocations: Vec::new(),
            content,
            cipher: 0,
            checksum: 0,
            image_id: [7; 16],
        }
    }

    pub(super) fn build(&self) -> Vec<u8> {
        self.with_stream(&deflate(&self.content))
    }

    /// Builds the chunk around a stream that may be wrong.
    pub(super) fn with_stream(&self, stream: &[u8]) -> Vec<u8> {
        let len = |value: usize| u32::try_from(value).unwrap();
        let mut bytes = Vec::new();
        let words =
            [0x6969_6969 + self.version - 1, len(stream.len()), self.index, self.total, 4096, len(self.regions.len())];
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        if self.version > 1 {
            let words = [self.described.0, self.described.1, len(self.relocations.len())];
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        if self.version > 3 {
            bytes.extend(self.cipher.to_le_bytes());
            bytes.extend(self.checksum.to_le_bytes());
            bytes.extend([0; 32 + 256]);
            bytes.extend(self.image_id);
        }
        let regions = self.regions.iter().flat_map(|(start, len)| [*start, *len]);
        regions.chain(self.relocations.iter().flatten().copied()).for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.resize(HEADER, 0);
        bytes.extend(stream);
        if self.checksum == 1 {
            let sum = Sha1::digest(&bytes);
            bytes[72..92].copy_from_slice(&sum);
        }
        bytes.resize(CHUNK, 0);
        bytes
    }
}

pub(super) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn open(file: &[u8]) -> Result<Disk, OpenError> {
    Disk::open(std::sync::Arc::new(file.to_vec()), Options::default())
}

/// Returns why a file is refused when it is opened.
pub(super) fn refusal(file: &[u8]) -> Refused {
    match open(file) {
        Err(OpenError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// Returns what is wrong with a chunk of a file that is refused when it is opened.
pub(super) fn defect(file: &[u8]) -> (u64, ChunkDefect) {
    match refusal(file) {
        Refused::Chunk { chunk, defect } => (chunk, defect),
        other => panic!("{other:?}"),
    }
}
