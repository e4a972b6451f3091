//! What goes over the wire: numbers and headers, big-endian all of them.

use std::io::{self, BufRead, ErrorKind, Read};

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::ClientError;

/// `NBDMAGIC` and `IHAVEOPT`: how the server begins. Every option begins with the second.
pub(super) const GREETING: u64 = 0x4e42_444d_4147_4943;
pub(super) const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const SIMPLE_REPLY: u32 = 0x6744_6698;
const CHUNK: u32 = 0x668e_33ef;

/// Flags of the handshake, the same number in both directions.
pub(super) const FIXED_NEWSTYLE: u16 = 1;
pub(super) const NO_ZEROES: u16 = 1 << 1;

/// What the disk can do, told at the end of the handshake.
pub(super) const HAS_FLAGS: u16 = 1;
pub(super) const READ_ONLY: u16 = 1 << 1;
pub(super) const SEND_DF: u16 = 1 << 7;
pub(super) const CAN_MULTI_CONN: u16 = 1 << 8;

/// Flags of a request: answer a read in one piece; answer a question about allocation with one extent.
pub(super) const DF: u16 = 1 << 2;
pub(super) const REQ_ONE: u16 = 1 << 3;

/// Flags of an extent of `base:allocation`.
pub(super) const STATE_HOLE: u32 = 1;
pub(super) const STATE_ZERO: u32 = 1 << 1;

/// What a client may ask for during the handshake.
pub(super) mod option {
    pub(in super::super) const EXPORT_NAME: u32 = 1;
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const INFO: u32 = 6;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
    pub(in super::super) const LIST_META_CONTEXT: u32 = 9;
    pub(in super::super) const SET_META_CONTEXT: u32 = 10;
}

/// What is told about an export.
pub(super) mod info {
    pub(in super::super) const EXPORT: u16 = 0;
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const DESCRIPTION: u16 = 2;
    pub(in super::super) const BLOCK_SIZE: u16 = 3;
}

/// How an option is answered.
pub(super) mod reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const META_CONTEXT: u32 = 4;
    pub(in super::super) const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub(in super::super) const ERR_INVALID: u32 = (1 << 31) + 3;
    pub(in super::super) const ERR_UNKNOWN: u32 = (1 << 31) + 6;
}

/// What the chunk of a structured reply holds.
pub(super) mod chunk {
    pub(in super::super) const OFFSET_DATA: u16 = 1;
    pub(in super::super) const OFFSET_HOLE: u16 = 2;
    pub(in super::super) const BLOCK_STATUS: u16 = 5;
    pub(in super::super) const ERROR: u16 = (1 << 15) + 1;
}

/// Returns true when the other side has hung up between two messages.
pub(super) fn ended(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        match input.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It left without reading all that it was sent, which is its right.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(true),
            found => return found.map(<[u8]>::is_empty),
        }
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn read_u16(input: &mut impl Read) -> io::Result<u16> {
    array(input).map(u16::from_be_bytes)
}

pub(super) fn read_u32(input: &mut impl Read) -> io::Result<u32> {
    array(input).map(u32::from_be_bytes)
}

fn read_u64(input: &mut impl Read) -> io::Result<u64> {
    array(input).map(u64::from_be_bytes)
}

/// The head of an option; its data follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionHead {
    pub(super) option: u32,
    pub(super) bytes: u32,
}

impl OptionHead {
    pub(super) fn read(input: &mut impl Read) -> Result<Self, ClientError> {
        match read_u64(input)? {
            OPTION => Ok(Self { option: read_u32(input)?, bytes: read_u32(input)? }),
            found => Err(ClientError::Magic { message: "an option", found }),
        }
    }
}

/// Appends an answer to an option; `None` when the data is too long for one.
pub(super) fn put_option_reply(out: &mut Vec<u8>, option: u32, reply: u32, data: &[&[u8]]) -> Option<()> {
    let bytes = u32::try_from(data.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    out.extend_from_slice(&OPTION_REPLY.to_be_bytes());
    [option, reply, bytes].iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    data.iter().for_each(|part| out.extend_from_slice(part));
    Some(())
}

/// What a client wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Read,
    Write,
    Disconnect,
    Trim,
    WriteZeroes,
    BlockStatus,
    /// Among them FLUSH and CACHE: neither was offered.
    Unknown,
}

/// A request; the data of a write follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) flags: u16,
    pub(super) command: Command,
    pub(super) cookie: u64,
    pub(super) start: ByteOffset,
    pub(super) bytes: u32,
}

impl Request {
    pub(super) fn read(input: &mut impl Read) -> Result<Self, ClientError> {
        match read_u32(input)? {
            REQUEST => {}
            found => return Err(ClientError::Magic { message: "a request", found: found.into() }),
        }
        let flags = read_u16(input)?;
        let command = match read_u16(input)? {
            0 => Command::Read,
            1 => Command::Write,
            2 => Command::Disconnect,
            4 => Command::Trim,
            6 => Command::WriteZeroes,
            7 => Command::BlockStatus,
            _ => Command::Unknown,
        };
        let (cookie, start) = (read_u64(input)?, ByteOffset::new(read_u64(input)?));
        Ok(Self { flags, command, cookie, start, bytes: read_u32(input)? })
    }

    pub(super) fn range(&self) -> ByteRange {
        ByteRange { start: self.start, len: ByteLen::new(self.bytes.into()) }
    }
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("this part of the image is damaged or cannot be read")]
    Damaged,
    #[error("the request is unknown, has unknown flags, or was not agreed on")]
    Unknown,
    #[error("the request is empty, too long, or goes past the end of the disk")]
    Range,
}

impl Refusal {
    /// Returns EPERM, EIO or EINVAL, as the protocol numbers them.
    const fn code(self) -> u32 {
        match self {
            Self::ReadOnly => 1,
            Self::Damaged => 5,
            Self::Unknown | Self::Range => 22,
        }
    }
}

/// Appends the head of a simple reply; data follows a read that was done.
pub(super) fn put_simple(out: &mut Vec<u8>, cookie: u64, refused: Option<Refusal>) {
    out.extend_from_slice(&SIMPLE_REPLY.to_be_bytes());
    out.extend_from_slice(&refused.map_or(0, Refusal::code).to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
}

/// Appends the head of a chunk; `done` when it is the last one of its reply.
pub(super) fn put_chunk(out: &mut Vec<u8>, cookie: u64, done: bool, kind: u16, bytes: u32) {
    out.extend_from_slice(&CHUNK.to_be_bytes());
    out.extend_from_slice(&u16::from(done).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Appends the chunk that ends a structured reply as failed.
pub(super) fn put_error_chunk(out: &mut Vec<u8>, cookie: u64, refused: Refusal) {
    let message = refused.to_string();
    // The longest of them has less than 100 bytes.
    let len = u16::try_from(message.len()).unwrap_or(0);
    put_chunk(out, cookie, true, chunk::ERROR, 6 + u32::from(len));
    out.extend_from_slice(&refused.code().to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&message.as_bytes()[..len.into()]);
}
