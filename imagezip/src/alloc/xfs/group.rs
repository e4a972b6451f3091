//! One allocation group: what it has free, and the proof.

use super::doubt::XfsDoubt;
use super::headers::Headers;
use super::tree::{Free, Order, Tree};
use super::view::View;
use crate::alloc::doubt::Stop;

/// A group whose headers and trees are in order; its free extents are still to be read.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    view: View<'a>,
    group: u32,
    headers: Headers,
    by_block: Tree,
    by_size: Tally,
    /// Blocks that cannot be free, in order.
    in_use: Vec<u32>,
}

/// What a tree has, to be compared with another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    blocks: u64,
    longest: u32,
    extents: u64,
    /// A sum of something that depends on the whole of each extent, and on no order.
    mixed: u64,
}

impl Tally {
    fn add(&mut self, free: Free) {
        self.blocks = self.blocks.saturating_add(u64::from(free.blocks));
        self.longest = self.longest.max(free.blocks);
        self.extents = self.extents.saturating_add(1);
        self.mixed = self.mixed.wrapping_add(mix((u64::from(free.first) << 32) | u64::from(free.blocks)));
    }
}

/// Spreads a number over all bits (the finish of MurmurHash3).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

impl<'a> Group<'a> {
    /// Reads the headers of a group, all of the tree by size, and the tree by block but its leaves.
    pub(crate) fn open(view: View<'a>, group: u32) -> Result<Self, Stop> {
        let headers = Headers::read(&view, group)?;
        let by_block = Tree::read(&view, group, Order::Block, headers.by_block)?;
        let tree = Tree::read(&view, group, Order::Size, headers.by_size)?;
        let mut by_size = Tally::default();
        for free in tree.records(&view) {
            by_size.add(free?);
        }
        let own = (by_block.len() + tree.len()).saturating_sub(2);
        let reverse_maps = headers.reverse_map_blocks.saturating_sub(1);
        let own = u64::try_from(own).unwrap_or(u64::MAX).saturating_add(u64::from(reverse_maps));
        // Who does not count lazily does not keep this number.
        if view.superblock.lazy {
            same(group, "blocks of trees", own, headers.tree_blocks.into())?;
        }
        let mut in_use: Vec<u32> =
            by_block.blocks().chain(tree.blocks()).chain(headers.set_aside.iter().copied()).collect();
        let (root_group, root) = view.superblock.root;
        in_use.extend((root_group == group).then_some(root));
        in_use.sort_unstable();
        Ok(Self { view, group, headers, by_block, by_size, in_use })
    }

    /// Reads all free extents in order, and proves them at their end: nothing before that is to be believed.
    pub(crate) fn prove(&self, mut each: impl FnMut(Free)) -> Result<(), Stop> {
        let log = &self.view.superblock.log;
        let mut in_use = self.in_use.iter().copied().peekable();
        let mut tally = Tally::default();
        for free in self.by_block.records(&self.view) {
            let free = free?;
            while in_use.next_if(|block| *block < free.first).is_some() {}
            let used = in_use.peek().copied().filter(|block| *block < free.end());
            let in_log =
                log.group == self.group && free.first < log.first.saturating_add(log.blocks) && log.first < free.end();
            if let Some(block) = used.or(in_log.then_some(log.first)) {
                return Err(XfsDoubt::InUse { group: self.group, block }.into());
            }
            tally.add(free);
            each(free);
        }
        same(self.group, "free blocks", tally.blocks, self.headers.free_blocks.into())?;
        same(self.group, "blocks in its longest free extent", tally.longest.into(), self.headers.longest.into())?;
        if tally == self.by_size { Ok(()) } else { Err(XfsDoubt::TreesDiffer { group: self.group }.into()) }
    }

    /// Returns the free extents in order once more.
    pub(crate) fn free(&'a self) -> impl Iterator<Item = Result<Free, Stop>> + 'a {
        self.by_block.records(&self.view)
    }

    /// Returns the number of blocks that the superblock counts as free: those set aside and those of trees too.
    pub(crate) fn counted_free(&self) -> u64 {
        let trees = if self.view.superblock.lazy { u64::from(self.headers.tree_blocks) } else { 0 };
        let set_aside = u64::try_from(self.headers.set_aside.len()).unwrap_or(u64::MAX);
        u64::from(self.headers.free_blocks).saturating_add(trees).saturating_add(set_aside)
    }
}

fn same(group: u32, what: &'static str, found: u64, stated: u64) -> Result<(), XfsDoubt> {
    if found == stated { Ok(()) } else { Err(XfsDoubt::GroupCount { group, what, found, stated }) }
}
