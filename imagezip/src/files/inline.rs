//! Content that is in the inode itself: where the map of blocks would be, and in an attribute when that is too short.
//!
//! ```text
//! 128 length of the fields that follow (16)   behind those: magic, then the attributes, then their values
//! attribute  0 length of the name  1 prefix of the name  2 value, from the first attribute (16)  4 inode of the value
//!            8 length of the value  12 hash  16 name, filled up to a multiple of 4
//! ```

use crate::alloc::bytes::{u8_at, u16_at, u32_at};
use crate::alloc::ext::inode::Inode;

const OLD_BYTES: usize = 128;
const MAGIC: u32 = 0xEA02_0000;
const ENTRY_BYTES: usize = 16;
/// The attribute `system.data`.
const PREFIX_SYSTEM: u8 = 7;
const NAME: &[u8] = b"data";

/// Returns what is in place of the map, and what follows it in the attribute.
pub(super) fn parts(inode: &Inode) -> Option<(&[u8], &[u8])> {
    let bytes = inode.bytes();
    let fields = usize::from(u16_at(bytes, OLD_BYTES)?);
    let attributes = bytes.get(OLD_BYTES.checked_add(fields)?..)?;
    if u32_at(attributes, 0) != Some(MAGIC) {
        return Some((inode.map(), &[]));
    }
    let attributes = attributes.get(4..)?;
    let mut at = 0_usize;
    // Four zero bytes, or the end of the inode, end the list.
    while u32_at(attributes, at).is_some_and(|start| start != 0) {
        let name_len = usize::from(u8_at(attributes, at)?);
        let name = attributes.get(at.checked_add(ENTRY_BYTES)?..)?.get(..name_len)?;
        if u8_at(attributes, at + 1)? == PREFIX_SYSTEM && name == NAME {
            let start = usize::from(u16_at(attributes, at + 2)?);
            let len = usize::try_from(u32_at(attributes, at + 8)?).ok()?;
            return Some((inode.map(), attributes.get(start..start.checked_add(len)?)?));
        }
        at += ENTRY_BYTES + name_len.next_multiple_of(4);
    }
    Some((inode.map(), &[]))
}
