//! Whether an ext file system was left in order: the one place where that is decided.

use super::ExtDoubt;
use super::features::Features;
use super::raw::Raw;

/// Unmounted, and nothing ever went wrong.
const STATE_CLEAN: u16 = 1;

/// Where the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    /// There is none.
    None,
    /// In an inode: 8, or that of a file when it was added to a mounted file system.
    Inode(u32),
    /// On another device.
    Device,
}

/// How the file system was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    marks: u16,
    errors: u32,
    needs_recovery: bool,
    pub(crate) journal: Journal,
}

impl State {
    pub(crate) fn parse(raw: &Raw<'_>, features: Features) -> Result<Self, ExtDoubt> {
        let journal = match (features.has_journal(), raw.u32(0xE0)?, raw.u32(0xE4)?) {
            (false, _, _) => Journal::None,
            (true, 0, _) => Journal::Device,
            (true, inode, 0) if inode <= raw.u32(0x00)? => Journal::Inode(inode),
            // One that is here and elsewhere is refused by Linux, too.
            (true, _, _) => return Err(ExtDoubt::OtherJournal),
        };
        Ok(Self { marks: raw.u16(0x3A)?, errors: raw.u32(0x194)?, needs_recovery: features.needs_recovery(), journal })
    }

    /// Returns true if the journal has what is not in its place yet.
    pub(crate) const fn needs_recovery(self) -> bool {
        self.needs_recovery
    }

    /// Refuses a file system that is not in order, its journal aside.
    ///
    /// One with a journal stays marked as clean while it is mounted. Recorded errors count although the counts may be
    /// right: what Linux found wrong may be a bitmap that lost a block, and no count can tell until e2fsck compared the
    /// bitmaps with the inodes and cleared the record.
    pub(crate) fn require_consistent(self) -> Result<(), ExtDoubt> {
        if self.marks != STATE_CLEAN {
            return Err(ExtDoubt::Unclean { state: self.marks });
        }
        if self.errors != 0 {
            return Err(ExtDoubt::Errors(self.errors));
        }
        Ok(())
    }
}
