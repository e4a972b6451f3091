//! The first phase: client and server agree on what they will use. Fixed newstyle, one export, whose name is empty.

use std::io::{BufRead, ErrorKind, Read, Write};

use sigs::ReadAt as _;

use super::wire::{self, OptionHead, info, option, reply};
use super::{ClientError, Export, MOST_BYTES};

/// More than clients that exist send; a handshake is at most so many options of so many bytes.
const MOST_OPTIONS: usize = 64;
const MOST_OPTION_BYTES: u32 = 16 << 10;

/// What is known about every byte of the disk: is it allocated, is it zero.
const ALLOCATION: &[u8] = b"base:allocation";
/// How extents of [`ALLOCATION`] are marked once it was agreed on.
pub(super) const ALLOCATION_ID: u32 = 1;

/// What client and server agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Reads are answered in chunks.
    pub structured: bool,
    /// The client may ask what is allocated.
    pub allocation: bool,
}

/// Greets a client and haggles until it takes the disk; `None` when it leaves instead.
///
/// # Errors
/// [`ClientError`] when the client does not keep to the protocol, or the connection ends in the middle of a message.
pub fn handshake(
    input: &mut impl BufRead,
    output: &mut impl Write,
    export: &Export,
) -> Result<Option<Agreed>, ClientError> {
    let mut greeting = Vec::from(wire::GREETING.to_be_bytes());
    greeting.extend_from_slice(&wire::OPTION.to_be_bytes());
    greeting.extend_from_slice(&(wire::FIXED_NEWSTYLE | wire::NO_ZEROES).to_be_bytes());
    match output.write_all(&greeting) {
        // It only looked whether somebody answers, as another server does that wants the same address.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => return Ok(None),
        sent => sent?,
    }
    if wire::ended(input)? {
        return Ok(None);
    }
    let flags = wire::read_u32(input)?;
    if flags & !u32::from(wire::FIXED_NEWSTYLE | wire::NO_ZEROES) != 0 {
        return Err(ClientError::Flags(flags));
    }
    let zeroes = flags & u32::from(wire::NO_ZEROES) == 0;
    let mut haggling = Haggling { export, zeroes, agreed: Agreed::default(), out: Vec::new() };
    for _ in 0..MOST_OPTIONS {
        if wire::ended(input)? {
            return Ok(None);
        }
        let (option, data) = read_option(input)?;
        let next = haggling.answer(option, &data)?;
        let sent = output.write_all(&haggling.out);
        haggling.out.clear();
        match next {
            // It need not wait for the answer.
            Next::Leave => return Ok(None),
            Next::Option => sent?,
            Next::Transmission => return Ok(sent.map(|()| Some(haggling.agreed))?),
        }
    }
    Err(ClientError::ManyOptions(MOST_OPTIONS))
}

fn read_option(input: &mut impl Read) -> Result<(u32, Vec<u8>), ClientError> {
    let OptionHead { option, bytes } = OptionHead::read(input)?;
    let len = usize::try_from(bytes).ok().filter(|_| bytes <= MOST_OPTION_BYTES);
    let mut data = vec![0; len.ok_or(ClientError::LongOption { option, bytes })?];
    input.read_exact(&mut data)?;
    Ok((option, data))
}

/// What comes after an option.
enum Next {
    Option,
    Transmission,
    Leave,
}

/// An option that is answered with an error, which ends nothing.
enum Refused {
    Unsupported,
    Invalid,
    UnknownExport,
}

/// The state of a handshake.
struct Haggling<'a> {
    export: &'a Export,
    /// The client wants the padding of old times.
    zeroes: bool,
    agreed: Agreed,
    /// Answers that were not sent yet.
    out: Vec<u8>,
}

