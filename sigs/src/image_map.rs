//! The map of an image: for every block of its target state, what it is and where its content lies.
//!
//! Runs in disk order, encoded as canonical LEB128 numbers (`docs/formats/zdi.md`). The encoding is what a manifest
//! binds, so each map has exactly one of each version.

use crate::units::{BlockCount, BlockIndex};

/// How runs are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapEncoding {
    /// Every run in a frame names pack, frame and block: manifests of format 1.
    Explicit,
    /// A run that lies where the one stored before it ended says only that: manifests of format 2. A disk with
    /// millions of small extents needs it, four bytes for each instead of eleven.
    Implied {
        /// How many blocks a full frame holds.
        frame_blocks: u32,
    },
}

/// Where the blocks of a run come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// FREE: no content.
    Free,
    /// ZERO: all zeros.
    Zero,
    /// DATA, equal to the base of this number at the same place.
    Base(u32),
    /// DATA, in a frame of a pack, from this block of the frame on.
    Frame {
        /// Which pack: 0 is the file itself.
        pack: u32,
        /// Which frame of the pack, by its number in the frame table.
        frame: u32,
        /// The first block of the run, counted in blocks from the start of the frame.
        first: u32,
    },
}

/// Blocks that follow each other on the disk and in their origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they come from.
    pub origin: Origin,
    /// How many they are: at least 1.
    pub blocks: BlockCount,
}

impl Run {
    /// Returns the run longer by `next`, when `next` continues it.
    fn joined(self, next: Self) -> Option<Self> {
        let continues = match (self.origin, next.origin) {
            (Origin::Frame { pack, frame, first }, Origin::Frame { pack: p, frame: f, first: n }) => {
                pack == p && frame == f && u64::from(first).checked_add(self.blocks.get()) == Some(u64::from(n))
            }
            (a, b) => a == b,
        };
        let blocks = self.blocks.get().checked_add(next.blocks.get())?;
        continues.then_some(Self { origin: self.origin, blocks: BlockCount::new(blocks) })
    }
}

/// A map that is not canonical or does not fit its disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the map: {reason}")]
pub struct BadMap {
    offset: usize,
    reason: &'static str,
}

/// Where in the pack the run after a stored one begins, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follow {
    encoding: MapEncoding,
    frame: u32,
    first: u32,
}

impl Follow {
    const fn new(encoding: MapEncoding) -> Self {
        Self { encoding, frame: 0, first: 0 }
    }

    /// Returns where the next stored run is expected, or `None` when runs always say where they are.
    const fn place(&self) -> Option<Origin> {
        match self.encoding {
            MapEncoding::Explicit => None,
            MapEncoding::Implied { .. } => Some(Origin::Frame { pack: 0, frame: self.frame, first: self.first }),
        }
    }

    /// Takes note of a run.
    fn pass(&mut self, run: Run) {
        if let (MapEncoding::Implied { frame_blocks }, Origin::Frame { pack: 0, frame, first }) =
            (self.encoding, run.origin)
        {
            let end = u64::from(first).saturating_add(run.blocks.get());
            (self.frame, self.first) = match u32::try_from(end) {
                Ok(end) if end < frame_blocks => (frame, end),
                _ => (frame.saturating_add(1), 0),
            };
        }
    }
}

/// Takes the blocks of a disk in order and encodes their map.
#[derive(Debug)]
pub struct MapBuilder {
    bytes: Vec<u8>,
    pending: Option<Run>,
    follow: Follow,
}

impl MapBuilder {
    /// Begins a map.
    pub const fn new(encoding: MapEncoding) -> Self {
        Self { bytes: Vec::new(), pending: None, follow: Follow::new(encoding) }
    }

    /// Takes the next blocks; empty runs are ignored, continuing ones joined.
    pub fn push(&mut self, run: Run) {
        if run.blocks.is_zero() {
            return;
        }
        match self.pending {
            None => self.pending = Some(run),
            Some(pending) => match pending.joined(run) {
                Some(joined) => self.pending = Some(joined),
                None => {
                    self.encode(pending);
                    self.pending = Some(run);
                }
            },
        }
    }

    /// Returns how many bytes there are so far.
    pub fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the encoded map.
    pub fn finish(mut self) -> ImageMap {
        if let Some(pending) = self.pending.take() {
            self.encode(pending);
        }
        ImageMap { bytes: self.bytes, encoding: self.follow.encoding }
    }

