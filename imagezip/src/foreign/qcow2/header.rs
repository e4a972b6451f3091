//! The header: how the disk is cut, where the first table is, and what this reader refuses.

use sigs::ByteLen;
use sigs::map::MAX_DISK_BYTES;

use super::codec::Compression;
use super::{COMPRESSION_TYPE, CORRUPT, DATA_FILE, DIRTY, EXTENDED_L2, MAGIC, OFFSET_MASK};

/// How many bytes of the file the header is read from. Version 2 uses 72 of them, version 3 as many as it says.
pub(super) const HEADER_BYTES: u64 = 112;
/// The header of version 2.
const V2_BYTES: usize = 72;
/// The header of version 3 without a compression type.
const V3_BYTES: u32 = 104;
/// The largest L1 table that is read, as in QEMU.
const MAX_L1_BYTES: u64 = 32 << 20;

/// Why a file is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("it is too short for a qcow2 header")]
    Short,
    #[error("it does not begin like a qcow2 file")]
    Magic,
    #[error("it is of version {0}; 2 and 3 are read")]
    Version(u32),
    #[error("its header contradicts itself: {0}")]
    Header(&'static str),
    #[error(
        "it needs a backing file, and no name inside a file is followed: \
         flatten it with `qemu-img convert -O qcow2` and import that"
    )]
    BackingFile,
    #[error("it is encrypted: decrypt it with `qemu-img convert` and import that")]
    Encrypted,
    #[error("it was not closed properly: repair it with `qemu-img check -r leaks` first")]
    Dirty,
    #[error("it is marked as corrupt: repair it with `qemu-img check -r all` first")]
    Corrupt,
    #[error("its data lies in another file, and no name inside a file is followed: convert it with `qemu-img convert`")]
    DataFile,
    #[error("it has features that are not known here (incompatible bits {0:#x})")]
    Features(u64),
    #[error("its clusters are compressed by method {0}, which is not known here")]
    Compression(u8),
    #[error("its disk of {0} bytes is larger than what is accepted")]
    DiskSize(u64),
    #[error("the table at offset {0} lies outside of the file or is not aligned")]
    Table(u64),
    #[error("the entry for offset {offset} of the disk is wrong: {reason}")]
    Entry { offset: u64, reason: &'static str },
    #[error("its tables name more clusters than the file has: some are used twice")]
    UsedTwice,
}

impl Refused {
    /// Returns true when the file is damaged, and false when it is of a kind that is not read.
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Version(_)
            | Self::BackingFile
            | Self::Encrypted
            | Self::DataFile
            | Self::Features(_)
            | Self::Compression(_)
            | Self::DiskSize(_) => false,
            Self::Short
            | Self::Magic
            | Self::Header(_)
            | Self::Dirty
            | Self::Corrupt
            | Self::Table(_)
            | Self::Entry { .. }
            | Self::UsedTwice => true,
        }
    }
}

/// What the header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster_bits: u32,
    pub(super) disk_bytes: ByteLen,
    pub(super) l1_offset: u64,
    /// As many as the disk needs, which may be fewer than the file has.
    pub(super) l1_entries: u64,
    pub(super) compression: Compression,
    pub(super) extended_l2: bool,
    pub(super) version: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Refused> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|raw| u32::from_be_bytes(*raw)).ok_or(Refused::Short)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Refused> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|raw| u64::from_be_bytes(*raw)).ok_or(Refused::Short)
}

impl Header {
    /// Parses the first bytes of a file of `file_bytes`.
    pub(super) fn parse(bytes: &[u8], file_bytes: ByteLen) -> Result<Self, Refused> {
        if u32_at(bytes, 0)? != MAGIC {
            return Err(Refused::Magic);
        }
        let version = u32_at(bytes, 4)?;
        if bytes.len() < V2_BYTES {
            return Err(Refused::Short);
        }
        let (features, compression) = match version {
            2 => (0, Compression::Deflate),
            3 => features(bytes)?,
            other => return Err(Refused::Version(other)),
        };
        if u64_at(bytes, 8)? != 0 || u32_at(bytes, 16)? != 0 {
            return Err(Refused::BackingFile);
        }
        if u32_at(bytes, 32)? != 0 {
            return Err(Refused::Encrypted);
        }
        let extended_l2 = features & EXTENDED_L2 != 0;
        let cluster_bits = u32_at(bytes, 20)?;
        let fewest = if extended_l2 { 14 } else { 9 };
        if !(fewest..=21).contains(&cluster_bits) {
            return Err(Refused::Header("the cluster size is none that QEMU uses"));
        }
        let disk_bytes = u64_at(bytes, 24)?;
        if disk_bytes > MAX_DISK_BYTES {
            return Err(Refused::DiskSize(disk_bytes));
        }
        let mut header = Self {
            cluster_bits,
            disk_bytes: ByteLen::new(disk_bytes),
            l1_offset: u64_at(bytes, 40)?,
            l1_entries: 0,
            compression,
            extended_l2,
            version,
        };
        header.l1_entries = disk_bytes.div_ceil(header.cluster_bytes() * header.l2_entries());
        header.check_l1(u64::from(u32_at(bytes, 36)?), file_bytes)?;
        Ok(header)
    }

    fn check_l1(&self, stored: u64, file_bytes: ByteLen) -> Result<(), Refused> {
        if stored < self.l1_entries {
            return Err(Refused::Header("the L1 table is too short for the disk"));
        }
        let len = self.l1_entries * 8;
        if len > MAX_L1_BYTES {
            return Err(Refused::DiskSize(self.disk_bytes.get()));
        }
        if len == 0 {
            return Ok(());
        }
        let end = self.l1_offset.checked_add(len).filter(|end| *end <= file_bytes.get());
        let aligned = self.l1_offset.is_multiple_of(self.cluster_bytes()) && self.l1_offset & !OFFSET_MASK == 0;
        if end.is_none() || !aligned || self.l1_offset == 0 {
            return Err(Refused::Table(self.l1_offset));
        }
        Ok(())
    }

    /// Returns the size of a cluster: 512 bytes to 2 MiB.
    pub(super) const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns the size of an L2 entry.
    pub(super) const fn entry_bytes(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Returns how many entries an L2 table has.
    pub(super) const fn l2_entries(&self) -> u64 {
        self.cluster_bytes() / self.entry_bytes()
    }
}

/// Returns the incompatible features of version 3 and how clusters are compressed, where all of it is known.
fn features(bytes: &[u8]) -> Result<(u64, Compression), Refused> {
    let features = u64_at(bytes, 72)?;
    let length = u32_at(bytes, 100)?;
    if length < V3_BYTES || !length.is_multiple_of(8) {
        return Err(Refused::Header("its length"));
    }
    match features {
        _ if features & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2) != 0 => {
            return Err(Refused::Features(features));
        }
        _ if features & CORRUPT != 0 => return Err(Refused::Corrupt),
        _ if features & DIRTY != 0 => return Err(Refused::Dirty),
        _ if features & DATA_FILE != 0 => return Err(Refused::DataFile),
        _ => {}
    }
    let kind = if length > V3_BYTES { *bytes.get(104).ok_or(Refused::Short)? } else { 0 };
    let compression = match kind {
        0 => Compression::Deflate,
        1 => Compression::Zstd,
        other => return Err(Refused::Compression(other)),
    };
    if (kind != 0) != (features & COMPRESSION_TYPE != 0) {
        return Err(Refused::Header("the compression type and its feature bit"));
    }
    Ok((features, compression))
}
