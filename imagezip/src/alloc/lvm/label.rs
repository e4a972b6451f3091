//! The label of a physical volume and the header behind it: one sector of 512 bytes among the first four.
//!
//! ```text
//! label   0 "LABELONE"   8 own sector   16 CRC of bytes 20..512   20 where the header begins   24 "LVM2 001"
//! header  0 id (32 characters)   32 size of the device   40 data areas   then metadata areas
//!         then, in newer ones: version, flags, boot loader areas
//! ```
//!
//! An area is offset and length in bytes, 64 bits each; an offset of zero ends a list of them.

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::LvmDoubt;
use super::checksum::checksum;
use crate::alloc::bytes::{array, has, u32_at, u64_at};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// Sectors have this size here whatever the medium has.
const SECTOR: usize = 512;
const SECTORS: u64 = 4;
const ID_LEN: usize = 32;
/// The newest extension of the header that is known.
const NEWEST_EXTENSION: u32 = 2;
/// Set when the volume belongs to a group, which its metadata say better.
const EXTENSION_USED: u32 = 1;

/// What the label says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// The id of the physical volume, without dashes.
    pub(super) id: [u8; ID_LEN],
    /// Where the extents begin; the length may be zero for "all the rest".
    pub(super) data: Vec<ByteRange>,
    pub(super) metadata: Vec<ByteRange>,
    pub(super) boot: Vec<ByteRange>,
}

impl Label {
    /// Finds and reads the one label of a volume.
    pub(super) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let mut found = None;
        let head = window.fetch(0, SECTORS * 512)?;
        for (number, sector) in (0..SECTORS).zip(head.chunks(SECTOR)) {
            if has(sector, 0, b"LABELONE") && found.replace((number, sector)).is_some() {
                return Err(LvmDoubt::SeveralLabels.into());
            }
        }
        let (number, sector) = found.ok_or(LvmDoubt::Label("is not there"))?;
        Ok(Self::parse(number, sector)?)
    }

    fn parse(number: u64, sector: &[u8]) -> Result<Self, LvmDoubt> {
        let cut = LvmDoubt::Label("is cut short");
        let body = sector.get(20..SECTOR).ok_or_else(|| cut.clone())?;
        if u32_at(sector, 16) != Some(checksum(&[body])) {
            return Err(LvmDoubt::Label("has a wrong checksum"));
        }
        if u64_at(sector, 8) != Some(number) {
            return Err(LvmDoubt::Label("belongs to another sector"));
        }
        if !has(sector, 24, b"LVM2 001") {
            return Err(LvmDoubt::Label("is of an unknown type"));
        }
        let at = u32_at(sector, 20).and_then(|at| usize::try_from(at).ok()).ok_or_else(|| cut.clone())?;
        let header = sector.get(at..).filter(|_| at >= 32).ok_or_else(|| cut.clone())?;
        let id = array(header, 0).ok_or_else(|| cut.clone())?;
        let mut lists = Lists { header, at: ID_LEN + 8 };
        let data = lists.next().ok_or_else(|| cut.clone())?;
        let metadata = lists.next().ok_or_else(|| cut.clone())?;
        let boot = match lists.number() {
            // Before there were extensions the sector was zero from here on.
            None | Some(0) => Vec::new(),
            Some(version) if version <= NEWEST_EXTENSION => {
                let flags = lists.number().ok_or_else(|| cut.clone())?;
                if flags & !EXTENSION_USED != 0 {
                    return Err(LvmDoubt::Label("has unknown flags"));
                }
                lists.next().ok_or(cut)?
            }
            Some(_) => return Err(LvmDoubt::Label("has an unknown extension")),
        };
        Ok(Self { id, data, metadata, boot })
    }
}

/// The lists of areas in a header, one after the other.
struct Lists<'a> {
    header: &'a [u8],
    at: usize,
}

impl Lists<'_> {
    fn next(&mut self) -> Option<Vec<ByteRange>> {
        let mut areas = Vec::new();
        loop {
            let (start, len) = (u64_at(self.header, self.at)?, u64_at(self.header, self.at + 8)?);
            self.at += 16;
            if start == 0 {
                return Some(areas);
            }
            areas.push(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) });
        }
    }

    fn number(&mut self) -> Option<u32> {
        let number = u32_at(self.header, self.at)?;
        self.at += 4;
        Some(number)
    }
}
