//! Where the content of an attribute is, when it is not in the record.
//!
//! ```text
//! 16 first cluster of the content that is described here  24 last  32 place of the runs  48 length  56 initialised
//! run: a byte with two lengths, the number of clusters, the distance from the run before (none: a hole)
//! ```

use sigs::ByteRange;

use super::NtfsDoubt;
use super::record::Attribute;
use crate::alloc::bytes::{u16_at, u64_at};
use crate::alloc::clusters::Clusters;
use crate::alloc::doubt::SurveyError;
use crate::alloc::window::Window;

/// Content in clusters, as far as one attribute says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Where it is on the disk, in the order of the content, without holes.
    runs: Vec<ByteRange>,
    /// How many clusters are described.
    pub(super) clusters: u64,
    /// How much of it was written.
    pub(super) len: u64,
}

/// The runs of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    /// The first cluster of the content that they describe.
    pub(super) first: u64,
    /// How many they describe.
    pub(super) clusters: u64,
    /// Where those are that are there.
    pub(super) places: Vec<ByteRange>,
    /// Whether some are not.
    pub(super) holes: bool,
}

impl Runs {
    /// Reads the runs of an attribute, all of them inside the volume; `None` when they are malformed.
    pub(super) fn parse(attribute: &Attribute<'_>, volume: Clusters) -> Option<Self> {
        let first = u64_at(attribute.bytes, 16)?;
        // The last cluster of nothing is -1.
        let clusters = u64_at(attribute.bytes, 24)?.wrapping_add(1).checked_sub(first)?;
        let mut bytes = attribute.bytes.get(usize::from(u16_at(attribute.bytes, 32)?)..)?;
        let mut runs = Self { first, clusters, places: Vec::new(), holes: false };
        let (mut described, mut place) = (0_u64, 0_i64);
        loop {
            let (header, rest) = bytes.split_first()?;
            if *header == 0 {
                break;
            }
            let (len, rest) = signed(rest, header & 15)?;
            let len = u64::try_from(len?).ok().filter(|len| *len > 0)?;
            let (distance, rest) = signed(rest, header >> 4)?;
            bytes = rest;
            described = described.checked_add(len)?;
            if let Some(distance) = distance {
                place = place.checked_add(distance)?;
                runs.places.push(volume.range(u64::try_from(place).ok()?, len)?);
            } else {
                runs.holes = true;
            }
        }
        (described == clusters).then_some(runs)
    }
}

impl Content {
    /// Finds the first part of the content of a record of the file table; all of it, unless the record goes on elsewhere.
    pub(super) fn of(record: u64, attribute: &Attribute<'_>, volume: Clusters) -> Result<Self, NtfsDoubt> {
        let malformed = NtfsDoubt::Record { record, what: "has content where it cannot be" };
        // Compressed, encrypted, sparse.
        if !attribute.has_runs() || u16_at(attribute.bytes, 12) != Some(0) {
            return Err(malformed);
        }
        let runs = Runs::parse(attribute, volume).filter(|runs| runs.first == 0 && !runs.holes);
        let len = u64_at(attribute.bytes, 48).zip(u64_at(attribute.bytes, 56)).map(|(len, written)| len.min(written));
        let (runs, len) = runs.zip(len).ok_or(malformed)?;
        Ok(Self { runs: runs.places, clusters: runs.clusters, len })
    }

    /// Adds what follows; false when it does not.
    pub(super) fn go_on(&mut self, runs: Runs) -> bool {
        let next = runs.first == self.clusters && runs.clusters > 0 && !runs.holes;
        if next {
            self.clusters = self.clusters.saturating_add(runs.clusters);
            self.runs.extend(runs.places);
        }
        next
    }

