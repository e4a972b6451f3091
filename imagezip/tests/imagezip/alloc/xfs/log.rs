//! The log of an XFS file system as a test sees it: the records in use, read and written round the end.

use crate::alloc::tools::crc32c;

const SECTOR: usize = 512;
const MAGIC: [u8; 4] = 0xFEED_BABE_u32.to_be_bytes();

/// Where the log is on the disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    start: usize,
    len: usize,
}

/// A record: its place in the order of all records, and its size.
#[derive(Clone, Debug)]
pub(super) struct Record {
    sequence: u64,
    tail: u64,
    pub(super) header_bytes: usize,
    pub(super) len: usize,
}

impl Record {
    pub(super) fn sector(&self) -> u64 {
        self.sequence & 0xFFFF_FFFF
    }

    pub(super) fn round(&self) -> u64 {
        self.sequence >> 32
    }
}

impl Log {
    /// Finds the log by the superblock.
    pub(super) fn of(disk: &[u8]) -> Self {
        let number = |at| usize::try_from(be32(disk, at)).unwrap();
        let (block, group_blocks) = (number(4), number(84));
        let first = be64(disk, 48);
        let group_bits = disk[124];
        let group = usize::try_from(first >> group_bits).unwrap();
        let inside = usize::try_from(first & ((1 << group_bits) - 1)).unwrap();
        Self { start: (group * group_blocks + inside) * block, len: number(96) * block }
    }

    /// Returns the records in use, the oldest first.
    pub(super) fn records(&self, disk: &[u8]) -> Vec<Record> {
        let sectors = disk[self.start..self.start + self.len].chunks(SECTOR);
        let headers = sectors.filter(|sector| sector.starts_with(&MAGIC) && be32(sector, 12) > 0);
        let mut records: Vec<Record> = headers
            .map(|header| Record {
                sequence: be64(header, 16),
                tail: be64(header, 24),
                header_bytes: SECTOR * usize::try_from(be32(header, 320).div_ceil(32 << 10).max(1)).unwrap(),
                len: usize::try_from(be32(header, 12)).unwrap(),
            })
            .collect();
        records.sort_by_key(|record| record.sequence);
        let oldest = records.last().unwrap().tail;
        records.retain(|record| record.sequence >= oldest);
        records
    }

    /// Returns the bytes of a record, with its headers.
    pub(super) fn read(&self, disk: &[u8], record: &Record) -> Vec<u8> {
        self.places(record).map(|at| disk[at]).collect()
    }

    /// Returns where the operations of a record have their headers of 12 bytes, counted from its start.
    pub(super) fn operations(&self, disk: &[u8], record: &Record) -> Vec<usize> {
        let mut bytes = self.read(disk, record);
        let (headers, data) = bytes.split_at_mut(record.header_bytes);
        // What the sectors began with is in the headers.
        for (place, sector) in data.chunks_mut(SECTOR).enumerate() {
            let (header, slot) = (place / 64, place % 64);
            let saved = header * SECTOR + if header == 0 { 44 } else { 4 } + slot * 4;
            let len = sector.len().min(4);
            sector[..len].copy_from_slice(&headers[saved..saved + len]);
        }
        let mut found = Vec::new();
        let mut at = 0;
        for _ in 0..be32(headers, 40) {
            found.push(record.header_bytes + at);
            at += 12 + usize::try_from(be32(data, at + 4)).unwrap();
        }
        found
    }

    pub(super) fn write(&self, disk: &mut [u8], record: &Record, bytes: &[u8]) {
        self.places(record).zip(bytes).for_each(|(at, byte)| disk[at] = *byte);
    }

    /// Puts the checksum of a record right, whatever its length says now.
    pub(super) fn seal(&self, disk: &mut [u8], record: &Record) {
        let mut bytes = self.read(disk, record);
        let (headers, data) = bytes.split_at(record.header_bytes);
        let mut crc = crc32c(u32::MAX, &[&headers[..32], &[0; 4], &headers[36..328]]);
        for header in headers.chunks(SECTOR).skip(1) {
            crc = crc32c(crc, &[&header[..260]]);
        }
        let crc = !crc32c(crc, &[data]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        self.write(disk, record, &bytes);
    }

    fn places(&self, record: &Record) -> impl Iterator<Item = usize> {
        let (start, len) = (self.start, self.len);
        let first = usize::try_from(record.sector()).unwrap() * SECTOR;
        (first..first + record.header_bytes + record.len).map(move |at| start + at % len)
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}
