//! A file written in one go: clusters in disk order, each L2 table after the clusters it names, the header last.
//!
//! Memory: one L2 table, one refcount block, the L1 table (128 KiB for a disk of 1 TiB) and the refcount table. Clusters
//! that are not put are not there, and read as zeros. Until the header is written the file is none.

use std::io::{self, Seek, SeekFrom, Write};

use sigs::{ByteLen, SectorSize};

use super::refcounts::{Block, Refcounts};
use super::{COMPRESSED, COMPRESSION_TYPE, COPIED, MAGIC, count, index};

/// The unit in which the size of a qcow2 disk is understood, whatever its header says.
const SECTOR: u64 = 512;

/// How the disk is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    disk_bytes: ByteLen,
    cluster_bits: u32,
    zstd: bool,
}

/// A cluster as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As it is; the last cluster of a disk filled up with zeros.
    Plain(Vec<u8>),
    /// Compressed with zstd.
    Zstd(Vec<u8>),
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The medium failed.
    #[error("write the qcow2 file")]
    Write(#[from] io::Error),
    /// The disk is too large for clusters of this size.
    #[error("the disk is too large for a qcow2 file with clusters of {0} bytes")]
    TooLarge(u64),
    /// A defect of the caller.
    #[error("cluster {0} was put out of order or has another length than its kind allows")]
    Order(u64),
}

impl Layout {
    /// The clusters of QEMU, 64 KiB, which suffice for every disk.
    pub const DEFAULT_CLUSTER_BITS: u32 = 16;

    /// Makes a layout. A disk that ends inside a sector of 512 bytes ends with it in the file: the rest is zeros.
    ///
    /// `cluster_bits` is the binary logarithm of the cluster size: 9 to 21, other values count as the nearest of these.
    pub fn new(disk_bytes: ByteLen, cluster_bits: u32, zstd: bool) -> Self {
        let disk_bytes = ByteLen::new(disk_bytes.get().div_ceil(SECTOR).saturating_mul(SECTOR));
        Self { disk_bytes, cluster_bits: cluster_bits.clamp(9, 21), zstd }
    }

    /// Returns the size of the disk as the file has it.
    pub const fn disk_bytes(&self) -> ByteLen {
        self.disk_bytes
    }

    /// Returns the size of a sector of a disk that a virtual machine sees by default.
    pub const fn sector_size(&self) -> SectorSize {
        SectorSize::S512
    }

    /// Returns the size of a cluster.
    pub const fn cluster_bytes(&self) -> ByteLen {
        ByteLen::new(1 << self.cluster_bits)
    }

    const fn l2_entries(&self) -> u64 {
        self.cluster_bytes().get() / 8
    }

    fn l1_entries(&self) -> u64 {
        self.disk_bytes.get().div_ceil(self.cluster_bytes().get() * self.l2_entries())
    }
}

