//! What a replay of the log would make of the metadata, computed beside the disk.
//!
//! Two passes, as in Linux: the first collects what was cancelled, because what was logged of freed metadata must not
//! be written over what took its place; the second applies what is left, transaction by transaction. A piece of
//! metadata with a sequence number is left alone by what is not younger than that.

use std::collections::BTreeMap;

use super::head::End;
use super::item::{Change, Logged, Place, Wanted};
use super::record::{Header, Verdict};
use super::transactions::{Transaction, Transactions};
use super::{Log, LogDoubt};
use crate::alloc::doubt::Stop;
use crate::alloc::xfs::overlay::{Overlay, Touched};
use crate::alloc::xfs::superblock::Superblock;

/// How many different places may be cancelled; the table is no part of what transactions may hold.
const MOST_CANCELS: usize = 1 << 18;

/// What a replay does.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The metadata it changes, as far as that decides what is free.
    pub(crate) overlay: Overlay,
    /// Everything it reads or writes.
    pub(crate) touched: Touched,
    pub(crate) transactions: u64,
}

/// How often each place is still to be cancelled.
#[derive(Debug, Default)]
struct Cancels(BTreeMap<Place, u32>);

impl Replay {
    /// Reads the log from the oldest record in use to its end.
    pub(crate) fn new(log: &Log<'_>, end: &End, superblock: &Superblock) -> Result<Self, Stop> {
        let mut cancels = Cancels::default();
        let mut first = Transactions::new(Wanted::Cancels(superblock));
        walk(log, end, |header, data| {
            for transaction in first.take(header.sequence(), header.operations, data)? {
                cancels.collect(&transaction)?;
            }
            Ok(())
        })?;
        let mut replay = Self { overlay: Overlay::default(), touched: Touched::default(), transactions: 0 };
        let mut second = Transactions::new(Wanted::Changes(superblock));
        walk(log, end, |header, data| {
            for transaction in second.take(header.sequence(), header.operations, data)? {
                replay.apply(log, superblock, &mut cancels, transaction)?;
            }
            Ok(())
        })?;
        second.finish()?;
        replay.touched.finish();
        Ok(replay)
    }

    fn apply(
        &mut self,
        log: &Log<'_>,
        superblock: &Superblock,
        cancels: &mut Cancels,
        transaction: Transaction,
    ) -> Result<(), Stop> {
        self.transactions = self.transactions.saturating_add(1);
        let mut cancelled = Vec::new();
        for logged in transaction.changes {
            match logged {
                Logged::Touch(place) => self.touch(place)?,
                // Within a transaction they come last.
                Logged::Cancel(place) => cancelled.push(place),
                Logged::Change(change) => {
                    self.touch(change.place)?;
                    if !cancels.contains(change.place) {
                        let Change { place, parts } = *change;
                        self.overlay.change(log.window, superblock, transaction.sequence, place, &parts)?;
                    }
                }
            }
        }
        for place in cancelled {
            cancels.remove(place);
        }
        Ok(())
    }

    fn touch(&mut self, place: Place) -> Result<(), LogDoubt> {
        self.touched.add(place.start, place.start.saturating_add(place.len)).ok_or(LogDoubt::TooMuch)
    }
}

impl Cancels {
    fn collect(&mut self, transaction: &Transaction) -> Result<(), LogDoubt> {
        for logged in &transaction.changes {
            if let Logged::Cancel(place) = logged {
                let count = self.0.entry(*place).or_default();
                *count = count.saturating_add(1);
            }
        }
        if self.0.len() > MOST_CANCELS { Err(LogDoubt::TooMuch) } else { Ok(()) }
    }

    fn contains(&self, place: Place) -> bool {
        self.0.contains_key(&place)
    }

    fn remove(&mut self, place: Place) {
        let left = self.0.get(&place).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            self.0.remove(&place);
        } else {
            self.0.insert(place, left);
        }
    }
}

/// Goes through the records from the oldest in use to the end.
fn walk(log: &Log<'_>, end: &End, mut each: impl FnMut(&Header, &[u8]) -> Result<(), Stop>) -> Result<(), Stop> {
    let read = |half: u64| u32::try_from(half).map_err(|_| LogDoubt::NoEnd("no oldest record"));
    let (mut round, mut sector) = (read(end.last.tail >> 32)?, read(end.last.tail & u64::from(u32::MAX))?);
    if sector >= log.sectors || sector == end.sector {
        return Err(LogDoubt::NoEnd("no oldest record").into());
    }
    let mut left = log.distance(sector, end.sector);
    while left > 0 {
        let header = Header::parse(log, sector, &log.read(sector, 1)?)?;
        let wrong = |field| LogDoubt::Record { sector, field };
        // All of them are of one mount, and Linux takes the size of the buffer from the first.
        let fits = header.round == round && header.header_sectors == end.last.header_sectors;
        fits.then_some(()).ok_or(wrong("round or size of the buffer"))?;
        left = left.checked_sub(header.sectors()).ok_or(wrong("length"))?;
        let (verdict, data) = header.read(log)?;
        if verdict != Verdict::Valid {
            return Err(wrong("checksum").into());
        }
        each(&header, &data)?;
        let next = log.forward(sector, header.sectors());
        if next <= sector {
            round = round.saturating_add(1);
        }
        sector = next;
    }
    Ok(())
}
