//! Where the log ends: found as Linux does, because what Linux takes for the end decides what it will replay.
//!
//! Rounds go down by one at the end, and nowhere else but in the last 2 MiB before it, where writes were in flight and
//! may be missing in any order. A record that is not complete is not there.

use super::{Header, Log, LogDoubt, record, round_of};
use crate::alloc::bytes::{be32_at, u8_at};
use crate::alloc::doubt::{Stop, SurveyError};

/// How many buffers Linux has at most, each of which may be in flight.
const MOST_BUFFERS: usize = 8;
/// How many sectors they fill.
const MOST_IN_FLIGHT: u32 = 8 * record::MOST_BYTES / 512;
/// How many sectors a record has at most.
const MOST_RECORD: u32 = record::MOST_BYTES / 512;
const OPERATION_UNMOUNT: u8 = 0x20;

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The first sector behind the last record.
    pub(crate) sector: u32,
    /// The round the next record would be written in.
    pub(crate) round: u32,
    pub(crate) last: Header,
}

/// What the end of the log says of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was unmounted, and nothing happened since.
    Clean(End),
    /// It was not.
    Dirty(End),
}

impl End {
    /// Returns the place of the end, in the order of all sequence numbers.
    pub(crate) fn sequence(&self) -> u64 {
        (u64::from(self.round) << 32) | u64::from(self.sector)
    }
}

/// Finds the end of the log.
pub(crate) fn find(log: &Log<'_>) -> Result<State, Stop> {
    let sector = first_behind(log)?;
    let end = end_at(log, sector)?;
    if is_unmount(log, &end)? {
        return Ok(State::Clean(end));
    }
    match first_torn(log, &end)? {
        None => Ok(State::Dirty(end)),
        Some(torn) => {
            let end = end_at(log, torn.sector)?;
            if is_unmount(log, &end)? { Ok(State::Clean(end)) } else { Ok(State::Dirty(end)) }
        }
    }
}

/// Returns the first record with a wrong checksum of the last eight, which may have been in flight: the log ends there.
fn first_torn(log: &Log<'_>, end: &End) -> Result<Option<Header>, Stop> {
    let oldest = end.last.tail & u64::from(u32::MAX);
    let mut headers = vec![end.last];
    let mut first = end.last;
    while headers.len() < MOST_BUFFERS && u64::from(first.sector) != oldest {
        (first, _) = last_before(log, first.sector)?;
        headers.push(first);
    }
    for header in headers.iter().rev() {
        if header.read(log)?.0 == record::Verdict::Wrong {
            return Ok(Some(*header));
        }
    }
    Ok(None)
}

/// Returns the last header before a sector, and whether it is behind it in the ring.
fn last_before(log: &Log<'_>, sector: u32) -> Result<(Header, bool), Stop> {
    match header_before(log, 0, sector)? {
        Some(last) => Ok((last, false)),
        None => Ok((header_before(log, sector, log.sectors)?.ok_or(LogDoubt::NoEnd("no record"))?, true)),
    }
}

/// Returns the end at a sector: the record before it is the last one.
fn end_at(log: &Log<'_>, sector: u32) -> Result<End, Stop> {
    let (last, wrapped) = last_before(log, sector)?;
    if log.forward(last.sector, last.sectors()) != sector {
        return Err(LogDoubt::NoEnd("the last record does not reach it").into());
    }
    let round = if wrapped { last.round.saturating_add(1) } else { last.round };
    Ok(End { sector, round, last })
}

/// Returns the first sector that is not of a complete record: behind all that was written.
fn first_behind(log: &Log<'_>) -> Result<u32, Stop> {
    let size = log.sectors;
    let (first, last) = (log.round(0)?, log.round(size.saturating_sub(1))?);
    if first == 0 {
        return Err(LogDoubt::NeverWritten.into());
    }
    if last == 0 {
        // The first round is not over.
        if first != 1 {
            return Err(LogDoubt::NoEnd("rounds are missing").into());
        }
        let end = bisect(log, 0)?;
        let from = end.saturating_sub(MOST_IN_FLIGHT);
        let end = find_round(log, from, end, 0)?.unwrap_or(end);
        return whole_records(log, end);
    }
    let (end, stop) = if first == last {
        (size, last.saturating_sub(1))
    } else if first == last.saturating_add(1) {
        (bisect(log, last)?, last)
    } else {
        return Err(LogDoubt::NoEnd("rounds are missing").into());
    };
    let in_flight = MOST_IN_FLIGHT.min(size);
    if end >= in_flight {
        let end = find_round(log, end - in_flight, end, stop)?.unwrap_or(end);
        return whole_records(log, end);
    }
    // What was in flight began in the round before.
    let from = size - (in_flight - end);
    let end = match find_round(log, from, size, stop.saturating_sub(1))? {
        Some(hole) => hole,
        None => find_round(log, 0, end, stop)?.unwrap_or(end),
    };
    whole_records(log, end)
}

/// Finds a sector with a round such that the one before has another, by halving; the first sector has another.
fn bisect(log: &Log<'_>, round: u32) -> Result<u32, SurveyError> {
    let (mut other, mut same) = (0, log.sectors.saturating_sub(1));
    while same - other > 1 {
        let middle = other + (same - other) / 2;
        if log.round(middle)? == round { same = middle } else { other = middle }
    }
    Ok(same)
}

/// Returns the first sector of a range that was written in a round.
fn find_round(log: &Log<'_>, from: u32, to: u32, round: u32) -> Result<Option<u32>, SurveyError> {
    let bytes = log.read(from, to.saturating_sub(from))?;
    let found = (from..to).zip(bytes.chunks(512)).find(|(_, sector)| round_of(sector) == round);
    Ok(found.map(|(place, _)| place))
}

/// Moves an end that is inside a record to its start.
fn whole_records(log: &Log<'_>, end: u32) -> Result<u32, Stop> {
    let size = log.sectors;
    let from = end.saturating_sub(MOST_RECORD);
    let end = if let Some(header) = header_before(log, from, end)? {
        if end - header.sector == header.sectors() { end } else { header.sector }
    } else {
        if from > 0 {
            return Err(LogDoubt::NoEnd("no record before it").into());
        }
        let from = size.saturating_sub(MOST_RECORD.saturating_sub(end)).max(end);
        let header = header_before(log, from, size)?.ok_or(LogDoubt::NoEnd("no record before it"))?;
        if size - header.sector + end == header.sectors() { end } else { header.sector }
    };
    Ok(if end == size { 0 } else { end })
}

/// Returns the last header in a range of sectors.
fn header_before(log: &Log<'_>, from: u32, to: u32) -> Result<Option<Header>, Stop> {
    let mut end = to;
    while end > from {
        let start = end.saturating_sub(MOST_RECORD).max(from);
        let bytes = log.read(start, end - start)?;
        let sectors: Vec<&[u8]> = bytes.chunks(512).collect();
        for (place, sector) in (start..end).zip(&sectors).rev() {
            if be32_at(sector, 0) == Some(record::MAGIC) {
                return Ok(Some(Header::parse(log, place, sector)?));
            }
        }
        end = start;
    }
    Ok(None)
}

/// Returns true if the last record is the one that is written when the file system is unmounted.
fn is_unmount(log: &Log<'_>, end: &End) -> Result<bool, Stop> {
    if end.last.operations != 1 {
        return Ok(false);
    }
    let (verdict, data) = end.last.read(log)?;
    // Operation headers have their flags in byte 9.
    let unmount = u8_at(&data, 9).is_some_and(|flags| flags & OPERATION_UNMOUNT != 0);
    Ok(unmount && verdict != record::Verdict::Wrong)
}
