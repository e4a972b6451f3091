//! The second phase: requests and replies, one after the other.

use std::io::{self, BufRead, Read, Write};

use sigs::{ByteLen, ByteOffset, ByteRange, ReadAt as _};

use super::handshake::{ALLOCATION_ID, Agreed};
use super::wire::{self, Command, Refusal, Request, chunk};
use super::{ClientError, Export, MOST_BYTES, Trouble};
use crate::image::Content;

/// How much of a reply is read before it is sent, unless it has to be sent in one piece.
const PIECE: u64 = 1 << 20;
/// A buffer that grew larger than this is given back.
const KEPT_BUFFER: usize = 2 << 20;
/// A client that wants to know more asks again.
const MOST_EXTENTS: usize = 4096;

/// Answers requests until the client leaves; `tell` hears what of the disk could not be read.
///
/// # Errors
/// [`ClientError`] when the client does not keep to the protocol, or the connection ends in the middle of a message.
pub fn transmit(
    input: &mut impl BufRead,
    output: &mut impl Write,
    export: &Export,
    agreed: Agreed,
    tell: &dyn Fn(Trouble),
) -> Result<(), ClientError> {
    let mut replies = Replies { output, export, agreed, tell, buffer: Vec::new() };
    while !wire::ended(input)? {
        let request = Request::read(input)?;
        match request.command {
            Command::Disconnect => break,
            Command::Read => replies.read(&request)?,
            Command::BlockStatus => replies.block_status(&request)?,
            Command::Write => {
                skip(input, request.bytes)?;
                replies.refuse(&request, Refusal::ReadOnly)?;
            }
            Command::Trim | Command::WriteZeroes => replies.refuse(&request, Refusal::ReadOnly)?,
            Command::Unknown => replies.refuse(&request, Refusal::Unknown)?,
        }
    }
    Ok(())
}

/// Reads the data of a write and forgets it.
fn skip(input: &mut impl Read, bytes: u32) -> Result<(), ClientError> {
    if bytes > MOST_BYTES {
        return Err(ClientError::LongWrite(bytes));
    }
    let skipped = io::copy(&mut input.take(bytes.into()), &mut io::sink())?;
    if skipped == u64::from(bytes) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
}

struct Replies<'a, W> {
    output: &'a mut W,
    export: &'a Export,
    agreed: Agreed,
    tell: &'a dyn Fn(Trouble),
    /// What was not sent yet.
    buffer: Vec<u8>,
}

