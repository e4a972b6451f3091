//! What can be recognised in a partition by its magic, understood or not.
//!
//! The list is long on purpose. Most of these are never read further, but a new owner often leaves the
//! superblock of the old one in place (an md member, a ZFS or UFS label, a LUKS header and a GPT all fit around
//! an ext superblock at byte 1024). Believing a stale superblock would lose the data of the new owner.

use std::fmt;

use serde::{Deserialize, Serialize};
use sigs::ByteRange;

use super::bytes::{has, u16_at, u32_at};
use super::doubt::SurveyError;
use super::table::mbr;
use super::window::Window;

/// What is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it, and Display has the spelling")]
pub enum Content {
    Ext2,
    Ext3,
    Ext4,
    /// A journal of ext3 or ext4 that has a device of its own.
    ExtJournal,
    Swap,
    Luks,
    Lvm2,
    Xfs,
    Btrfs,
    Ntfs,
    Fat,
    Exfat,
    Bitlocker,
    Md,
    Zfs,
    Bcache,
    Ufs,
    Reiserfs,
    Jfs,
    F2fs,
    Iso9660,
    Vmfs,
    Refs,
    Udf,
    Ocfs2,
    Gfs2,
    Reiser4,
    Bcachefs,
    /// A disk of Oracle ASM.
    Asm,
    /// Hashes of another device.
    Verity,
    Vdo,
    BsdLabel,
    /// A partition table inside the partition, or one on a disk that looks like a bare file system.
    PartitionTable,
    /// Marks of several of these, so that it is not known which is current.
    Several,
    Unknown,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::ExtJournal => "an ext journal",
            Self::Swap => "swap",
            Self::Luks => "LUKS",
            Self::Lvm2 => "LVM2",
            Self::Xfs => "XFS",
            Self::Btrfs => "btrfs",
            Self::Ntfs => "NTFS",
            Self::Fat => "FAT",
            Self::Exfat => "exFAT",
            Self::Bitlocker => "BitLocker",
            Self::Md => "Linux RAID",
            Self::Zfs => "ZFS",
            Self::Bcache => "bcache",
            Self::Ufs => "UFS",
            Self::Reiserfs => "ReiserFS",
            Self::Jfs => "JFS",
            Self::F2fs => "F2FS",
            Self::Iso9660 => "ISO 9660",
            Self::Vmfs => "VMFS",
            Self::Refs => "ReFS",
            Self::Udf => "UDF",
            Self::Ocfs2 => "OCFS2",
            Self::Gfs2 => "GFS2",
            Self::Reiser4 => "Reiser4",
            Self::Bcachefs => "bcachefs",
            Self::Asm => "Oracle ASM",
            Self::Verity => "dm-verity",
            Self::Vdo => "VDO",
            Self::BsdLabel => "a BSD disklabel",
            Self::PartitionTable => "a partition table",
            Self::Several => "several things",
            Self::Unknown => "nothing known",
        })
    }
}