    /// Reads a part; `None` when it is not all there. The caller bounds `len`.
    pub(super) fn fetch(&self, window: &Window<'_>, offset: u64, len: u64) -> Result<Option<Vec<u8>>, SurveyError> {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.len) else { return Ok(None) };
        let (mut bytes, mut behind, mut at) = (Vec::new(), 0_u64, offset);
        for run in &self.runs {
            let next = behind.saturating_add(run.len.get());
            if at >= behind && at < next && at < end {
                let take = next.min(end) - at;
                bytes.extend(window.fetch(run.start.get().saturating_add(at - behind), take)?);
                at += take;
            }
            behind = next;
        }
        Ok((at == end).then_some(bytes))
    }
}

/// Takes a signed number of up to 8 bytes; one of no bytes is none.
fn signed(bytes: &[u8], len: u8) -> Option<(Option<i64>, &[u8])> {
    let (number, rest) = bytes.split_at_checked(usize::from(len))?;
    let Some(top) = number.last() else { return Some((None, rest)) };
    let mut wide = if *top < 0x80 { [0; 8] } else { [0xFF; 8] };
    wide.get_mut(..number.len())?.copy_from_slice(number);
    Some((Some(i64::from_le_bytes(wide)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: Clusters = Clusters { start: 0, size: 4096, count: 1000 };

    fn parse(last: u64, runs: &[u8]) -> Option<Runs> {
        let mut bytes = vec![0; 64];
        bytes[24..32].copy_from_slice(&last.to_le_bytes());
        bytes[32] = 64;
        bytes.extend_from_slice(runs);
        Runs::parse(&Attribute { kind: Attribute::DATA, bytes: &bytes }, VOLUME)
    }

    #[test]
    fn runs_go_forth_and_back_and_over_holes() {
        let runs = parse(12, &[0x21, 5, 0x2C, 1, 0x01, 4, 0x11, 4, 0xF0, 0]).unwrap();
        let places: Vec<_> = runs.places.iter().map(|p| (p.start.get() / 4096, p.len.get() / 4096)).collect();
        assert_eq!((places.as_slice(), runs.clusters, runs.holes), (&[(300, 5), (284, 4)][..], 13, true));
        assert_eq!(parse(u64::MAX, &[0]).unwrap().places, []);
    }

    #[test]
    fn runs_that_cannot_be_are_refused() {
        let good = [0x21, 5, 0x2C, 1, 0];
        assert!(parse(4, &good).is_some());
        assert!(parse(5, &good).is_none() && parse(3, &good).is_none() && parse(4, &good[..4]).is_none());
        // Outside at either end, of no length, of negative length, too long for numbers.
        assert!(parse(4, &[0x21, 5, 0xE4, 3, 0]).is_none());
        assert!(parse(4, &[0x11, 5, 0x80, 0]).is_none());
        assert!(parse(0, &[0x11, 0, 1, 0]).is_none());
        assert!(parse(4, &[0x11, 0xFB, 1, 0]).is_none());
        assert!(parse(4, &[0x91, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]).is_none());
        assert!(parse(4, &[0x81, 5, 255, 255, 255, 255, 255, 255, 255, 127, 0]).is_none());
        assert!(parse(4, &[0x10, 1, 0]).is_none());
    }

    #[test]
    fn content_reads_across_its_runs() {
        let disk: Vec<u8> = (0..10_u8).flat_map(|block| vec![block; 4096]).collect();
        let window = Window::whole(&disk);
        let volume = Clusters { start: 0, size: 4096, count: 10 };
        let runs = [volume.range(7, 1).unwrap(), volume.range(2, 2).unwrap()].to_vec();
        let content = Content { runs, clusters: 3, len: 3 * 4096 - 1 };
        let read = |offset, len| content.fetch(&window, offset, len).unwrap();
        assert_eq!(read(4095, 2), Some(vec![7, 2]));
        assert_eq!(read(8191, 2), Some(vec![2, 3]));
        assert_eq!(read(0, 3 * 4096), None);
        assert_eq!(read(u64::MAX, 2), None);
    }
}