    fn encode(&mut self, run: Run) {
        let out = &mut self.bytes;
        match run.origin {
            Origin::Free => out.push(0),
            Origin::Zero => out.push(1),
            Origin::Base(base) => {
                out.push(2);
                encode_number(out, u64::from(base));
            }
            Origin::Frame { .. } if self.follow.place() == Some(run.origin) => out.push(4),
            Origin::Frame { pack, frame, first } => {
                out.push(3);
                encode_number(out, u64::from(pack));
                encode_number(out, u64::from(frame));
                encode_number(out, u64::from(first));
            }
        }
        encode_number(out, run.blocks.get());
        self.follow.pass(run);
    }
}

fn encode_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// An encoded map, checked when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMap {
    bytes: Vec<u8>,
    encoding: MapEncoding,
}

impl ImageMap {
    /// Checks an encoded map read from a file: canonical, and covering exactly `blocks` blocks.
    ///
    /// # Errors
    /// [`BadMap`] with the byte at fault.
    pub fn parse(bytes: Vec<u8>, blocks: BlockCount, encoding: MapEncoding) -> Result<Self, BadMap> {
        let mut reader = Reader { bytes: &bytes, at: 0, follow: Follow::new(encoding) };
        let (mut total, mut previous) = (0_u64, None::<Run>);
        while reader.at < bytes.len() {
            let offset = reader.at;
            let bad = |reason| BadMap { offset, reason };
            let run = reader.run()?;
            if run.blocks.is_zero() {
                return Err(bad("a run of no blocks"));
            }
            if previous.is_some_and(|previous| previous.joined(run).is_some()) {
                return Err(bad("a run that only continues the one before it"));
            }
            total = total
                .checked_add(run.blocks.get())
                .filter(|total| *total <= blocks.get())
                .ok_or_else(|| bad("the runs go past the end of the disk"))?;
            previous = Some(run);
        }
        if total == blocks.get() {
            Ok(Self { bytes, encoding })
        } else {
            Err(BadMap { offset: bytes.len(), reason: "the runs end before the disk does" })
        }
    }

    /// Returns the encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the runs in disk order, each with its first block.
    pub fn runs(&self) -> Runs<'_> {
        self.runs_from(&MapMark { at: 0, next: 0, follow: Follow::new(self.encoding) })
    }

    /// Returns the runs from a place on that [`Runs::mark`] of this map gave.
    pub fn runs_from(&self, mark: &MapMark) -> Runs<'_> {
        Runs { reader: Reader { bytes: &self.bytes, at: mark.at, follow: mark.follow }, next: mark.next }
    }
}

/// A place between two runs of a map, from which they can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapMark {
    at: usize,
    next: u64,
    follow: Follow,
}

impl MapMark {
    /// Returns the first block of the run at this place.
    pub const fn block(&self) -> BlockIndex {
        BlockIndex::new(self.next)
    }
}

/// Iterator over the runs of a map.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    reader: Reader<'a>,
    next: u64,
}

impl Runs<'_> {
    /// Returns the place of the next run.
    pub const fn mark(&self) -> MapMark {
        MapMark { at: self.reader.at, next: self.next, follow: self.reader.follow }
    }
}

impl Iterator for Runs<'_> {
    type Item = (BlockIndex, Run);

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.at >= self.reader.bytes.len() {
            return None;
        }
        let run = self.reader.run().expect("the map was checked when it was made");
        let first = BlockIndex::new(self.next);
        self.next += run.blocks.get();
        Some((first, run))
    }
}