impl<W: Write> Replies<'_, W> {
    fn send(&mut self) -> io::Result<()> {
        self.output.write_all(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    fn refuse(&mut self, request: &Request, refusal: Refusal) -> Result<(), ClientError> {
        self.put_refusal(request, refusal);
        Ok(self.send()?)
    }

    fn put_refusal(&mut self, request: &Request, refusal: Refusal) {
        let in_chunks = matches!(request.command, Command::Read | Command::BlockStatus);
        if self.agreed.structured && in_chunks {
            wire::put_error_chunk(&mut self.buffer, request.cookie, refusal);
        } else {
            wire::put_simple(&mut self.buffer, request.cookie, Some(refusal));
        }
    }

    fn read(&mut self, request: &Request) -> Result<(), ClientError> {
        let known = if self.agreed.structured { wire::DF } else { 0 };
        if request.flags & !known != 0 {
            return self.refuse(request, Refusal::Unknown);
        }
        let range = self.export.part(request.range()).filter(|_| request.bytes <= MOST_BYTES);
        let Some(range) = range else { return self.refuse(request, Refusal::Range) };
        if self.agreed.structured && request.flags & wire::DF == 0 {
            return self.read_in_chunks(request, range);
        }
        // All of it is read before the head is sent: only then is it known to be no error.
        if self.agreed.structured {
            self.put_chunk_of(request, range, Part::Data);
        } else {
            wire::put_simple(&mut self.buffer, request.cookie, None);
        }
        if !self.put_content(range) {
            self.buffer.clear();
            self.put_refusal(request, Refusal::Damaged);
        }
        Ok(self.send()?)
    }

    /// Sends what is zero as holes, and the rest a piece at a time.
    fn read_in_chunks(&mut self, request: &Request, range: ByteRange) -> Result<(), ClientError> {
        let export = self.export;
        let parts = export.disk.pieces(range).map(|(range, content)| (range, Part::of(content)));
        for (range, part) in merged(parts).flat_map(cut) {
            let begin = self.buffer.len();
            self.put_chunk_of(request, range, part);
            if part == Part::Data && !self.put_content(range) {
                self.buffer.truncate(begin);
                self.put_refusal(request, Refusal::Damaged);
                break;
            }
            if ByteLen::of(&self.buffer).get() >= PIECE {
                self.send()?;
            }
        }
        Ok(self.send()?)
    }

    /// Appends the head of a content chunk, or all of one that says that there is nothing.
    fn put_chunk_of(&mut self, request: &Request, range: ByteRange, part: Part) {
        // Both are parts of a request, whose length has 32 bits and is far from the largest such number.
        let bytes = u32::try_from(range.len.get()).unwrap_or(MOST_BYTES);
        let done = range.checked_end() == request.range().checked_end();
        let (kind, payload) = match part {
            Part::Data => (chunk::OFFSET_DATA, bytes.saturating_add(8)),
            Part::Zero => (chunk::OFFSET_HOLE, 12),
        };
        wire::put_chunk(&mut self.buffer, request.cookie, done, kind, payload);
        self.buffer.extend_from_slice(&range.start.get().to_be_bytes());
        if part == Part::Zero {
            self.buffer.extend_from_slice(&bytes.to_be_bytes());
        }
    }

    /// Appends bytes of the disk; returns false, with the damage told, when they cannot be read.
    fn put_content(&mut self, range: ByteRange) -> bool {
        let begin = self.buffer.len();
        let end = range.len.to_usize().and_then(|len| begin.checked_add(len));
        self.buffer.resize(end.unwrap_or(begin), 0);
        let out = self.buffer.get_mut(begin..).unwrap_or_default();
        let read = self.export.disk.read_exact_at(out, range.start);
        read.map_err(|source| (self.tell)(Trouble::Read { range, source })).is_ok()
    }

    fn block_status(&mut self, request: &Request) -> Result<(), ClientError> {
        if !self.agreed.allocation || request.flags & !wire::REQ_ONE != 0 {
            return self.refuse(request, Refusal::Unknown);
        }
        let Some(range) = self.export.part(request.range()) else { return self.refuse(request, Refusal::Range) };
        let most = if request.flags & wire::REQ_ONE == 0 { MOST_EXTENTS } else { 1 };
        let states = self.export.disk.pieces(range).map(|(range, content)| (range, state_of(content)));
        let mut extents = Vec::new();
        for (range, state) in merged(states).take(most) {
            // A part of a request, whose length has 32 bits.
            let bytes = u32::try_from(range.len.get()).unwrap_or(u32::MAX);
            extents.extend_from_slice(&bytes.to_be_bytes());
            extents.extend_from_slice(&state.to_be_bytes());
        }
        let payload = u32::try_from(extents.len()).unwrap_or(u32::MAX).saturating_add(4);
        wire::put_chunk(&mut self.buffer, request.cookie, true, chunk::BLOCK_STATUS, payload);
        self.buffer.extend_from_slice(&ALLOCATION_ID.to_be_bytes());
        self.buffer.extend_from_slice(&extents);
        Ok(self.send()?)
    }
}

/// What a part of a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Data,
    Zero,
}

impl Part {
    const fn of(content: Content) -> Self {
        match content {
            Content::Free | Content::Zero => Self::Zero,
            Content::Frame { .. } => Self::Data,
        }
    }
}

/// Returns the flags of `base:allocation`: what is FREE is a hole, what is ZERO is allocated.
const fn state_of(content: Content) -> u32 {
    match content {
        Content::Free => wire::STATE_HOLE | wire::STATE_ZERO,
        Content::Zero => wire::STATE_ZERO,
        Content::Frame { .. } => 0,
    }
}

/// Joins parts that follow each other and are the same.
fn merged<K: PartialEq>(parts: impl Iterator<Item = (ByteRange, K)>) -> impl Iterator<Item = (ByteRange, K)> {
    let mut parts = parts.peekable();
    std::iter::from_fn(move || {
        let (mut range, kind) = parts.next()?;
        while let Some((more, _)) = parts.next_if(|(_, next)| *next == kind) {
            range.len = range.len.checked_add(more.len)?;
        }
        Some((range, kind))
    })
}

/// Cuts data into pieces; zeros take no room.
fn cut((range, part): (ByteRange, Part)) -> impl Iterator<Item = (ByteRange, Part)> {
    let most = if part == Part::Data { PIECE } else { u64::MAX };
    let mut rest = range;
    std::iter::from_fn(move || {
        let len = ByteLen::new(rest.len.get().min(most));
        let piece = ByteRange { start: rest.start, len };
        let next: ByteOffset = piece.checked_end()?;
        rest = ByteRange::between(next, rest.checked_end()?)?;
        (!len.is_zero()).then_some((piece, part))
    })
}
