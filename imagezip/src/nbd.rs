//! A saved state as a disk on a socket: a read-only server of the NBD protocol, so that any tool can open it.
//!
//! The protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>; addresses are printed as in
//! `doc/uri.md` beside it. Fixed newstyle handshake, simple and structured replies, `base:allocation`; one export, whose
//! name is empty. No TLS and no authentication: who may connect may read.
//!
//! A client has ten seconds for its handshake. Then it may be silent for as long as it likes, as a virtual machine is that
//! reads nothing, so it keeps its place until it leaves. When all places are taken a newcomer is hung up on before the
//! greeting, which every client reports at once: the protocol has no answer for that, and another would be a lie.
//!
//! - `wire`: numbers and headers; `handshake`, then `transmission`: the two phases, over any stream of bytes
//! - `address`, `stream`, `listener`: sockets; `server`: one thread for each client
//!
//! Memory: what [`ImageDisk`] keeps, and for each client two MiB, or the largest request of 32 MiB while one that has to
//! be answered in one piece is under way.

use std::io;

use sigs::{ByteRange, ReadAt as _};

use crate::image::ImageDisk;

mod address;
mod handshake;
mod listener;
mod server;
mod stream;
mod transmission;
mod wire;

pub use address::{Address, BadAddress, Reach};
pub use handshake::{Agreed, handshake};
pub use listener::BindError;
pub use server::{MOST_CLIENTS, Server};
pub use transmission::transmit;

/// The longest read a client may ask for: what the protocol lets clients expect of every server.
pub const MOST_BYTES: u32 = 32 << 20;

/// What is served: a disk, and a word about it for people.
#[derive(Debug)]
pub struct Export {
    disk: ImageDisk,
    description: String,
}

impl Export {
    /// Makes an export of a disk, described by the root of its state.
    pub fn new(disk: ImageDisk) -> Self {
        let description = format!("saved state {}", disk.chain().manifest().target_root);
        Self { disk, description }
    }

    /// Returns the part of the disk a request means; `None` when it is empty or goes past the end.
    fn part(&self, range: ByteRange) -> Option<ByteRange> {
        let inside = range.checked_end().is_some_and(|end| end.get() <= self.disk.len().get());
        (inside && !range.len.is_zero()).then_some(range)
    }
}

/// Why the conversation with a client was ended by the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A message does not begin as it has to.
    #[error("{message} begins with {found:#x}, which is not NBD")]
    Magic {
        /// Which message.
        message: &'static str,
        /// What is there instead.
        found: u64,
    },
    /// The client wants what was not offered, and the protocol has no answer but to hang up.
    #[error("it answers the greeting with the unknown flags {0:#x}")]
    Flags(u32),
    /// An option has more data than any that is known.
    #[error("it sends an option ({option}) with {bytes} bytes of data")]
    LongOption {
        /// Its number.
        option: u32,
        /// How much data it has.
        bytes: u32,
    },
    /// The handshake does not come to an end.
    #[error("it still haggles after {0} options")]
    ManyOptions(usize),
    /// The client wants another export, by the option that has no answer but to hang up.
    #[error("it wants another disk than the one there is, whose name is empty")]
    UnknownExport,
    /// A write has more data than is read only to be thrown away.
    #[error("it writes {0} bytes at once, to a disk that is read-only")]
    LongWrite(u32),
    /// The connection broke, or was silent for too long.
    #[error("the connection ended")]
    Io(#[from] io::Error),
}

/// Something that went wrong while the server goes on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A part of the disk could not be read; the client was told.
    #[error("the {} bytes at offset {} cannot be read", .range.len, .range.start)]
    Read {
        /// The part.
        range: ByteRange,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// A client was hung up on.
    #[error("{peer} was disconnected")]
    Client {
        /// Where it is.
        peer: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A client was turned away, because there are as many as may be.
    #[error("{peer} was turned away: there are {MOST_CLIENTS} connections already, and the first that ends makes room")]
    Full {
        /// Where it is.
        peer: String,
    },
    /// A client could not be taken.
    #[error("take a connection")]
    Accept(#[source] io::Error),
}
