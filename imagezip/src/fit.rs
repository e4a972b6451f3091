//! A state on a disk of another size: whether it fits, and what has to be made anew.
//!
//! A larger disk takes every state. A smaller one takes it when a partition table that is believed says that no
//! partition would be cut, and no DATA block lies past its end; ZERO blocks there have no content to lose. A disk without
//! such a table is one partition, which is never cut. A valid backup GPT is no content: it is made anew at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Serialize, Serializer};
use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange};

use crate::alloc::doubt::SurveyError;
use crate::alloc::table::backup::Patch;
use crate::image::{Chain, Content, Verified};

mod disk_end;
mod view;

use disk_end::DiskEnd;
pub(crate) use disk_end::least_bytes;
use view::View;

/// What was made anew for a disk of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixUpKind {
    /// The backup GPT, at the end of the disk.
    BackupGpt,
    /// The place of the backup GPT in the state became zeros.
    OldBackupGpt,
    /// The number of sectors in the protective MBR.
    ProtectiveMbr,
    /// The primary GPT header: where the backup is, and the last usable sector.
    PrimaryGpt,
}

impl std::fmt::Display for FixUpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BackupGpt => "the backup GPT",
            Self::OldBackupGpt => "zeros where the backup GPT was",
            Self::ProtectiveMbr => "the size in the protective MBR",
            Self::PrimaryGpt => "the header of the primary GPT",
        })
    }
}

/// Something that was made anew, and where it lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixUp {
    /// What.
    pub kind: FixUpKind,
    /// Where.
    pub range: ByteRange,
}

impl Serialize for FixUp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat {
            what: FixUpKind,
            start: ByteOffset,
            len: ByteLen,
        }
        Flat { what: self.kind, start: self.range.start, len: self.range.len }.serialize(serializer)
    }
}

/// Why a state does not fit a disk.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// A partition, or the table, would be cut, or the image asks for more.
    #[error("the disk has {found} bytes, this state needs at least {least}")]
    TooSmall {
        /// The disk.
        found: ByteLen,
        /// The least size.
        least: ByteLen,
    },
    /// A block with content lies past the end.
    #[error("block {block} at offset {offset} has content and would lie past what a disk of {found} bytes can hold")]
    Data {
        /// The first such block.
        block: BlockIndex,
        /// Where it begins.
        offset: ByteOffset,
        /// The disk.
        found: ByteLen,
    },
    /// The partition table is valid only at the end of a disk of the same size.
    #[error("of its GPT only the backup is valid, which counts only at the end of a disk of exactly {expected} bytes")]
    OnlyBackup {
        /// The size.
        expected: ByteLen,
    },
    /// The image cannot be read.
    #[error("read the partition table in the image")]
    Read(#[source] io::Error),
}

/// How a state lies on a disk of a certain size.
#[derive(Clone, Debug, Default)]
pub struct Fit {
    disk_bytes: ByteLen,
    /// Blocks whose content on the disk is not that of the state.
    made: BTreeMap<u64, Vec<u8>>,
    /// The content in the state of DATA blocks that are made anew or past the end.
    states: BTreeMap<u64, Vec<u8>>,
    fix_ups: Vec<FixUp>,
}

impl Fit {
    /// Finds out how a state lies on a disk of `disk_bytes`.
    ///
    /// # Errors
    /// [`Misfit`] when it does not.
    pub fn new(chain: &Chain<Verified>, disk_bytes: ByteLen) -> Result<Self, Misfit> {
        let geometry = *chain.geometry();
        let mut fit = Self { disk_bytes, ..Self::default() };
        if disk_bytes == geometry.disk_bytes {
            return Ok(fit);
        }
        let view = View::new(chain);
        let end = DiskEnd::of(&view, geometry.sector_size)
            .map_err(|SurveyError::Read { source, .. }| Misfit::Read(source))?;
        if end.only_backup {
            return Err(Misfit::OnlyBackup { expected: geometry.disk_bytes });
        }
        // In format 1 it was the end of the last block that is not FREE.
        let stated = if chain.manifest().bad_sectors.is_some() { chain.manifest().min_disk_bytes.get() } else { 0 };
        let least = ByteLen::new(end.least(0).max(stated));
        if disk_bytes < least {
            return Err(Misfit::TooSmall { found: disk_bytes, least });
        }
        let derived = end.derived_blocks(&view, &geometry).map_err(Misfit::Read)?;
        fit.drop_past_the_end(&view, &derived)?;
        let patches = end.backup.as_ref().map_or_else(Vec::new, |backup| backup.patches(disk_bytes.get()));
        for patch in patches {
            fit.apply(&view, patch)?;
        }
        Ok(fit)
    }

