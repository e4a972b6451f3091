//! How often each cluster of a file is used, written while the file grows.
//!
//! A refcount block of 16-bit counts covers half as many clusters as a cluster has bytes: its *span*. The block of
//! each span is the second cluster of it, so its place is known before it is written, and only one block is in memory:
//! that of the span that is being filled. Nothing is ever added to a span that was left.

use super::index;

/// The counts of the span being filled, and where the blocks of all spans are.
#[derive(Debug)]
pub(super) struct Refcounts {
    cluster_bytes: u64,
    span: u64,
    counts: Vec<u16>,
}

/// A refcount block that is complete: where it goes, and its bytes.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) cluster: u64,
    pub(super) bytes: Vec<u8>,
}

impl Refcounts {
    pub(super) fn new(cluster_bytes: u64) -> Self {
        let mut refcounts = Self { cluster_bytes, span: 0, counts: Vec::new() };
        refcounts.begin(0);
        refcounts
    }

    /// Returns how many clusters one block covers.
    pub(super) const fn span_clusters(&self) -> u64 {
        self.cluster_bytes / 2
    }

    /// Returns true for the clusters that hold refcount blocks.
    pub(super) const fn is_reserved(&self, cluster: u64) -> bool {
        cluster % self.span_clusters() == 1
    }

    /// Returns how many spans a file has whose clusters from this one on are not used.
    pub(super) const fn spans(&self, end: u64) -> u64 {
        end.div_ceil(self.span_clusters())
    }

    /// Returns where the block of a span is.
    pub(super) const fn block_of(&self, span: u64) -> u64 {
        span * self.span_clusters() + 1
    }

    /// Counts one more use of a cluster. Returns the block of a span that is thereby left.
    ///
    /// Clusters come in order, some of them several times in a row.
    pub(super) fn add(&mut self, cluster: u64) -> Vec<Block> {
        let span = cluster / self.span_clusters();
        let mut left = Vec::new();
        while self.span < span {
            left.push(self.block());
            self.begin(self.span + 1);
        }
        let at = index(cluster % self.span_clusters());
        if let Some(uses) = self.counts.get_mut(at) {
            // More than 65535 compressed clusters do not fit into one of at most 2 MiB: each has more than 32 bytes.
            *uses = uses.saturating_add(1);
        }
        left
    }

    /// Returns the block of the span being filled.
    pub(super) fn block(&self) -> Block {
        let bytes = self.counts.iter().flat_map(|uses| uses.to_be_bytes()).collect();
        Block { cluster: self.block_of(self.span), bytes }
    }

    fn begin(&mut self, span: u64) {
        self.span = span;
        self.counts = vec![0; index(self.span_clusters())];
        self.counts[1] = 1;
    }
}
