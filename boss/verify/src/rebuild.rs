//! From stored frames and base signatures to the signature and root of the saved state.

use std::io::Write;

use sigs::manifest::Manifest;
use sigs::{
    BlockCount, BlockCounts, BlockHash, BlockState, ByteLen, ChunkIndex, ChunkState, Geometry, ReadAt, Root, Signature,
    SignatureWriter,
};

use crate::container::{Stored, VerifyError};
use crate::runs::{From, RunReader};

/// What the stored bytes turned out to be.
#[derive(Debug)]
pub struct Rebuilt {
    /// The root of the state they restore; equal to the manifest's.
    pub root: Root,
    /// How many blocks of it are what.
    pub counts: BlockCounts,
    /// How many frames were read; all there are.
    pub frames_read: u64,
    /// How many bytes of frames were read from the medium.
    pub bytes_read: ByteLen,
    /// What the image says of itself.
    pub manifest: Manifest,
}

/// Reads every stored frame of an image once, computes the state it restores on top of `bases`, and writes that
/// state's signature to `sig_out`.
///
/// # Errors
/// [`VerifyError`] when a byte is not what the image binds, a base is another, or the root is not the one it claims.
pub fn rebuild<R: ReadAt, B: ReadAt>(
    image: R,
    bases: &[Signature<B>],
    sig_out: impl Write,
) -> Result<Rebuilt, VerifyError> {
    let stored = Stored::open(image)?;
    check_bases(&stored.manifest, bases)?;
    let geometry = stored.manifest.geometry;
    let mut walk = Walk {
        geometry,
        bases,
        writer: SignatureWriter::new(sig_out, geometry)?,
        chunk: 0,
        states: Vec::new(),
        counts: BlockCounts::default(),
        base_chunk: None,
    };
    let mut frames =
        Frames { stored: &stored, current: None, next: 0, raw: Vec::new(), hashes: Vec::new(), bytes_read: 0 };
    let mut runs = RunReader::new(&stored.map, &stored.manifest);
    let mut block = 0_u64;
    while let Some((from, blocks)) = runs.next_run()? {
        if blocks > geometry.blocks().get() - block {
            return Err(VerifyError::Map { block, reason: "past the end of the disk" });
        }
        match from {
            From::Free => walk.push_same(BlockState::Free, blocks)?,
            From::Zero => walk.push_same(BlockState::Zero, blocks)?,
            From::Base(base) => walk.push_base(base, block, blocks)?,
            From::Frame { frame, first } => {
                for step in 0..blocks {
                    let hash = frames.block(frame, first.saturating_add(step), block + step, geometry)?;
                    walk.push(BlockState::Data(hash))?;
                }
            }
        }
        block += blocks;
    }
    if block != geometry.blocks().get() {
        return Err(VerifyError::Map { block, reason: "the map ends before the disk does" });
    }
    let (frames_read, bytes_read) = frames.finish()?;
    let counts = walk.counts;
    let (_, _, root) = walk.writer.finish()?;
    let manifest = stored.manifest;
    if root != manifest.target_root {
        return Err(VerifyError::WrongRoot { found: root, expected: manifest.target_root });
    }
    if counts != manifest.counts {
        return Err(VerifyError::WrongCounts);
    }
    Ok(Rebuilt { root, counts, frames_read, bytes_read: ByteLen::new(bytes_read), manifest })
}

fn check_bases<B: ReadAt>(manifest: &Manifest, bases: &[Signature<B>]) -> Result<(), VerifyError> {
    let found: Vec<_> = bases.iter().map(Signature::root).collect();
    if found == manifest.base_roots {
        return Ok(());
    }
    let wanted = manifest.base_roots.iter().find(|root| !found.contains(root)).copied();
    let list: Vec<_> = found.iter().map(Root::to_string).collect();
    Err(VerifyError::WrongBase {
        wanted: wanted.unwrap_or(manifest.target_root),
        found: if list.is_empty() { "none".into() } else { list.join(", ") },
    })
}

/// Collects block states into chunks and chunks into a signature.
struct Walk<'a, B, W> {
    geometry: Geometry,
    bases: &'a [Signature<B>],
    writer: SignatureWriter<W>,
    chunk: u64,
    states: Vec<BlockState>,
    counts: BlockCounts,
    base_chunk: Option<(u64, u64, Vec<BlockState>)>,
}