/// Magic numbers at fixed places, in bytes from the start of the partition.
const MAGICS: &[(Content, u64, &[u8])] = &[
    (Content::Luks, 0, b"LUKS\xba\xbe"),
    (Content::Luks, 16384, b"SKUL\xba\xbe"),
    (Content::Lvm2, 0, b"LABELONE"),
    (Content::Lvm2, 512, b"LABELONE"),
    (Content::Lvm2, 1024, b"LABELONE"),
    (Content::Lvm2, 1536, b"LABELONE"),
    (Content::Xfs, 0, b"XFSB"),
    (Content::Btrfs, 65536 + 64, b"_BHRfS_M"),
    (Content::Ntfs, 3, b"NTFS    "),
    (Content::Exfat, 3, b"EXFAT   "),
    (Content::Bitlocker, 3, b"-FVE-FS-"),
    (Content::Fat, 54, b"FAT12   "),
    (Content::Fat, 54, b"FAT16   "),
    (Content::Fat, 82, b"FAT32   "),
    (Content::Md, 0, MD_MAGIC),
    (Content::Md, 4096, MD_MAGIC),
    (Content::Bcache, 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    (Content::Ufs, 8192 + 1372, b"\x54\x19\x01\x00"),
    (Content::Ufs, 65536 + 1372, b"\x19\x01\x54\x19"),
    (Content::Ufs, 262_144 + 1372, b"\x19\x01\x54\x19"),
    (Content::Reiserfs, 65536 + 52, b"ReIsEr"),
    (Content::Reiserfs, 8192 + 52, b"ReIsEr"),
    (Content::Jfs, 32768, b"JFS1"),
    (Content::F2fs, 1024, b"\x10\x20\xf5\xf2"),
    (Content::Iso9660, 32769, b"CD001"),
    (Content::Vmfs, 1 << 20, b"\x0d\xd0\x01\xc0"),
    (Content::Refs, 3, b"ReFS\0\0\0\0"),
    (Content::Udf, 32769, b"BEA01"),
    // In the third block, whatever its size.
    (Content::Ocfs2, 1024, b"OCFSV2"),
    (Content::Ocfs2, 2048, b"OCFSV2"),
    (Content::Ocfs2, 4096, b"OCFSV2"),
    (Content::Ocfs2, 8192, b"OCFSV2"),
    (Content::Gfs2, 65536, b"\x01\x16\x19\x70\0\0\0\x01"),
    (Content::Reiser4, 65536, b"ReIsEr4"),
    (Content::Bcachefs, 4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    (Content::Asm, 32, b"ORCLDISK"),
    (Content::Verity, 0, b"verity\0\0"),
    (Content::Vdo, 0, b"dmvdo001"),
    (Content::BsdLabel, 0, BSD_MAGIC),
    (Content::BsdLabel, 512, BSD_MAGIC),
    (Content::PartitionTable, 512, b"EFI PART"),
    (Content::PartitionTable, 4096, b"EFI PART"),
];

const MD_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
const BSD_MAGIC: &[u8] = b"\x57\x45\x56\x82";
const ZFS_UBERBLOCKS: u64 = 128 << 10;
const ZFS_UBERBLOCKS_LEN: u64 = 128 << 10;
const ZFS_MAGIC: u32 = 0x00ba_b10c;

/// Returns every owner other than ext and swap whose mark is in the window, each once.
pub(crate) fn foreign(window: &Window<'_>) -> Result<Vec<Content>, SurveyError> {
    let mut found = foreign_at_start(window)?;
    if !md_at_end(window)?.is_empty() && !found.contains(&Content::Md) {
        found.push(Content::Md);
    }
    // The boot code of FAT and NTFS stands where a partition table would.
    if found.is_empty() && mbr::fills_table(&window.fetch(0, 512)?) {
        found.push(Content::PartitionTable);
    }
    Ok(found)
}

/// Returns every owner other than ext and swap whose mark is at its start, each once.
pub(crate) fn foreign_at_start(window: &Window<'_>) -> Result<Vec<Content>, SurveyError> {
    let mut found = Vec::new();
    for (content, offset, magic) in MAGICS {
        let bytes = window.fetch(*offset, u64::try_from(magic.len()).unwrap_or(0))?;
        if has(&bytes, 0, magic) && !found.contains(content) {
            found.push(*content);
        }
    }
    if is_zfs(window)? {
        found.push(Content::Zfs);
    }
    Ok(found)
}

/// Returns what the superblock at byte 1024 claims to be: a name for reports, not a proof.
pub(crate) fn ext_claim(superblock: &[u8]) -> Option<Content> {
    if u16_at(superblock, 0x38)? != 0xEF53 {
        return None;
    }
    let compat = u32_at(superblock, 0x5C)?;
    let incompat = u32_at(superblock, 0x60)?;
    let ro_compat = u32_at(superblock, 0x64)?;
    // What ext3 knows: filetype, recover, journal_dev, meta_bg; sparse_super, large_file, btree_dir.
    Some(if incompat & 0x8 != 0 {
        Content::ExtJournal
    } else if incompat & !0x1E != 0 || ro_compat & !0x7 != 0 {
        Content::Ext4
    } else if compat & 0x4 != 0 {
        Content::Ext3
    } else {
        Content::Ext2
    })
}

/// Returns where on the underlying disk versions 0.90 and 1.0 of the md superblock stand: at the end of a member.
pub(crate) fn md_at_end(window: &Window<'_>) -> Result<Vec<u64>, SurveyError> {
    let ByteRange { start, len } = window.range();
    let v0 = (len.get() & !0xFFFF).checked_sub(0x1_0000);
    let v1 = (len.get() / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    let mut found = Vec::new();
    for offset in [v0, v1].into_iter().flatten() {
        if has(&window.fetch(offset, 4)?, 0, MD_MAGIC) {
            found.push(start.get().saturating_add(offset));
        }
    }
    Ok(found)
}

/// The first label of a ZFS device holds a ring of uberblocks; some are never written, so all are looked at.
fn is_zfs(window: &Window<'_>) -> Result<bool, SurveyError> {
    let ring = window.fetch(ZFS_UBERBLOCKS, ZFS_UBERBLOCKS_LEN)?;
    Ok(ring.chunks(1024).any(|uberblock| {
        // Written in the byte order of the machine.
        let little = u32_at(uberblock, 0) == Some(ZFS_MAGIC) && u32_at(uberblock, 4) == Some(0);
        let big = has(uberblock, 0, &[0, 0, 0, 0, 0x00, 0xba, 0xb1, 0x0c]);
        little || big
    }))
}