/// A file under construction.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    layout: Layout,
    /// Where `out` stands.
    out_at: u64,
    /// The first byte of the file that is not used.
    end: u64,
    refcounts: Refcounts,
    l1: Vec<u64>,
    l2: Vec<u64>,
    /// The number of the L2 table being filled.
    table: u64,
    next: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file in `out`, which is empty.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`].
    pub fn new(out: W, layout: Layout) -> Result<Self, WriteError> {
        let cluster = layout.cluster_bytes().get();
        // As in QEMU: an L1 table of 32 MiB at most.
        if layout.l1_entries() > 4 << 20 {
            return Err(WriteError::TooLarge(cluster));
        }
        let mut refcounts = Refcounts::new(cluster);
        // The header; the block of the first span counts itself.
        refcounts.add(0);
        let l1 = vec![0; index(layout.l1_entries())];
        let l2 = vec![0; index(layout.l2_entries())];
        Ok(Self { out, layout, out_at: 0, end: cluster, refcounts, l1, l2, table: 0, next: 0 })
    }

    /// Puts the next cluster that is not all zeros; those passed over read as zeros.
    ///
    /// # Errors
    /// [`WriteError`]; final.
    pub fn put(&mut self, number: u64, stored: &Stored) -> Result<(), WriteError> {
        let cluster = self.layout.cluster_bytes().get();
        let clusters = self.layout.disk_bytes.get().div_ceil(cluster);
        if number < self.next || number >= clusters {
            return Err(WriteError::Order(number));
        }
        self.next = number + 1;
        let table = number / self.layout.l2_entries();
        if table != self.table {
            self.write_l2()?;
            self.table = table;
        }
        let entry = match stored {
            Stored::Plain(bytes) if count(bytes) == cluster => self.put_plain(bytes)?,
            Stored::Zstd(bytes) if self.layout.zstd && count(bytes) < cluster && !bytes.is_empty() => {
                self.put_compressed(bytes)?
            }
            Stored::Plain(_) | Stored::Zstd(_) => return Err(WriteError::Order(number)),
        };
        self.l2[index(number % self.layout.l2_entries())] = entry;
        Ok(())
    }

    fn put_plain(&mut self, bytes: &[u8]) -> Result<u64, WriteError> {
        let offset = self.allocate(1)?;
        self.write_at(offset, bytes)?;
        Ok(offset | COPIED)
    }

    /// Appends a compressed cluster right behind the last thing, unless a refcount block is in the way.
    fn put_compressed(&mut self, bytes: &[u8]) -> Result<u64, WriteError> {
        let cluster = self.layout.cluster_bytes().get();
        let mut offset = self.end;
        let last = |offset: u64| (offset + count(bytes) - 1) / cluster;
        if (offset / cluster..=last(offset)).any(|used| self.refcounts.is_reserved(used)) {
            // Less than a cluster never reaches two of them.
            offset = offset.div_ceil(cluster) * cluster;
            while self.refcounts.is_reserved(offset / cluster) || self.refcounts.is_reserved(last(offset)) {
                offset += cluster;
            }
        }
        for used in offset / cluster..=last(offset) {
            self.count(used)?;
        }
        self.write_at(offset, bytes)?;
        self.end = offset + count(bytes);
        let place_bits = 62 - (self.layout.cluster_bits - 8);
        let sectors = (offset + count(bytes) - 1) / SECTOR - offset / SECTOR;
        if offset >> place_bits != 0 {
            return Err(WriteError::TooLarge(cluster));
        }
        Ok(COMPRESSED | sectors << place_bits | offset)
    }

    /// Writes what is left, the header last. Returns the output, which is not flushed, and its size.
    ///
    /// # Errors
    /// [`WriteError`]; final.
    pub fn finish(mut self) -> Result<(W, ByteLen), WriteError> {
        self.write_l2()?;
        let cluster = self.layout.cluster_bytes().get();
        let l1_bytes = words(&self.l1);
        let l1_offset = self.allocate(count(&l1_bytes).div_ceil(cluster).max(1))?;
        self.write_padded(l1_offset, l1_bytes)?;
        // The table has to have room for the blocks that cover itself.
        let mut table_clusters = 1;
        while self.spans_with(table_clusters) * 8 > table_clusters * cluster {
            table_clusters += 1;
        }
        let table_offset = self.allocate(table_clusters)?;
        let spans = self.refcounts.spans(self.end / cluster);
        let blocks: Vec<u64> = (0..spans).map(|span| self.refcounts.block_of(span) * cluster).collect();
        let last = self.refcounts.block();
        self.write_block(&last)?;
        self.write_padded(table_offset, words(&blocks))?;
        let file = self.end.max((last.cluster + 1) * cluster);
        let header = self.header(l1_offset, table_offset, table_clusters);
        self.write_padded(0, header)?;
        self.out.seek(SeekFrom::End(0))?;
        Ok((self.out, ByteLen::new(file)))
    }

    /// Returns how many spans the file has once this many clusters are added, wherever they go.
    fn spans_with(&self, clusters: u64) -> u64 {
        let used = self.end.div_ceil(self.layout.cluster_bytes().get());
        // Passing over a refcount block may cost as much again, and two clusters more.
        self.refcounts.spans(used + 2 * clusters + 2)
    }

    fn header(&self, l1_offset: u64, table_offset: u64, table_clusters: u64) -> Vec<u8> {
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mut bytes = Vec::new();
        let long = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_be_bytes());
        let short = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_be_bytes());
        short(&mut bytes, MAGIC);
        short(&mut bytes, 3);
        // No backing file: its place, its length.
        long(&mut bytes, 0);
        short(&mut bytes, 0);
        short(&mut bytes, self.layout.cluster_bits);
        long(&mut bytes, self.layout.disk_bytes.get());
        // Not encrypted.
        short(&mut bytes, 0);
        short(&mut bytes, narrow(self.layout.l1_entries()));
        long(&mut bytes, l1_offset);
        long(&mut bytes, table_offset);
        short(&mut bytes, narrow(table_clusters));
        // No snapshots: how many, where.
        short(&mut bytes, 0);
        long(&mut bytes, 0);
        // Incompatible, compatible, autoclear features.
        long(&mut bytes, if self.layout.zstd { COMPRESSION_TYPE } else { 0 });
        long(&mut bytes, 0);
        long(&mut bytes, 0);
        // Counts of 2^4 bits; the length of the header; how clusters are compressed; padding; the end of extensions.
        short(&mut bytes, 4);
        short(&mut bytes, 112);
        bytes.extend([u8::from(self.layout.zstd), 0, 0, 0, 0, 0, 0, 0]);
        long(&mut bytes, 0);
        bytes
    }

    fn write_l2(&mut self) -> Result<(), WriteError> {
        if self.l2.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let offset = self.allocate(1)?;
        let bytes = words(&self.l2);
        self.write_at(offset, &bytes)?;
        self.l1[index(self.table)] = offset | COPIED;
        self.l2.fill(0);
        Ok(())
    }

    /// Takes whole clusters at the end of the file, past refcount blocks.
    fn allocate(&mut self, clusters: u64) -> Result<u64, WriteError> {
        let size = self.layout.cluster_bytes().get();
        if clusters >= self.refcounts.span_clusters() {
            return Err(WriteError::TooLarge(size));
        }
        let mut first = self.end.div_ceil(size);
        while let Some(reserved) = (first..first + clusters).find(|cluster| self.refcounts.is_reserved(*cluster)) {
            first = reserved + 1;
        }
        for cluster in first..first + clusters {
            self.count(cluster)?;
        }
        self.end = (first + clusters) * size;
        Ok(first * size)
    }

    fn count(&mut self, cluster: u64) -> Result<(), WriteError> {
        for block in self.refcounts.add(cluster) {
            self.write_block(&block)?;
        }
        Ok(())
    }

    fn write_block(&mut self, block: &Block) -> Result<(), WriteError> {
        self.write_at(block.cluster * self.layout.cluster_bytes().get(), &block.bytes)
    }

    fn write_padded(&mut self, offset: u64, mut bytes: Vec<u8>) -> Result<(), WriteError> {
        let size = index(self.layout.cluster_bytes().get());
        bytes.resize(bytes.len().next_multiple_of(size).max(size), 0);
        self.write_at(offset, &bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        if self.out_at != offset {
            self.out.seek(SeekFrom::Start(offset))?;
        }
        self.out.write_all(bytes)?;
        self.out_at = offset + count(bytes);
        Ok(())
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}