impl<B: ReadAt, W: Write> Walk<'_, B, W> {
    fn push(&mut self, state: BlockState) -> Result<(), VerifyError> {
        self.count(state, 1);
        self.states.push(state);
        let whole = self.geometry.blocks_in_chunk(ChunkIndex::new(self.chunk)).unwrap_or(0);
        if u32::try_from(self.states.len()).unwrap_or(u32::MAX) >= whole {
            self.writer.push(&ChunkState::from_states(&self.states))?;
            self.states.clear();
            self.chunk += 1;
        }
        Ok(())
    }

    fn count(&mut self, state: BlockState, blocks: u64) {
        let count = match state {
            BlockState::Free => &mut self.counts.free,
            BlockState::Zero => &mut self.counts.zero,
            BlockState::Data(_) => &mut self.counts.data,
        };
        // The map was compared with the blocks of the disk.
        *count = BlockCount::new(count.get() + blocks);
    }

    /// Takes a run of FREE or ZERO blocks; whole chunks of it cost nothing, or a few bytes could cost hours.
    fn push_same(&mut self, state: BlockState, mut blocks: u64) -> Result<(), VerifyError> {
        let per_chunk = u64::from(self.geometry.block_size.blocks_per_chunk());
        while blocks > 0 {
            let whole_chunks = blocks / per_chunk;
            if self.states.is_empty() && whole_chunks > 0 {
                if state == BlockState::Free {
                    self.writer.push_free(whole_chunks);
                } else {
                    self.writer.push_zero(whole_chunks);
                }
                self.chunk += whole_chunks;
                self.count(state, whole_chunks * per_chunk);
                blocks -= whole_chunks * per_chunk;
            } else {
                self.push(state)?;
                blocks -= 1;
            }
        }
        Ok(())
    }

    fn push_base(&mut self, base: u64, first: u64, blocks: u64) -> Result<(), VerifyError> {
        let index = usize::try_from(base).unwrap_or(usize::MAX);
        let signature =
            self.bases.get(index).ok_or(VerifyError::Map { block: first, reason: "a base that does not exist" })?;
        let per_chunk = u64::from(self.geometry.block_size.blocks_per_chunk());
        if signature.geometry().block_size != self.geometry.block_size {
            return Err(VerifyError::Map { block: first, reason: "a base with blocks of another size" });
        }
        // Only the last block of a disk may be short: one of another length is another block, whatever its hash.
        let last = sigs::BlockIndex::new(first.saturating_add(blocks - 1));
        let length = |geometry: &Geometry| geometry.block_range(last).map(|(_, len)| len);
        if length(signature.geometry()) != length(&self.geometry) {
            return Err(VerifyError::Map { block: last.get(), reason: "a block that the base does not have" });
        }
        for block in first..first + blocks {
            let chunk = block / per_chunk;
            if self.base_chunk.as_ref().is_none_or(|(b, c, _)| (*b, *c) != (base, chunk)) {
                let index = ChunkIndex::new(chunk);
                let count = signature.geometry().blocks_in_chunk(index).unwrap_or(0);
                self.base_chunk = Some((base, chunk, signature.chunk(index)?.states(count)));
            }
            let place = usize::try_from(block % per_chunk).unwrap_or(usize::MAX);
            let state = self.base_chunk.as_ref().and_then(|(_, _, states)| states.get(place).copied());
            match state {
                Some(state @ BlockState::Data(_)) => self.push(state)?,
                Some(BlockState::Free | BlockState::Zero) | None => {
                    return Err(VerifyError::Map { block, reason: "refers to a block of the base that is not data" });
                }
            }
        }
        Ok(())
    }
}

/// Reads frames in the order of the map: each once, none left out.
struct Frames<'a, R> {
    stored: &'a Stored<R>,
    current: Option<u64>,
    next: u64,
    raw: Vec<u8>,
    hashes: Vec<BlockHash>,
    bytes_read: u64,
}

impl<R: ReadAt> Frames<'_, R> {
    fn block(&mut self, frame: u64, index: u64, block: u64, geometry: Geometry) -> Result<BlockHash, VerifyError> {
        if self.current != Some(frame) {
            if frame != self.next {
                return Err(VerifyError::Map { block, reason: "frames are not referred to in their order" });
            }
            self.load(frame, geometry)?;
        }
        let (_, len) = geometry
            .block_range(sigs::BlockIndex::new(block))
            .ok_or(VerifyError::Map { block, reason: "no such block" })?;
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let content = self.raw.chunks(geometry.block_size.as_usize()).nth(place);
        match (self.hashes.get(place), content) {
            (Some(hash), Some(content)) if ByteLen::of(content) == len => Ok(*hash),
            _ => Err(VerifyError::Frame { frame, reason: "does not hold the block the map says" }),
        }
    }

    fn load(&mut self, frame: u64, geometry: Geometry) -> Result<(), VerifyError> {
        self.stored.frame(frame, &mut self.raw)?;
        self.hashes.clear();
        self.hashes.extend(self.raw.chunks(geometry.block_size.as_usize()).map(BlockHash::of));
        self.current = Some(frame);
        self.next = frame + 1;
        self.bytes_read += self.stored.stored_bytes(frame);
        Ok(())
    }

    /// Checks that no frame was left unread.
    fn finish(self) -> Result<(u64, u64), VerifyError> {
        let all = u64::try_from(self.stored.frames.len()).unwrap_or(u64::MAX);
        if self.next == all {
            Ok((self.next, self.bytes_read))
        } else {
            Err(VerifyError::Frame { frame: self.next, reason: "is not referred to by the map" })
        }
    }
}
