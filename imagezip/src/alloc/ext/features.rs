//! The feature flags of ext, every one of them either known not to matter, known and handled, or a doubt.
//!
//! A flag that is not on the lists below is refused, whatever it means.

use super::ExtDoubt;
use super::raw::Raw;
use crate::alloc::bytes::{array, u8_at};
use crate::alloc::crc::{CRC16_START, CRC32C_START, crc16, crc32c};

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_RESIZE_INODE: u32 = 0x10;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
/// `dir_prealloc`, `imagic_inodes`, `has_journal`, `ext_attr`, `resize_inode`, `dir_index`, `sparse_super2`,
/// `fast_commit`, `stable_inodes`, `orphan_file`. Not: `lazy_bg`, the two of the snapshot patches.
const COMPAT_KNOWN: u32 =
    0x1 | 0x2 | COMPAT_HAS_JOURNAL | 0x8 | COMPAT_RESIZE_INODE | 0x20 | COMPAT_SPARSE_SUPER2 | 0x400 | 0x800 | 0x1000;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_MMP: u32 = 0x100;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
/// filetype, recover, `meta_bg`, extents, 64bit, mmp, `flex_bg`, `ea_inode`, `metadata_csum_seed`, `large_dir`,
/// `inline_data`, encrypt, casefold. Not: compression, `journal_dev`, dirdata.
const INCOMPAT_KNOWN: u32 = 0x2
    | INCOMPAT_RECOVER
    | INCOMPAT_META_BG
    | 0x40
    | INCOMPAT_64BIT
    | INCOMPAT_MMP
    | INCOMPAT_FLEX_BG
    | 0x400
    | INCOMPAT_CSUM_SEED
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
const RO_BIGALLOC: u32 = 0x200;
const RO_METADATA_CSUM: u32 = 0x400;
/// `sparse_super`, `large_file`, `btree_dir`, `huge_file`, `uninit_bg`, `dir_nlink`, `extra_isize`, quota, bigalloc,
/// `metadata_csum`, read-only, project, verity, `orphan_present` (inodes that wait for their removal still have
/// their blocks). Not: snapshot, replica, `shared_blocks`, where a bitmap is not the whole truth.
const RO_KNOWN: u32 = RO_SPARSE_SUPER
    | 0x2
    | 0x4
    | 0x8
    | RO_GDT_CSUM
    | 0x20
    | 0x40
    | 0x100
    | RO_BIGALLOC
    | RO_METADATA_CSUM
    | 0x1000
    | 0x2000
    | 0x8000
    | 0x1_0000;

/// Where the checksum of the superblock is.
const CHECKSUM_AT: usize = 0x3FC;
const CRC32C_TYPE: u8 = 1;

/// What protects the metadata, with what is mixed into every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    None,
    Descriptors { seed: u16 },
    All { seed: u32 },
}

/// Which groups begin with a copy of superblock and descriptors; group 0 always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// All.
    Every,
    /// 1 and the powers of 3, 5 and 7.
    Sparse,
    /// These two; 0 stands for none.
    Listed([u32; 2]),
}

impl Copies {
    /// Returns true if `group` has one.
    pub(crate) fn include(self, group: u32) -> bool {
        let is_power_of = |base: u32| {
            let mut power = base;
            while power < group {
                let Some(next) = power.checked_mul(base) else { return false };
                power = next;
            }
            power == group
        };
        group == 0
            || match self {
                Self::Every => true,
                Self::Sparse => group == 1 || is_power_of(3) || is_power_of(5) || is_power_of(7),
                Self::Listed(groups) => groups.contains(&group),
            }
    }
}

