//! Transactions out of records: operations, each with a piece of a transaction, which may go on in the next record.
//!
//! ```text
//! operation: 0 transaction  4 bytes (both big-endian)  8 who  9 flags
//! first piece: "TRAN" and 12 more bytes; then items: a first region {kind, number of regions, ...}, and the others
//! ```
//!
//! Transactions interleave, and only those whose commit is in the log ever happened. What began before the oldest
//! record in use is skipped: it is on the medium. They are committed in the order in which they began, so that can only
//! be skipped until the first of the others is committed, and none is left open that is older than a committed one.

use std::collections::BTreeMap;

use super::LogDoubt;
use super::item::{Logged, Wanted};
use crate::alloc::bytes::{be32_at, u8_at, u16_at, u32_at};

const OPERATION_BYTES: usize = 12;
const WHO_TRANSACTION: u8 = 0x69;
const WHO_LOG: u8 = 0xAA;
const START: u8 = 0x01;
const COMMIT: u8 = 0x02;
const CONTINUES: u8 = 0x04;
const CONTINUED: u8 = 0x08;
const CONTINUED_END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;

const TRANSACTION_MAGIC: u32 = 0x5452_414E;
const TRANSACTION_HEADER_BYTES: usize = 16;
/// A buffer of 64 KiB of which every other piece of 128 bytes was logged.
const MOST_REGIONS: usize = 257;
/// More than any item has: the largest are a buffer or an attribute, of 64 KiB each.
const MOST_ITEM_BYTES: usize = 1 << 20;
/// What all transactions that are open at once may hold. A checkpoint of Linux has at most 64 MiB of all kinds in the
/// log, of which trees of free space are a small part.
const MOST_HELD_BYTES: usize = 24 << 20;
const MOST_OPEN: usize = 1024;

/// A transaction that was committed.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// The place of the record in which it began.
    pub(crate) sequence: u64,
    pub(crate) changes: Vec<Logged>,
}

/// The transactions that are not committed yet.
#[derive(Debug)]
pub(crate) struct Transactions<'a> {
    wanted: Wanted<'a>,
    open: BTreeMap<u32, Open>,
    held: usize,
    /// When the last one began that is committed.
    newest: Option<u64>,
}

#[derive(Debug)]
struct Open {
    sequence: u64,
    /// Bytes of the transaction header that were seen.
    header: Vec<u8>,
    regions: Vec<Vec<u8>>,
    /// How many regions the item has.
    total: usize,
    changes: Vec<Logged>,
    held: usize,
}

impl<'a> Transactions<'a> {
    pub(crate) fn new(wanted: Wanted<'a>) -> Self {
        Self { wanted, open: BTreeMap::new(), held: 0, newest: None }
    }

    /// Proves at the end of the log that no transaction is missing between those that were committed.
    pub(crate) fn finish(&self) -> Result<(), LogDoubt> {
        let missing = |open: &Open| self.newest.is_some_and(|newest| open.sequence < newest);
        if self.open.values().any(missing) { Err(LogDoubt::Order) } else { Ok(()) }
    }

    /// Takes the operations of a record and returns the transactions that are committed in it.
    pub(crate) fn take(
        &mut self,
        sequence: u64,
        operations: u32,
        mut data: &[u8],
    ) -> Result<Vec<Transaction>, LogDoubt> {
        let mut committed = Vec::new();
        for _ in 0..operations {
            if data.is_empty() {
                break;
            }
            let (header, rest) = data.split_at_checked(OPERATION_BYTES).ok_or(LogDoubt::Operation("length"))?;
            let read = || Some((be32_at(header, 0)?, be32_at(header, 4)?, u8_at(header, 8)?, u8_at(header, 9)?));
            let (id, len, who, flags) = read().ok_or(LogDoubt::Operation("length"))?;
            let len = usize::try_from(len).map_err(|_| LogDoubt::Operation("length"))?;
            let (piece, rest) = rest.split_at_checked(len).ok_or(LogDoubt::Operation("length"))?;
            data = rest;
            if who != WHO_TRANSACTION && who != WHO_LOG {
                return Err(LogDoubt::Operation("client"));
            }
            committed.extend(self.operation(sequence, id, flags, piece)?);
        }
        Ok(committed)
    }

