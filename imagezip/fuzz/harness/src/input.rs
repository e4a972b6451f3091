//! Any bytes as a list of changes to a disk.
//!
//! ```text
//! 0 which image   1 bit 0: leave checksums wrong, bits 1 to 3: double the size of the disk so often, bit 4: save the
//!                 disk if it has a table of partitions, and lay it out on others
//! then changes: 0 which of the places (16)  2 where in its block (16)  4 length - 1 (8, of which 6 bits count)  5 bytes
//! ```
//! Integers are little endian, and what is too large is taken modulo what there is, so that every input means something.

use crate::image::{BLOCK, Disk, Image};
use crate::seal::seal;

/// No disk grows beyond this, so that the time a survey needs has a bound.
const MOST_BYTES: u64 = 16 << 30;
const MOST_CHANGES: usize = 256;

/// What an input asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    image: u8,
    /// Checksums are left as they are.
    pub unsealed: bool,
    doublings: u32,
    /// The disk is saved and laid out on others.
    pub resize: bool,
    list: Vec<Change>,
}

/// Some bytes at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    place: u16,
    at: u16,
    bytes: Vec<u8>,
}

impl Changes {
    /// Reads an input.
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let [image, flags] = take(&mut bytes)?;
        let mut list = Vec::new();
        while list.len() < MOST_CHANGES {
            let Some([p0, p1, a0, a1, len]) = take(&mut bytes) else { break };
            let (content, rest) = bytes.split_at((usize::from(len % 64) + 1).min(bytes.len()));
            let (place, at) = (u16::from_le_bytes([p0, p1]), u16::from_le_bytes([a0, a1]));
            list.push(Change { place, at, bytes: content.to_vec() });
            bytes = rest;
        }
        let (unsealed, resize) = (flags & 1 != 0, flags & 16 != 0);
        Some(Self { image, unsealed, doublings: u32::from(flags >> 1 & 7), resize, list })
    }

    /// Writes the input that asks for changes at bytes of the disk. Panics where no place is.
    pub fn encode(number: u8, image: &Image, unsealed: bool, doublings: u8, changes: &[(u64, &[u8])]) -> Vec<u8> {
        let mut input = vec![number, u8::from(unsealed) | (doublings << 1)];
        for (offset, bytes) in changes {
            for (offset, bytes) in (*offset..).step_by(64).zip(bytes.chunks(64)) {
                let (block, at) = (offset / 4096, offset % 4096);
                let place = image.places.iter().position(|place| *place == block).unwrap();
                input.extend(u16::try_from(place).unwrap().to_le_bytes());
                input.extend(u16::try_from(at).unwrap().to_le_bytes());
                input.push(u8::try_from(bytes.len() - 1).unwrap());
                input.extend(bytes);
            }
        }
        input
    }

    /// Returns the number of the image, of so many.
    pub fn image(&self, images: usize) -> usize {
        usize::from(self.image) % images
    }

    /// Returns true if the only change is of one byte.
    pub fn is_one_byte(&self) -> bool {
        self.doublings == 0 && matches!(self.list.as_slice(), [only] if only.bytes.len() == 1)
    }

    /// Returns a disk with the changes, its checksums put right unless that is not wanted.
    pub fn disk<'a>(&self, image: &'a Image) -> Disk<'a> {
        let mut disk = Disk::new(image);
        let touched = self.apply(&mut disk);
        if !self.unsealed {
            seal(&mut disk, &touched);
        }
        disk
    }

    /// Changes a disk, and returns the numbers of the blocks that were changed.
    fn apply(&self, disk: &mut Disk<'_>) -> Vec<u64> {
        disk.len = disk.len.saturating_mul(1 << self.doublings).min(MOST_BYTES.max(disk.len));
        let mut touched = Vec::new();
        for change in &self.list {
            let places = disk.places();
            let Some(block) = places.get(usize::from(change.place) % places.len().max(1)) else { break };
            let at = usize::from(change.at) % BLOCK;
            let len = change.bytes.len().min(BLOCK - at);
            disk.write(block * 4096 + u64::from(change.at % 4096), &change.bytes[..len]);
            touched.push(*block);
        }
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