    /// Returns the size of the disk.
    pub const fn disk_bytes(&self) -> ByteLen {
        self.disk_bytes
    }

    /// Returns what has to be made anew.
    pub fn fix_ups(&self) -> &[FixUp] {
        &self.fix_ups
    }

    /// Returns the blocks whose content on the disk is not that of the state, and that content.
    pub(crate) fn made(&self) -> impl Iterator<Item = (BlockIndex, &[u8])> {
        self.made.iter().map(|(block, content)| (BlockIndex::new(*block), content.as_slice()))
    }

    /// Returns true for a block that is made anew.
    pub(crate) fn makes(&self, block: u64) -> bool {
        self.made.contains_key(&block)
    }

    /// Returns the content that a block has in the state and not on the disk.
    pub(crate) fn state_of(&self, block: BlockIndex) -> Option<&[u8]> {
        self.states.get(&block.get()).map(Vec::as_slice)
    }

    /// Returns the part of a range that is on the disk.
    pub(crate) fn clip(&self, range: ByteRange) -> Option<ByteRange> {
        let end = range.checked_end()?.get().min(self.disk_bytes.get());
        ByteRange::between(range.start, ByteOffset::new(end)).filter(|range| !range.len.is_zero())
    }

    /// Refuses DATA blocks past the end, but those that are derived.
    fn drop_past_the_end(&mut self, view: &View<'_>, derived: &BTreeSet<u64>) -> Result<(), Misfit> {
        let plan = view.chain.plan();
        let geometry = plan.geometry();
        let size = u64::from(geometry.block_size.bytes());
        let from = BlockIndex::new(self.disk_bytes.get() / size);
        for run in plan.runs_in(from, BlockIndex::new(geometry.blocks().get())) {
            let Content::Frame { .. } = run.content else { continue };
            let end = run.first.get().saturating_add(run.blocks.get());
            for block in run.first.get()..end {
                let Some((offset, len)) = geometry.block_range(BlockIndex::new(block)) else { continue };
                if offset.get().saturating_add(len.get()) <= self.disk_bytes.get() {
                    continue;
                }
                if !derived.contains(&block) {
                    return Err(Misfit::Data { block: BlockIndex::new(block), offset, found: self.disk_bytes });
                }
                self.states.insert(block, view.block(block).map_err(Misfit::Read)?);
            }
        }
        Ok(())
    }

    /// Lays a patch over the blocks it touches.
    fn apply(&mut self, view: &View<'_>, patch: Patch) -> Result<(), Misfit> {
        let geometry = view.chain.geometry();
        let size = u64::from(geometry.block_size.bytes());
        let Patch { fix_up, bytes } = patch;
        let start = fix_up.range.start.get();
        let end = start.saturating_add(fix_up.range.len.get());
        for block in start / size..end.div_ceil(size) {
            let first = block.saturating_mul(size);
            if !self.made.contains_key(&block) {
                let mut content = view.block(block).map_err(Misfit::Read)?;
                if view.is_data(block) {
                    self.states.insert(block, content.clone());
                }
                let len = self.disk_bytes.get().saturating_sub(first).min(size);
                content.resize(ByteLen::new(len).to_usize().unwrap_or(0), 0);
                self.made.insert(block, content);
            }
            let Some(content) = self.made.get_mut(&block) else { continue };
            let (from, to) = (start.max(first), end.min(first.saturating_add(size)));
            let index = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
            let there = content.get_mut(index(from - first)..index(to - first));
            let Some((there, new)) = there.zip(bytes.get(index(from - start)..index(to - start))) else { continue };
            // The backup goes where nothing is, its own old place included: that was cleared before.
            if fix_up.kind == FixUpKind::BackupGpt && there.iter().any(|byte| *byte != 0) {
                let offset = ByteOffset::new(first);
                return Err(Misfit::Data { block: BlockIndex::new(block), offset, found: self.disk_bytes });
            }
            there.copy_from_slice(new);
        }
        self.fix_ups.push(fix_up);
        Ok(())
    }
}
