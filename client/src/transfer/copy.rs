//! The content of a file: copied in chunks, each hashed, and read back from the medium.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use boss_api::client::ClientError;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, ByteOffset, ByteRange, Digest};

use super::boss::{Line, Unanswered};
use super::limit::Pace;
use super::stop::{Stop, Stopped};

/// What is hashed by itself.
pub(super) const CHUNK_BYTES: u64 = 4 << 20;
/// How many chunks are made durable and recorded together.
pub(super) const BATCH_CHUNKS: usize = 16;

/// Why reading or copying ended early.
pub(super) enum CopyError<E = std::convert::Infallible> {
    /// What is read cannot be read.
    Read(io::Error),
    /// The boss that has it does not give it.
    Boss(Box<ClientError>),
    /// The target cannot be written or flushed.
    Write(io::Error),
    /// What is durable could not be recorded.
    Record(E),
    /// Somebody asked to stop.
    Stopped,
}

impl<E> From<Stopped> for CopyError<E> {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl<E> From<Unanswered> for CopyError<E> {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Refused(error) => Self::Boss(error),
            Unanswered::Stopped => Self::Stopped,
        }
    }
}

/// Where chunks come from, one after the other.
pub(super) enum Chunks<'a> {
    /// A file, from where it is.
    File(&'a mut File),
    /// An object of a boss, of so many bytes, from this place on.
    Object(&'a Line, Digest, ByteLen, ByteOffset),
}

impl Chunks<'_> {
    /// Reads up to a chunk; less only at the end.
    fn next<E>(&mut self, buffer: &mut Vec<u8>, stop: &Stop<'_>) -> Result<(), CopyError<E>> {
        match self {
            Self::File(file) => read_chunk(file, buffer, stop),
            Self::Object(line, object, size, at) => {
                let left = size.get().saturating_sub(at.get()).min(CHUNK_BYTES);
                let part = ByteRange { start: *at, len: ByteLen::new(left) };
                *buffer = if left == 0 { Vec::new() } else { line.part(*object, *size, part, stop)? };
                *at = ByteOffset::new(at.get().saturating_add(left));
                Ok(())
            }
        }
    }
}

/// Returns the digest of a whole file from the digests of its chunks.
pub(super) fn digest_of(chunks: &[Digest]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(b"ebb.transfer.1\0");
    chunks.iter().for_each(|chunk| hasher.update(chunk.as_bytes()));
    Digest::from_bytes(hasher.finalize().into())
}

/// Reads up to a chunk; less only at the end of the file.
fn read_chunk<E>(file: &mut File, buffer: &mut Vec<u8>, stop: &Stop<'_>) -> Result<(), CopyError<E>> {
    stop.check()?;
    buffer.clear();
    file.take(CHUNK_BYTES).read_to_end(buffer).map(drop).map_err(CopyError::Read)
}

/// Returns how many chunks at the beginning of a file are those of `expected`, and their end.
pub(super) fn good_prefix(
    file: &mut File,
    expected: &[Digest],
    stop: &Stop<'_>,
) -> Result<(usize, ByteLen), CopyError> {
    rewind_to_medium(file)?;
    let (mut good, mut end, mut buffer) = (0, 0_u64, Vec::new());
    for wanted in expected {
        read_chunk(file, &mut buffer, stop)?;
        if buffer.is_empty() || Digest::of(&buffer) != *wanted {
            break;
        }
        good += 1;
        end = end.saturating_add(ByteLen::of(&buffer).get());
    }
    Ok((good, ByteLen::new(end)))
}

/// Returns the digest of a whole file, read from its medium.
pub(super) fn digest_on_medium(file: &mut File, stop: &Stop<'_>) -> Result<(Digest, ByteLen), CopyError> {
    read_through(file, stop, |_| {})
}

/// Returns the digest of a whole file, read from its medium, and shows each chunk of it to `look`.
pub(super) fn read_through(
    file: &mut File,
    stop: &Stop<'_>,
    mut look: impl FnMut(&[u8]),
) -> Result<(Digest, ByteLen), CopyError> {
    rewind_to_medium(file)?;
    let (mut chunks, mut len, mut buffer) = (Vec::new(), 0_u64, Vec::new());
    loop {
        read_chunk(file, &mut buffer, stop)?;
        if buffer.is_empty() {
            return Ok((digest_of(&chunks), ByteLen::new(len)));
        }
        len = len.saturating_add(ByteLen::of(&buffer).get());
        chunks.push(Digest::of(&buffer));
        look(&buffer);
    }
}

/// Goes to the beginning of a file and drops it from the cache; what was flushed is read from the medium then.
fn rewind_to_medium(file: &mut File) -> Result<(), CopyError> {
    let dropped = fadvise(&*file, 0, None, Advice::DontNeed).map_err(io::Error::from);
    dropped.and_then(|()| file.seek(SeekFrom::Start(0))).map(drop).map_err(CopyError::Read)
}

/// Copies what follows the chunks that are there. After every batch `recorded` is called with the digests of its chunks,
/// which are durable by then, and their first number; also when somebody asks to stop.
///
/// Returns the digests of all chunks.
///
/// # Errors
/// [`CopyError`] by which of the two failed, or that of `recorded`.
pub(super) fn copy<E>(
    mut source: Chunks<'_>,
    target: &File,
    mut done: Vec<Digest>,
    start: ByteLen,
    (pace, stop): (&Pace, &Stop<'_>),
    mut recorded: impl FnMut(u32, &[Digest]) -> Result<(), E>,
) -> Result<Vec<Digest>, CopyError<E>> {
    let (mut recorded_until, mut at, mut buffer) = (done.len(), start.get(), Vec::new());
    loop {
        let moved = move_chunk(&mut source, (target, at), &mut buffer, (pace, stop));
        if let Ok(Some(digest)) = moved {
            done.push(digest);
            at = at.saturating_add(ByteLen::of(&buffer).get());
        }
        // An error of the target leaves nothing that can be made durable.
        let end = matches!(moved, Ok(None) | Err(CopyError::Stopped | CopyError::Read(_) | CopyError::Boss(_)));
        let fresh = &done[recorded_until..];
        // At the end also when nothing is fresh: that nothing follows the chunks is to be durable, too.
        if end || fresh.len() >= BATCH_CHUNKS {
            target.sync_data().map_err(CopyError::Write)?;
            if !fresh.is_empty() {
                recorded(u32::try_from(recorded_until).unwrap_or(u32::MAX), fresh).map_err(CopyError::Record)?;
            }
            recorded_until = done.len();
        }
        if moved?.is_none() {
            return Ok(done);
        }
    }
}

/// Copies one chunk and returns its digest, or nothing at the end of the source.
fn move_chunk<E>(
    source: &mut Chunks<'_>,
    (target, at): (&File, u64),
    buffer: &mut Vec<u8>,
    (pace, stop): (&Pace, &Stop<'_>),
) -> Result<Option<Digest>, CopyError<E>> {
    source.next(buffer, stop)?;
    if buffer.is_empty() {
        return Ok(None);
    }
    pace.wait(ByteLen::of(buffer), stop)?;
    target.write_all_at(buffer, at).map_err(CopyError::Write)?;
    Ok(Some(Digest::of(buffer)))
}
