//! Which blocks of the file system the journal has.

use std::ops::Range;

use super::JournalDoubt;

/// How many pieces are kept: 1 MiB of them. A journal is made in one piece, or in one for each group.
const MOST_RUNS: usize = 1 << 16;

/// A piece of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its first block, counted from the start of the journal.
    pub(crate) first: u32,
    /// That block, counted from the start of the file system.
    pub(crate) home: u64,
    /// How many blocks it has.
    pub(crate) len: u32,
}

/// The blocks of a journal, without holes, no block twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    runs: Vec<Run>,
    /// The blocks of the file system, in its order.
    homes: Vec<Range<u64>>,
}

impl Place {
    /// Takes the pieces in the order of the journal, and proves that they are one.
    pub(crate) fn new(pieces: impl IntoIterator<Item = Run>) -> Result<Self, JournalDoubt> {
        let mut runs: Vec<Run> = Vec::new();
        let mut next = 0_u32;
        for piece in pieces {
            if piece.first != next {
                return Err(JournalDoubt::Place("has a hole"));
            }
            next = next.checked_add(piece.len).ok_or(JournalDoubt::Place("is too long"))?;
            let full = runs.len() == MOST_RUNS;
            match runs.last_mut() {
                Some(last) if last.home.checked_add(u64::from(last.len)) == Some(piece.home) => last.len += piece.len,
                _ if full => {
                    return Err(JournalDoubt::TooMany { most: MOST_RUNS, what: "pieces" });
                }
                _ => runs.push(piece),
            }
        }
        let mut homes: Vec<_> = runs.iter().map(|run| run.home..run.home.saturating_add(u64::from(run.len))).collect();
        homes.sort_unstable_by_key(|run| run.start);
        let apart = homes.windows(2).all(|pair| match pair {
            [first, second] => first.end <= second.start,
            _ => true,
        });
        if apart { Ok(Self { runs, homes }) } else { Err(JournalDoubt::Place("has a block twice")) }
    }

    /// Returns how many blocks there are.
    pub(crate) fn blocks(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.first.saturating_add(run.len))
    }

    /// Returns the place of a block of the journal.
    pub(crate) fn block(&self, block: u32) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.first <= block).checked_sub(1)?;
        let run = self.runs.get(at)?;
        let inside = block.checked_sub(run.first).filter(|inside| *inside < run.len)?;
        run.home.checked_add(u64::from(inside))
    }

    /// Returns the blocks of the file system, in its order.
    pub(crate) fn homes(&self) -> &[Range<u64>] {
        &self.homes
    }

    /// Returns true if a block of the file system is one of the journal.
    pub(crate) fn includes(&self, home: u64) -> bool {
        let at = self.homes.partition_point(|run| run.end <= home);
        self.homes.get(at).is_some_and(|run| run.start <= home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u32, home: u64, len: u32) -> Run {
        Run { first, home, len }
    }

    #[test]
    fn finds_blocks_in_their_pieces() {
        let place = Place::new([run(0, 100, 3), run(3, 103, 2), run(5, 50, 10)]).unwrap();
        assert_eq!(place.blocks(), 15);
        assert_eq!([0, 4, 5, 14].map(|block| place.block(block).unwrap()), [100, 104, 50, 59]);
        assert_eq!(place.block(15), None);
        assert_eq!(place.homes(), [50..60, 100..105]);
        assert_eq!(
            [49, 50, 59, 60, 104, 105].map(|home| place.includes(home)),
            [false, true, true, false, true, false]
        );
    }

    #[test]
    fn has_no_holes_and_no_block_twice() {
        assert_eq!(Place::new([run(1, 100, 3)]), Err(JournalDoubt::Place("has a hole")));
        assert_eq!(Place::new([run(0, 100, 3), run(4, 200, 1)]), Err(JournalDoubt::Place("has a hole")));
        assert_eq!(Place::new([run(0, 100, 3), run(3, 102, 1)]), Err(JournalDoubt::Place("has a block twice")));
        assert_eq!(Place::new([run(0, 9, u32::MAX), run(u32::MAX, 0, 1)]), Err(JournalDoubt::Place("is too long")));
        assert_eq!(Place::new([]).unwrap().block(0), None);
    }
}
