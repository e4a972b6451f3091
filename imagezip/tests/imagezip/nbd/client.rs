//! A client written by hand, that can say what no other would.

use std::io::{Read, Write};

/// The other end of a conversation.
pub(super) struct Client<S> {
    pub(super) stream: S,
    pub(super) structured: bool,
}

/// A chunk of a structured reply, or a simple reply, whose kind is then none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) cookie: u64,
    pub(super) error: u32,
    pub(super) kind: Option<u16>,
    pub(super) done: bool,
    pub(super) payload: Vec<u8>,
}

pub(super) const ACK: u32 = 1;
pub(super) const UNSUP: u32 = (1 << 31) + 1;
pub(super) const INVALID: u32 = (1 << 31) + 3;
pub(super) const UNKNOWN: u32 = (1 << 31) + 6;

pub(super) const READ: u16 = 0;
pub(super) const BLOCK_STATUS: u16 = 7;

/// A string with its length before it.
pub(super) fn string(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(super) fn queries(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    queries.iter().for_each(|query| data.extend(string(query)));
    data
}

/// The data of INFO and GO.
pub(super) fn wishes(name: &str, wishes: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u16::try_from(wishes.len()).unwrap().to_be_bytes());
    wishes.iter().for_each(|wish| data.extend(wish.to_be_bytes()));
    data
}

/// The bytes of a request.
pub(super) fn request(flags: u16, command: u16, offset: u64, bytes: u32) -> Vec<u8> {
    let mut request = Vec::from(0x2560_9513_u32.to_be_bytes());
    request.extend(flags.to_be_bytes());
    request.extend(command.to_be_bytes());
    request.extend(0xC0FF_EE00_0000_0001_u64.to_be_bytes());
    request.extend(offset.to_be_bytes());
    request.extend(bytes.to_be_bytes());
    request
}

/// The bytes of an option.
pub(super) fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    [b"IHAVEOPT", &number.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

impl<S: Read + Write> Client<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, structured: false }
    }

    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn take_u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn take_u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn take_vec(&mut self, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Takes the greeting and answers it.
    pub(super) fn greet(&mut self, flags: u32) {
        assert_eq!(&self.take::<18>(), b"NBDMAGICIHAVEOPT\0\x03");
        self.send(&flags.to_be_bytes());
    }

    /// Sends an option and returns its replies: the last is an ACK or an error.
    pub(super) fn option(&mut self, number: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send(&option(number, data));
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.take(), 0x0003_e889_0455_65a9_u64.to_be_bytes());
            assert_eq!(self.take_u32(), number);
            let (kind, len) = (self.take_u32(), self.take_u32());
            replies.push((kind, self.take_vec(len)));
            if kind == ACK || kind >= 1 << 31 {
                return replies;
            }
        }
    }

    /// Does a handshake with everything, or with nothing.
    pub(super) fn go(&mut self, structured: bool) {
        self.greet(3);
        self.structured = structured;
        if structured {
            assert_eq!(self.option(8, &[]), [(ACK, vec![])]);
            let replies = self.option(10, &queries("", &["base:allocation"]));
            assert_eq!(replies[0], (4, b"\0\0\0\x01base:allocation".to_vec()));
        }
        assert_eq!(self.option(7, &wishes("", &[])).last().unwrap().0, ACK);
    }

    /// Takes a reply; `bytes` of data follow a simple one that is no error.
    pub(super) fn reply(&mut self, bytes: u32) -> Reply {
        match self.take_u32() {
            0x6744_6698 => {
                let (error, cookie) = (self.take_u32(), u64::from_be_bytes(self.take()));
                let payload = if error == 0 { self.take_vec(bytes) } else { Vec::new() };
                Reply { cookie, error, kind: None, done: true, payload }
            }
            0x668e_33ef => {
                let (flags, kind) = (self.take_u16(), self.take_u16());
                assert!(flags <= 1, "{flags}");
                let (cookie, len) = (u64::from_be_bytes(self.take()), self.take_u32());
                let payload = self.take_vec(len);
                let error = if kind >= 1 << 15 { u32::from_be_bytes(payload[..4].try_into().unwrap()) } else { 0 };
                Reply { cookie, error, kind: Some(kind), done: flags == 1, payload }
            }
            magic => panic!("{magic:#x} is no reply"),
        }
    }

    /// Sends a request and takes all of its reply.
    pub(super) fn ask(&mut self, flags: u16, command: u16, offset: u64, bytes: u32) -> Vec<Reply> {
        self.send(&request(flags, command, offset, bytes));
        let mut replies = Vec::new();
        loop {
            let reply = self.reply(if command == READ { bytes } else { 0 });
            assert_eq!(reply.cookie, 0xC0FF_EE00_0000_0001);
            let done = reply.done;
            replies.push(reply);
            if done {
                return replies;
            }
        }
    }

    /// Sends a request that is to be refused; returns the error.
    pub(super) fn refused(&mut self, flags: u16, command: u16, offset: u64, bytes: u32) -> u32 {
        let replies = self.ask(flags, command, offset, bytes);
        assert!(replies.iter().all(|reply| reply.error == 0 || reply.done), "{replies:?}");
        let last = replies.last().unwrap();
        assert_ne!(last.error, 0);
        last.error
    }

    /// Reads, and puts the chunks together; panics unless they cover what was asked for, once.
    pub(super) fn read(&mut self, flags: u16, offset: u64, bytes: u32) -> Vec<u8> {
        let replies = self.ask(flags, READ, offset, bytes);
        if !self.structured {
            assert_eq!((replies.len(), replies[0].error, replies[0].kind), (1, 0, None));
            return replies.into_iter().next().unwrap().payload;
        }
        let mut content: Vec<Option<u8>> = vec![None; usize::try_from(bytes).unwrap()];
        for reply in &replies {
            let (place, rest) = reply.payload.split_at(8);
            let at = usize::try_from(u64::from_be_bytes(place.try_into().unwrap()) - offset).unwrap();
            let data = match reply.kind {
                Some(1) => rest.to_vec(),
                Some(2) => vec![0; usize::try_from(u32::from_be_bytes(rest.try_into().unwrap())).unwrap()],
                kind => panic!("a chunk of kind {kind:?}"),
            };
            assert!(!data.is_empty());
            let free = &mut content[at..at + data.len()];
            assert!(free.iter().all(Option::is_none), "told twice");
            free.iter_mut().zip(data).for_each(|(place, byte)| *place = Some(byte));
        }
        content.into_iter().map(Option::unwrap).collect()
    }

    /// Asks what is allocated; returns lengths and flags.
    pub(super) fn extents(&mut self, flags: u16, offset: u64, bytes: u32) -> Vec<(u64, u32)> {
        let replies = self.ask(flags, BLOCK_STATUS, offset, bytes);
        assert_eq!((replies.len(), replies[0].kind), (1, Some(5)));
        let (id, extents) = replies[0].payload.split_at(4);
        assert_eq!(id, [0, 0, 0, 1]);
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        extents.chunks(8).map(|extent| (number(&extent[..4]).into(), number(&extent[4..]))).collect()
    }

    /// Panics unless the other side has nothing to say any more.
    pub(super) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // A connection may also end with a reset: what was sent last was not read.
        self.stream.read_to_end(&mut rest).ok();
        assert!(rest.is_empty(), "{rest:?}");
    }
}
