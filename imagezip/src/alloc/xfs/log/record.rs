//! A record of the log: a header sector (more of them for records above 32 KiB), then the data.
//!
//! ```text
//!   0 0xFEEDBABE  4 round  8 version  12 bytes of data  16 place (round, sector)  24 place of the oldest record in use
//!  32 checksum (little-endian)  36 sector of the record before  40 number of operations
//!  44 what the data sectors began with (64)  300 byte order (1: little)  304 UUID  320 size of the buffer
//! further header sectors: 0 round  4 what the data sectors began with (64)
//! ```

use super::{Log, LogDoubt, SECTOR};
use crate::alloc::bytes::{be32_at, u32_at};
use crate::alloc::crc::{CRC32C_START, crc32c};
use crate::alloc::doubt::Stop;
use crate::alloc::xfs::raw::Raw;

pub(crate) const MAGIC: u32 = 0xFEED_BABE;
const LITTLE_ENDIAN: u32 = 1;
/// How many data sectors a header sector speaks for.
const SECTORS_PER_HEADER: usize = 64;
const BYTES_PER_HEADER: u32 = 32 << 10;
/// The largest buffer Linux writes records from.
pub(crate) const MOST_BYTES: u32 = 256 << 10;
const CHECKSUM_AT: usize = 32;
const SAVED_AT: usize = 44;
/// How much of a header is covered by its checksum: with the padding of 64-bit machines, and without.
const HEADER_BYTES: [usize; 2] = [328, 324];
const MORE_HEADER_BYTES: usize = 4 + 4 * SECTORS_PER_HEADER;

/// The header of a record at a place it says is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Where it is.
    pub(crate) sector: u32,
    pub(crate) round: u32,
    pub(crate) data_bytes: u32,
    pub(crate) header_sectors: u32,
    pub(crate) operations: u32,
    /// The place of the oldest record that is still needed, as a round and a sector.
    pub(crate) tail: u64,
    checksum: u32,
}

/// What the checksum of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    /// mkfs.xfs writes its only record without one.
    Absent,
    Wrong,
}

impl Header {
    /// Parses the header in `bytes`, a sector of the log, which begins with the magic number.
    pub(crate) fn parse(log: &Log<'_>, sector: u32, bytes: &[u8]) -> Result<Self, LogDoubt> {
        let raw = Raw(bytes);
        let wrong = |field| LogDoubt::Record { sector, field };
        let number = |at: usize| raw.u32(at).ok_or(wrong("length"));
        let require = |holds: bool, field| if holds { Ok(()) } else { Err(wrong(field)) };
        require(number(0)? == MAGIC, "magic number")?;
        let version = number(8)?;
        require(version == 1 || version == 2, "version")?;
        require(number(300)? == LITTLE_ENDIAN, "byte order")?;
        require(raw.uuid(304) == Some(log.uuid), "UUID")?;
        let round = number(4)?;
        require(raw.u64(16) == Some((u64::from(round) << 32) | u64::from(sector)), "place in itself")?;
        let (data_bytes, buffer) = (number(12)?, number(320)?);
        require(data_bytes <= MOST_BYTES && data_bytes > 0, "length")?;
        require(version == 1 || buffer <= MOST_BYTES, "size of the buffer")?;
        let header_sectors = if version == 2 { buffer.div_ceil(BYTES_PER_HEADER).max(1) } else { 1 };
        let header = Self {
            sector,
            round,
            data_bytes,
            header_sectors,
            operations: number(40)?,
            tail: raw.u64(24).ok_or(wrong("length"))?,
            checksum: u32_at(bytes, CHECKSUM_AT).ok_or(wrong("length"))?,
        };
        let covered = header_sectors.saturating_mul(BYTES_PER_HEADER);
        require(data_bytes <= covered && header.sectors() < log.sectors, "length")?;
        Ok(header)
    }

    /// Returns how many sectors the record has.
    pub(crate) fn sectors(&self) -> u32 {
        self.header_sectors.saturating_add(self.data_sectors())
    }

    fn data_sectors(&self) -> u32 {
        self.data_bytes.div_ceil(512)
    }

    /// Returns the place of the record, which orders all of the log.
    pub(crate) fn sequence(&self) -> u64 {
        (u64::from(self.round) << 32) | u64::from(self.sector)
    }

    /// Reads the data of the record as they were before the log took the start of each sector.
    pub(crate) fn read(&self, log: &Log<'_>) -> Result<(Verdict, Vec<u8>), Stop> {
        let all = log.read(self.sector, self.sectors())?;
        let header_len = usize::try_from(u64::from(self.header_sectors) * SECTOR).unwrap_or(usize::MAX);
        let short = LogDoubt::Record { sector: self.sector, field: "length" };
        let (headers, data) = all.split_at_checked(header_len).ok_or(short.clone())?;
        let len = usize::try_from(self.data_bytes).unwrap_or(usize::MAX);
        let verdict = self.verdict(headers, data.get(..len).ok_or(short)?);
        let mut data = data.to_vec();
        for (place, sector) in data.chunks_mut(512).enumerate() {
            let (header, slot) = (place / SECTORS_PER_HEADER, place % SECTORS_PER_HEADER);
            let at = header * 512 + if header == 0 { SAVED_AT } else { 4 } + slot * 4;
            // There are as many slots as sectors: the length was compared with the number of headers.
            if let (Some(start), Some(saved)) = (sector.first_chunk_mut::<4>(), be32_at(headers, at)) {
                *start = saved.to_be_bytes();
            }
        }
        data.truncate(len);
        Ok((verdict, data))
    }

    fn verdict(&self, headers: &[u8], data: &[u8]) -> Verdict {
        let covered = |first: usize| {
            let crc = crc32c(CRC32C_START, headers.get(..CHECKSUM_AT)?);
            let crc = crc32c(crc32c(crc, &[0; 4]), headers.get(CHECKSUM_AT + 4..first)?);
            let more = headers.chunks(512).skip(1).filter_map(|header| header.get(..MORE_HEADER_BYTES));
            Some(!crc32c(more.fold(crc, crc32c), data))
        };
        if HEADER_BYTES.iter().any(|first| covered(*first) == Some(self.checksum)) {
            Verdict::Valid
        } else if self.checksum == 0 {
            Verdict::Absent
        } else {
            Verdict::Wrong
        }
    }
}