/// The three sets of flags, of which every one is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) revision: u32,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Features {
    pub(crate) fn parse(raw: &Raw<'_>) -> Result<Self, ExtDoubt> {
        let revision = raw.u32(0x4C)?;
        let (compat, incompat, ro_compat) = (raw.u32(0x5C)?, raw.u32(0x60)?, raw.u32(0x64)?);
        // Revision 0 has no feature flags; where they stand nothing may be.
        if revision > 1 || (revision == 0 && (compat | incompat | ro_compat) != 0) {
            return Err(ExtDoubt::Revision(revision));
        }
        for (set, known, what) in [
            (compat, COMPAT_KNOWN, "compat"),
            (incompat, INCOMPAT_KNOWN, "incompat"),
            (ro_compat, RO_KNOWN, "ro_compat"),
        ] {
            if set & !known != 0 {
                return Err(ExtDoubt::Feature { set: what, flags: set & !known });
            }
        }
        Ok(Self { revision, compat, incompat, ro_compat })
    }

    pub(crate) fn has_journal(self) -> bool {
        self.compat & COMPAT_HAS_JOURNAL != 0
    }

    pub(crate) fn is_resizable(self) -> bool {
        self.compat & COMPAT_RESIZE_INODE != 0
    }

    /// The journal has what is not in its place yet.
    pub(crate) fn needs_recovery(self) -> bool {
        self.incompat & INCOMPAT_RECOVER != 0
    }

    pub(crate) fn meta_bg(self) -> bool {
        self.incompat & INCOMPAT_META_BG != 0
    }

    pub(crate) fn is_64bit(self) -> bool {
        self.incompat & INCOMPAT_64BIT != 0
    }

    pub(crate) fn mmp(self) -> bool {
        self.incompat & INCOMPAT_MMP != 0
    }

    pub(crate) fn flex_bg(self) -> bool {
        self.incompat & INCOMPAT_FLEX_BG != 0
    }

    pub(crate) fn bigalloc(self) -> bool {
        self.ro_compat & RO_BIGALLOC != 0
    }

    /// Reads which groups have copies.
    pub(crate) fn copies(self, raw: &Raw<'_>) -> Result<Copies, ExtDoubt> {
        // The list overrules the older rule where both are declared.
        Ok(if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            Copies::Listed([raw.u32(0x24C)?, raw.u32(0x250)?])
        } else if self.ro_compat & RO_SPARSE_SUPER != 0 {
            Copies::Sparse
        } else {
            Copies::Every
        })
    }

    /// Reads what protects the metadata, and checks the superblock itself where it has a checksum.
    pub(crate) fn protection(self, raw: &Raw<'_>) -> Result<Protection, ExtDoubt> {
        let uuid: [u8; 16] = raw.get(array(raw.bytes(), 0x68))?;
        match (self.ro_compat & RO_METADATA_CSUM != 0, self.ro_compat & RO_GDT_CSUM != 0) {
            (true, true) => Err(ExtDoubt::TwoChecksums),
            (false, true) => Ok(Protection::Descriptors { seed: crc16(CRC16_START, &uuid) }),
            (false, false) => Ok(Protection::None),
            (true, false) => {
                let covered = raw.get(raw.bytes().get(..CHECKSUM_AT))?;
                let kind_known = raw.get(u8_at(raw.bytes(), 0x175))? == CRC32C_TYPE;
                if !kind_known || raw.u32(CHECKSUM_AT)? != crc32c(CRC32C_START, covered) {
                    return Err(ExtDoubt::SuperblockChecksum);
                }
                let seeded = self.incompat & INCOMPAT_CSUM_SEED != 0;
                let seed = if seeded { raw.u32(0x270)? } else { crc32c(CRC32C_START, &uuid) };
                Ok(Protection::All { seed })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_groups_have_copies() {
        let of = |copies: Copies| (0..130).filter(|group| copies.include(*group)).collect::<Vec<_>>();
        assert_eq!(of(Copies::Every).len(), 130);
        assert_eq!(of(Copies::Sparse), [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
        assert_eq!(of(Copies::Listed([1, 99])), [0, 1, 99]);
        assert_eq!(of(Copies::Listed([0, 0])), [0]);
        assert!(!Copies::Sparse.include(u32::MAX));
    }
}
