//! The seam between a disk and what it knows of file systems, and the one place where they are tried.

use std::fmt;

use serde::{Deserialize, Serialize};
use sigs::{BlockSize, ByteLen, ByteRange};

use super::content::{self, Content};
use super::doubt::{Doubt, Stop, SurveyError};
use super::ext::Ext;
use super::swap::Swap;
use super::table::{Kind, Purpose};
use super::window::Window;

/// Knowledge of one kind of file system: what it has allocated, proven when the value was made.
pub trait FileSystem: fmt::Debug {
    /// Returns what the file system is.
    fn name(&self) -> Content;

    /// Returns why its answer is to be believed.
    fn evidence(&self) -> Evidence;

    /// Returns what is allocated, in disk order, in bytes from the start of the partition. Whatever of the
    /// partition is not proven free is in it: boot areas and the space behind the file system too.
    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_>;
}

/// Why an answer about free space is to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Evidence {
    /// The bitmaps of an ext file system agree with its descriptors, and those with the superblock.
    ExtBitmaps {
        /// What protects them besides the counts.
        checksums: Checksums,
        /// The size of a block of the file system.
        block_size: BlockSize,
        /// How many block groups there are.
        groups: u64,
        /// How many of them have no bitmap yet, only metadata.
        uninit_groups: u64,
        /// How much is free.
        free: ByteLen,
    },
    /// A plain swap header: what is in swap space does not survive a reboot.
    SwapHeader {
        /// The size of a page.
        page_size: BlockSize,
        /// How much is free.
        free: ByteLen,
    },
}

/// Which parts of an ext file system carry valid checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksums {
    /// None, the format has none: counts only.
    None,
    /// The descriptors (`uninit_bg`).
    Descriptors,
    /// Superblock, descriptors and bitmaps (`metadata_csum`).
    All,
}

/// What was found in a partition.
#[derive(Debug)]
pub(crate) enum Probed {
    /// A file system that proved what is free.
    Proven(Box<dyn FileSystem>),
    /// Anything else.
    Doubted(Content, Doubt),
}

/// Looks for the one owner of a partition of the given kind.
pub(crate) fn probe(window: &Window<'_>, kind: &Kind) -> Result<Probed, SurveyError> {
    let mut owners = content::foreign(window)?;
    let ext = content::ext_claim(&window.fetch(super::ext::SUPERBLOCK_AT, 1024)?);
    let swap = super::swap::claims(window)?;
    owners.extend(ext);
    owners.extend(swap.then_some(Content::Swap));

    let owner = match owners.as_slice() {
        [] => return Ok(Probed::Doubted(Content::Unknown, Doubt::Unknown)),
        [owner] => *owner,
        [first, second, ..] => {
            let doubt = Doubt::Several { first: *first, second: *second };
            return Ok(Probed::Doubted(Content::Several, doubt));
        }
    };
    let read = match (owner, kind.purpose) {
        (Content::Ext2 | Content::Ext3 | Content::Ext4, Purpose::Linux) => Ext::read(window).map(boxed),
        (Content::Swap, Purpose::Linux | Purpose::Swap) => Swap::read(window).map(boxed),
        (Content::Ext2 | Content::Ext3 | Content::Ext4 | Content::Swap, _) => {
            Err(Stop::Doubt(Doubt::Kind { kind: kind.name.clone(), content: owner }))
        }
        (other, _) => Err(Stop::Doubt(Doubt::NotRead(other))),
    };
    match read {
        Ok(file_system) => Ok(Probed::Proven(file_system)),
        Err(Stop::Doubt(doubt)) => Ok(Probed::Doubted(owner, doubt)),
        Err(Stop::Read(error)) => Err(error),
    }
}

fn boxed(file_system: impl FileSystem + 'static) -> Box<dyn FileSystem> {
    Box::new(file_system)
}