#[derive(Clone, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    follow: Follow,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<Run, BadMap> {
        let offset = self.at;
        let origin = match self.byte()? {
            0 => Origin::Free,
            1 => Origin::Zero,
            2 => Origin::Base(self.small()?),
            3 => {
                let origin = Origin::Frame { pack: self.small()?, frame: self.small()?, first: self.small()? };
                if self.follow.place() == Some(origin) {
                    return Err(BadMap { offset, reason: "a place that goes without saying" });
                }
                origin
            }
            4 => self.follow.place().ok_or(BadMap { offset, reason: "an origin that does not exist" })?,
            _ => return Err(BadMap { offset, reason: "an origin that does not exist" }),
        };
        let run = Run { origin, blocks: BlockCount::new(self.number()?) };
        self.follow.pass(run);
        Ok(run)
    }

    fn byte(&mut self) -> Result<u8, BadMap> {
        let byte = self.bytes.get(self.at).copied();
        let byte = byte.ok_or(BadMap { offset: self.at, reason: "the map is cut short" })?;
        self.at += 1;
        Ok(byte)
    }

    fn small(&mut self) -> Result<u32, BadMap> {
        let offset = self.at;
        u32::try_from(self.number()?).map_err(|_| BadMap { offset, reason: "a number above 2^32" })
    }

    fn number(&mut self) -> Result<u64, BadMap> {
        let offset = self.at;
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(BadMap { offset, reason: "a number above 2^64" });
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                return minimal.then_some(number).ok_or(BadMap { offset, reason: "a number with needless zeros" });
            }
        }
        Err(BadMap { offset, reason: "a number of more than ten bytes" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(origin: Origin, blocks: u64) -> Run {
        Run { origin, blocks: BlockCount::new(blocks) }
    }

    const IMPLIED: MapEncoding = MapEncoding::Implied { frame_blocks: 10 };

    fn frame(frame: u32, first: u32) -> Origin {
        Origin::Frame { pack: 0, frame, first }
    }

    #[test]
    fn runs_are_joined_and_come_back() {
        for encoding in [MapEncoding::Explicit, IMPLIED] {
            let mut builder = MapBuilder::new(encoding);
            for piece in [
                run(Origin::Free, 3),
                run(Origin::Free, 300),
                run(frame(0, 0), 5),
                run(frame(0, 5), 5),
                run(frame(1, 0), 1),
                run(Origin::Base(0), 1 << 40),
                run(Origin::Zero, 2),
                run(frame(1, 1), 2),
            ] {
                builder.push(piece);
            }
            let map = builder.finish();
            let parsed = ImageMap::parse(map.as_bytes().to_vec(), BlockCount::new((1 << 40) + 318), encoding).unwrap();
            let runs: Vec<_> = parsed.runs().map(|(_, run)| run).collect();
            let expected = [
                run(Origin::Free, 303),
                run(frame(0, 0), 10),
                run(frame(1, 0), 1),
                run(Origin::Base(0), 1 << 40),
                run(Origin::Zero, 2),
                run(frame(1, 1), 2),
            ];
            assert_eq!(runs, expected);
            let mut reader = parsed.runs();
            for at in 0..=expected.len() {
                let rest: Vec<_> = parsed.runs_from(&reader.mark()).map(|(_, run)| run).collect();
                assert_eq!(rest, expected[at..]);
                reader.next();
            }
        }
    }

    #[test]
    fn many_small_extents_take_four_bytes_each() {
        let mut builder = MapBuilder::new(MapEncoding::Implied { frame_blocks: 256 });
        for block in 0..100_000 {
            builder.push(run(Origin::Free, 1));
            builder.push(run(frame(block / 256, block % 256), 1));
        }
        let map = builder.finish();
        assert_eq!(map.as_bytes().len(), 400_000);
        let last = map.runs().last().map(|(_, run)| run);
        assert_eq!(last, Some(run(frame(99_999 / 256, 99_999 % 256), 1)));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let parse = |bytes: &[u8], blocks, encoding| ImageMap::parse(bytes.to_vec(), BlockCount::new(blocks), encoding);
        let refused = |bytes: &[u8], blocks| parse(bytes, blocks, MapEncoding::Explicit).unwrap_err();
        assert_eq!(refused(&[0, 0], 0).reason, "a run of no blocks");
        assert_eq!(refused(&[0, 1, 0, 1], 2).reason, "a run that only continues the one before it");
        assert_eq!(refused(&[0, 0x81, 0], 1).reason, "a number with needless zeros");
        assert_eq!(refused(&[0, 2], 1).reason, "the runs go past the end of the disk");
        assert_eq!(refused(&[0, 2], 3).reason, "the runs end before the disk does");
        assert_eq!(refused(&[4, 1], 1).reason, "an origin that does not exist");
        assert_eq!(refused(&[0], 1).reason, "the map is cut short");
        assert!(parse(&[4, 1], 1, IMPLIED).is_ok());
        let said = parse(&[3, 0, 0, 0, 1], 1, IMPLIED).unwrap_err();
        assert_eq!(said.reason, "a place that goes without saying");
        let mut huge = vec![0];
        huge.extend([0xff; 9]);
        huge.push(2);
        assert_eq!(refused(&huge, 1).reason, "a number above 2^64");
    }
}