impl Haggling<'_> {
    fn answer(&mut self, option: u32, data: &[u8]) -> Result<Next, ClientError> {
        let mut next = Next::Option;
        let answered = match option {
            option::EXPORT_NAME if data.is_empty() => {
                self.put_old_end();
                return Ok(Next::Transmission);
            }
            option::EXPORT_NAME => return Err(ClientError::UnknownExport),
            option::ABORT => {
                next = Next::Leave;
                Ok(())
            }
            option::LIST => self.list(data),
            option::INFO => self.describe(option, data),
            option::GO => self.describe(option, data).map(|()| next = Next::Transmission),
            option::STRUCTURED_REPLY => none_left(data).map(|()| self.agreed.structured = true),
            option::LIST_META_CONTEXT => self.contexts(option, data).map(drop),
            option::SET_META_CONTEXT => self.contexts(option, data).map(|found| self.agreed.allocation = found),
            // TLS and extended headers among them.
            _ => Err(Refused::Unsupported),
        };
        let reply = match answered {
            Ok(()) => reply::ACK,
            Err(Refused::Unsupported) => reply::ERR_UNSUP,
            Err(Refused::Invalid) => reply::ERR_INVALID,
            Err(Refused::UnknownExport) => reply::ERR_UNKNOWN,
        };
        self.put(option, reply, &[]);
        Ok(next)
    }

    fn put(&mut self, option: u32, reply: u32, data: &[&[u8]]) {
        wire::put_option_reply(&mut self.out, option, reply, data);
    }

    fn transmission_flags(&self) -> u16 {
        let flags = wire::HAS_FLAGS | wire::READ_ONLY | wire::CAN_MULTI_CONN;
        if self.agreed.structured { flags | wire::SEND_DF } else { flags }
    }

    fn size_and_flags(&self) -> Vec<u8> {
        let mut bytes = Vec::from(self.export.disk.len().get().to_be_bytes());
        bytes.extend_from_slice(&self.transmission_flags().to_be_bytes());
        bytes
    }

    /// Ends the handshake as before there were answers to options.
    fn put_old_end(&mut self) {
        let end = self.size_and_flags();
        self.out.extend_from_slice(&end);
        if self.zeroes {
            self.out.extend_from_slice(&[0; 124]);
        }
    }

    fn list(&mut self, data: &[u8]) -> Result<(), Refused> {
        none_left(data)?;
        // A name of no bytes.
        self.put(option::LIST, reply::SERVER, &[&[0; 4]]);
        Ok(())
    }

    /// Tells what INFO and GO want to know.
    fn describe(&mut self, option: u32, mut data: &[u8]) -> Result<(), Refused> {
        let name = take_string(&mut data)?;
        let wanted = wire::read_u16(&mut data).map_err(|_| Refused::Invalid)?;
        let wanted: Result<Vec<u16>, _> = (0..wanted).map(|_| wire::read_u16(&mut data)).collect();
        let wanted = wanted.map_err(|_| Refused::Invalid)?;
        none_left(data)?;
        known_export(name)?;
        let export = self.export;
        let size = self.size_and_flags();
        self.put(option, reply::INFO, &[&info::EXPORT.to_be_bytes(), &size]);
        if wanted.contains(&info::NAME) {
            self.put(option, reply::INFO, &[&info::NAME.to_be_bytes()]);
        }
        if wanted.contains(&info::DESCRIPTION) {
            self.put(option, reply::INFO, &[&info::DESCRIPTION.to_be_bytes(), export.description.as_bytes()]);
        }
        if wanted.contains(&info::BLOCK_SIZE) {
            let preferred = export.disk.geometry().block_size.bytes().max(4096);
            let [least, preferred, most] = [1, preferred, MOST_BYTES].map(u32::to_be_bytes);
            self.put(option, reply::INFO, &[&info::BLOCK_SIZE.to_be_bytes(), &least, &preferred, &most]);
        }
        Ok(())
    }

    /// Names the contexts that are asked for, of which there is one; returns whether it is among them.
    fn contexts(&mut self, option: u32, mut data: &[u8]) -> Result<bool, Refused> {
        let listing = option == option::LIST_META_CONTEXT;
        let name = take_string(&mut data)?;
        let queries = wire::read_u32(&mut data).map_err(|_| Refused::Invalid)?;
        let mut found = listing && queries == 0;
        for _ in 0..queries {
            let query = take_string(&mut data)?;
            found |= query == ALLOCATION || (listing && query == b"base:");
        }
        none_left(data)?;
        if !self.agreed.structured {
            return Err(Refused::Invalid);
        }
        known_export(name)?;
        if found {
            let id = if listing { 0 } else { ALLOCATION_ID };
            self.put(option, reply::META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION]);
        }
        Ok(found)
    }
}

/// Takes a string with its length before it.
fn take_string<'a>(data: &mut &'a [u8]) -> Result<&'a [u8], Refused> {
    let len = wire::read_u32(data).ok().and_then(|len| usize::try_from(len).ok());
    let (string, rest) = len.and_then(|len| data.split_at_checked(len)).ok_or(Refused::Invalid)?;
    *data = rest;
    Ok(string)
}

fn none_left(data: &[u8]) -> Result<(), Refused> {
    if data.is_empty() { Ok(()) } else { Err(Refused::Invalid) }
}

fn known_export(name: &[u8]) -> Result<(), Refused> {
    if name.is_empty() { Ok(()) } else { Err(Refused::UnknownExport) }
}