    fn operation(&mut self, sequence: u64, id: u32, flags: u8, piece: &[u8]) -> Result<Option<Transaction>, LogDoubt> {
        let Some(open) = self.open.get_mut(&id) else {
            if flags & START != 0 {
                let alone = flags == START && piece.is_empty() && self.open.len() < MOST_OPEN;
                alone.then_some(()).ok_or(LogDoubt::Operation("start"))?;
                self.open.insert(id, Open::new(sequence));
            } else if self.newest.is_some() && flags & UNMOUNT == 0 {
                return Err(LogDoubt::Order);
            }
            return Ok(None);
        };
        let (flags, held) = (flags & !CONTINUED_END, open.held);
        match if flags & CONTINUED != 0 { flags & !CONTINUES } else { flags } {
            0 | CONTINUES => open.region(piece, &self.wanted)?,
            CONTINUED => open.more(piece)?,
            COMMIT => {
                open.seal(&self.wanted)?;
                self.held = self.held.saturating_sub(held);
                let done = self.open.remove(&id);
                if let Some(done) = &done {
                    // Kernels before 5.14 could log them in another order than they began, and replay them wrongly.
                    if self.newest.is_some_and(|newest| done.sequence < newest) {
                        return Err(LogDoubt::Order);
                    }
                    self.newest = Some(done.sequence);
                }
                return Ok(done.map(|open| Transaction { sequence: open.sequence, changes: open.changes }));
            }
            UNMOUNT => {
                self.open.remove(&id);
                self.held = self.held.saturating_sub(held);
                return Ok(None);
            }
            _ => return Err(LogDoubt::Operation("flags")),
        }
        self.held = self.held.saturating_sub(held).saturating_add(open.held);
        if self.held > MOST_HELD_BYTES {
            return Err(LogDoubt::TooMuch);
        }
        Ok(None)
    }
}

impl Open {
    fn new(sequence: u64) -> Self {
        Self { sequence, header: Vec::new(), regions: Vec::new(), total: 0, changes: Vec::new(), held: 0 }
    }

    /// Takes a new region, or its first piece.
    fn region(&mut self, piece: &[u8], wanted: &Wanted<'_>) -> Result<(), LogDoubt> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.header.len() < TRANSACTION_HEADER_BYTES {
            let first = self.header.is_empty()
                && u32_at(piece, 0) == Some(TRANSACTION_MAGIC)
                && piece.len() <= TRANSACTION_HEADER_BYTES;
            self.header.extend_from_slice(piece);
            return first.then_some(()).ok_or(LogDoubt::Operation("transaction header"));
        }
        if self.regions.len() == self.total {
            self.seal(wanted)?;
            let total = u16_at(piece, 2).map(usize::from).filter(|total| (1..=MOST_REGIONS).contains(total));
            self.total = total.ok_or(LogDoubt::Operation("number of regions"))?;
        }
        self.regions.push(piece.to_vec());
        Ok(())
    }

    /// Takes a further piece of a region.
    fn more(&mut self, piece: &[u8]) -> Result<(), LogDoubt> {
        let last = if self.header.len() < TRANSACTION_HEADER_BYTES {
            &mut self.header
        } else {
            self.regions.last_mut().ok_or(LogDoubt::Operation("continuation"))?
        };
        last.extend_from_slice(piece);
        let sane = self.header.len() <= TRANSACTION_HEADER_BYTES
            && self.regions.iter().map(Vec::len).sum::<usize>() <= MOST_ITEM_BYTES;
        sane.then_some(()).ok_or(LogDoubt::Operation("length"))
    }

    /// Ends an item: of most nothing but their place is kept.
    fn seal(&mut self, wanted: &Wanted<'_>) -> Result<(), LogDoubt> {
        if self.regions.len() != self.total {
            return Err(LogDoubt::Operation("number of regions"));
        }
        if self.total > 0 {
            let change = wanted.of(&self.regions)?;
            self.held = self.held.saturating_add(change.as_ref().map_or(0, Logged::held_bytes));
            self.changes.extend(change);
        }
        self.regions.clear();
        self.total = 0;
        Ok(())
    }
}
