//! One inode, read for where its blocks are.
//!
//! ```text
//!  0 mode (16)  4 size  26 links (16)  32 flags  40 map of blocks (60 bytes)  100 generation  104 block of attributes
//! 108 upper half of the size  118 upper half of 104 (16)  124 checksum (16)  128 extra size (16)  130 its upper half (16)
//! ```

use super::features::Protection;
use super::superblock::Superblock;
use super::{ExtDoubt, table};
use crate::alloc::bytes::{u16_at, u32_at};
use crate::alloc::crc::crc32c;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// How long the map of blocks in an inode is.
pub(crate) const MAP_BYTES: usize = 60;
const MAP_AT: usize = 40;
const CHECKSUM_AT: usize = 124;
const CHECKSUM_HIGH_AT: usize = 130;
const OLD_BYTES: usize = 128;

const TYPE_MASK: u16 = 0xF000;
pub(crate) const TYPE_REGULAR: u16 = 0x8000;
pub(crate) const TYPE_DIRECTORY: u16 = 0x4000;
pub(crate) const FLAG_EXTENTS: u32 = 0x8_0000;
pub(crate) const FLAG_INLINE: u32 = 0x1000_0000;

/// How an inode says where its blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    /// By a tree of extents.
    Extents,
    /// By pointers, pointers to pointers and so on.
    Pointers,
    /// It has no blocks but perhaps one of attributes.
    None,
}

/// The bytes of an inode.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    number: u32,
    bytes: Vec<u8>,
}

impl Inode {
    /// Reads an inode, whatever is in it.
    pub(crate) fn read(window: &Window<'_>, superblock: &Superblock, number: u32) -> Result<Self, Stop> {
        let index = number.checked_sub(1).ok_or(ExtDoubt::Inode { number })?;
        let (group, inside) = (index / superblock.inodes.per_group, index % superblock.inodes.per_group);
        if group >= superblock.groups {
            return Err(ExtDoubt::Inode { number }.into());
        }
        let table = table::descriptor(window, superblock, group)?.inode_table;
        let len = u64::from(superblock.inodes.bytes);
        let place = table.checked_mul(u64::from(superblock.block_size.bytes()));
        let place = place.and_then(|place| place.checked_add(u64::from(inside) * len));
        let bytes = window.fetch(place.unwrap_or(u64::MAX), len)?;
        if u64::try_from(bytes.len()) != Ok(len) {
            return Err(ExtDoubt::Inode { number }.into());
        }
        Ok(Self { number, bytes })
    }

    /// Takes the bytes of an inode, at least 128 of them.
    pub(crate) fn of(number: u32, bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= OLD_BYTES).then(|| Self { number, bytes: bytes.to_vec() })
    }

    /// Returns true if the inode has the checksum it states, or there are none.
    pub(crate) fn is_valid(&self, protection: Protection) -> bool {
        let Some(seed) = self.seed(protection) else { return true };
        let mut bytes = self.bytes.clone();
        let stated_low = u16_at(&bytes, CHECKSUM_AT).unwrap_or(0);
        clear(&mut bytes, CHECKSUM_AT);
        let mut stated = (u32::from(stated_low), u32::from(u16::MAX));
        // The upper half is where the extra size says that there is room for it.
        if u16_at(&bytes, OLD_BYTES).is_some_and(|extra| extra >= 4) {
            let high = u16_at(&bytes, CHECKSUM_HIGH_AT).unwrap_or(0);
            clear(&mut bytes, CHECKSUM_HIGH_AT);
            stated = (stated.0 | (u32::from(high) << 16), u32::MAX);
        }
        crc32c(seed, &bytes) & stated.1 == stated.0
    }

    /// Returns what is mixed into the checksums of the inode and of its tree.
    pub(crate) fn seed(&self, protection: Protection) -> Option<u32> {
        let Protection::All { seed } = protection else { return None };
        let generation = self.bytes.get(100..104).unwrap_or_default();
        Some(crc32c(crc32c(seed, &self.number.to_le_bytes()), generation))
    }

    /// Returns all of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn flags(&self) -> u32 {
        u32_at(&self.bytes, 32).unwrap_or(0)
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.file_type() == TYPE_REGULAR
    }

    pub(crate) fn is_linked(&self) -> bool {
        u16_at(&self.bytes, 26).is_some_and(|links| links > 0)
    }

    /// Returns the size of a regular file.
    pub(crate) fn size(&self) -> u64 {
        let half = |at| u64::from(u32_at(&self.bytes, at).unwrap_or(0));
        half(4) | (half(108) << 32)
    }

    pub(crate) fn map_kind(&self) -> MapKind {
        let flags = self.flags();
        // Devices and short symbolic links have something else where the map is.
        let has_blocks = matches!(self.file_type(), TYPE_REGULAR | TYPE_DIRECTORY);
        match (flags & FLAG_EXTENTS != 0, flags & FLAG_INLINE != 0) {
            (true, false) => MapKind::Extents,
            (false, false) if has_blocks => MapKind::Pointers,
            (_, _) => MapKind::None,
        }
    }

    /// Returns the map of blocks.
    pub(crate) fn map(&self) -> &[u8] {
        self.bytes.get(MAP_AT..MAP_AT + MAP_BYTES).unwrap_or_default()
    }

    /// Returns the block of attributes.
    pub(crate) fn attributes(&self) -> Option<u64> {
        let low = u32_at(&self.bytes, 104).unwrap_or(0);
        let high = u16_at(&self.bytes, 118).unwrap_or(0);
        Some(u64::from(low) | (u64::from(high) << 32)).filter(|block| *block != 0)
    }

    /// Returns what of the mode says the kind.
    pub(crate) fn file_type(&self) -> u16 {
        u16_at(&self.bytes, 0).unwrap_or(0) & TYPE_MASK
    }
}

fn clear(bytes: &mut [u8], at: usize) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.fill(0);
    }
}
