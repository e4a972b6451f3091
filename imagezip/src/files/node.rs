//! One inode: what it is, whose, how long, and of when.
//!
//! ```text
//!   0 mode (16)  2 owner (16)  16 time of change  24 group (16)  120 upper half of the owner (16)  122 of the group (16)
//! 128 length of what follows (16)  136 the rest of the time: 2 bits that extend it, 30 of nanoseconds
//! ```

use std::fmt;

use serde::Serialize;
use sigs::ByteLen;

use crate::alloc::bytes::{u16_at, u32_at};
use crate::alloc::ext::inode::{FLAG_INLINE, Inode, TYPE_DIRECTORY, TYPE_REGULAR};

const TYPE_FIFO: u16 = 0x1000;
const TYPE_CHARACTERS: u16 = 0x2000;
const TYPE_BLOCKS: u16 = 0x6000;
const TYPE_LINK: u16 = 0xA000;
const TYPE_SOCKET: u16 = 0xC000;
const FLAG_ENCRYPTED: u32 = 0x800;

const OLD_BYTES: usize = 128;
const TIME_REST_AT: usize = 136;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link.
    Link,
    /// A device of blocks.
    BlockDevice,
    /// A device of characters.
    CharacterDevice,
    /// A pipe with a name.
    Fifo,
    /// A socket.
    Socket,
    /// None of those.
    Unknown,
}

impl Kind {
    /// Returns the letter that `ls -l` begins with.
    pub const fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Folder => 'd',
            Self::Link => 'l',
            Self::BlockDevice => 'b',
            Self::CharacterDevice => 'c',
            Self::Fifo => 'p',
            Self::Socket => 's',
            Self::Unknown => '?',
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link",
            Self::BlockDevice => "a block device",
            Self::CharacterDevice => "a character device",
            Self::Fifo => "a fifo",
            Self::Socket => "a socket",
            Self::Unknown => "of no known kind",
        })
    }
}

/// When content was changed last, since the beginning of 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Modified {
    /// Whole seconds; before 1970 they are negative.
    pub seconds: i64,
    /// What is to be added to them, below a second.
    pub nanoseconds: u32,
}

/// An inode whose checksum, if there is one, is right.
#[derive(Clone, Debug)]
pub struct Node {
    number: u32,
    pub(super) inode: Inode,
}

impl Node {
    pub(super) const fn new(number: u32, inode: Inode) -> Self {
        Self { number, inode }
    }

    /// Returns its number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns what it is.
    pub fn kind(&self) -> Kind {
        match self.inode.file_type() {
            TYPE_REGULAR => Kind::File,
            TYPE_DIRECTORY => Kind::Folder,
            TYPE_LINK => Kind::Link,
            TYPE_BLOCKS => Kind::BlockDevice,
            TYPE_CHARACTERS => Kind::CharacterDevice,
            TYPE_FIFO => Kind::Fifo,
            TYPE_SOCKET => Kind::Socket,
            _ => Kind::Unknown,
        }
    }

    /// Returns the permissions, with the bits above them: set user id, set group id, sticky.
    pub fn mode(&self) -> u16 {
        self.half(0) & 0o7777
    }

    /// Returns the owner.
    pub fn owner(&self) -> u32 {
        u32::from(self.half(2)) | (u32::from(self.half(120)) << 16)
    }

    /// Returns the group.
    pub fn group(&self) -> u32 {
        u32::from(self.half(24)) | (u32::from(self.half(122)) << 16)
    }

    /// Returns how long the content is.
    pub fn size(&self) -> ByteLen {
        ByteLen::new(self.inode.size())
    }

    /// Returns when the content was changed last.
    pub fn modified(&self) -> Modified {
        let seconds = u32_at(self.inode.bytes(), 16).unwrap_or(0).cast_signed();
        let fields = u16_at(self.inode.bytes(), OLD_BYTES).map_or(0, usize::from);
        let has_rest = OLD_BYTES.saturating_add(fields) >= TIME_REST_AT + 4;
        let rest = u32_at(self.inode.bytes(), TIME_REST_AT).filter(|_| has_rest).unwrap_or(0);
        let seconds = i64::from(seconds).saturating_add(i64::from(rest & 3) << 32);
        Modified {
            seconds,
            nanoseconds: Some(rest >> 2).filter(|nanoseconds| *nanoseconds < 1_000_000_000).unwrap_or(0),
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.inode.flags() & FLAG_ENCRYPTED != 0
    }

    /// Returns true if the content is in the inode itself.
    pub(super) fn is_inline(&self) -> bool {
        self.inode.flags() & FLAG_INLINE != 0
    }

    fn half(&self, at: usize) -> u16 {
        u16_at(self.inode.bytes(), at).unwrap_or(0)
    }
}
