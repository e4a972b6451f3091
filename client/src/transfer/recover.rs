//! What is done with an item, by the last record about it and what is on disk. This is the whole table; the tests of it
//! are its rows, and `docs/transfers.md` prints it.

use std::fmt;

use super::place::Place;
use super::state::{Item, Progress};

/// What is found of the source of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its seal is that of the journal, or there is none yet. An object of a boss is always that.
    Same,
    /// It is another file, or has changed.
    Changed,
    /// There is nothing.
    Gone,
}

/// What is found under the name the item is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nothing.
    Absent,
    /// A file whose content is what the journal says.
    Ours,
    /// Something else.
    Foreign,
}

/// What is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The source.
    pub source: Source,
    /// Whether the temporary file is there.
    pub temporary: bool,
    /// What has the final name.
    pub destination: Destination,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Seal the source and begin.
    Begin,
    /// Check the chunks in the temporary file, keep the good ones from the front, and go on.
    Continue,
    /// Throw away what there is and begin again; the source is what it was.
    StartOver,
    /// Read the temporary file back, then give it metadata and name.
    Finish,
    /// The name was given, but not recorded: make it durable and record it.
    RecordName,
    /// As before, and a second copy under the temporary name goes.
    RecordNameAndTidy,
    /// Nothing.
    Nothing,
    /// This cannot be finished.
    Fail(Loss),
}

/// Why an item cannot be finished. All that is there stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The source is not what it was: going on would mix two files.
    SourceChanged,
    /// The source is gone before everything was copied.
    SourceGone,
    /// Something else has the final name.
    InTheWay,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceChanged => {
                "changed since the transfer began: going on would mix two files; forget the transfer and create it anew"
            }
            Self::SourceGone => "is gone, and not all of it was copied",
            Self::InTheWay => "is in the way: what is there is not of this transfer and is not overwritten",
        })
    }
}

impl Loss {
    /// Returns what of an item it is about.
    pub fn place(self, item: &Item) -> Place {
        match self {
            Self::InTheWay => item.destination.clone(),
            Self::SourceChanged | Self::SourceGone => item.source.clone(),
        }
    }
}

/// Returns what is done with a file.
pub const fn decide(progress: &Progress, found: Found) -> Action {
    use {Destination as D, Source as S};
    match (progress, found.source, found.temporary, found.destination) {
        (Progress::Renamed { .. } | Progress::Stored { .. } | Progress::Released, ..) => Action::Nothing,
        (Progress::Finalizing { .. }, _, false, D::Ours) => Action::RecordName,
        (Progress::Finalizing { .. }, _, true, D::Ours) => Action::RecordNameAndTidy,
        (_, _, _, D::Ours | D::Foreign) => Action::Fail(Loss::InTheWay),
        (Progress::Added, S::Same | S::Changed, _, D::Absent) => Action::Begin,
        (
            Progress::DataComplete { .. } | Progress::Verified { .. } | Progress::Finalizing { .. },
            _,
            true,
            D::Absent,
        ) => Action::Finish,
        (Progress::Sealed { .. }, S::Same, true, D::Absent) => Action::Continue,
        (_, S::Same, _, D::Absent) => Action::StartOver,
        (_, S::Changed, _, D::Absent) => Action::Fail(Loss::SourceChanged),
        (_, S::Gone, _, D::Absent) => Action::Fail(Loss::SourceGone),
    }
}

#[cfg(test)]
mod tests {
    use sigs::Digest;

    use super::*;

    #[test]
    fn every_pair_has_its_action() {
        use {Destination as D, Source as S};
        let digest = Digest::of(b"");
        let all = [
            Progress::Added,
            Progress::Sealed { chunks: Vec::new() },
            Progress::DataComplete { digest },
            Progress::Verified { digest },
            Progress::Finalizing { digest },
            Progress::Renamed { digest: Some(digest) },
            Progress::Stored { digest },
            Progress::Released,
        ];
        for progress in &all {
            for source in [S::Same, S::Changed, S::Gone] {
                for temporary in [false, true] {
                    for destination in [D::Absent, D::Ours, D::Foreign] {
                        let action = decide(progress, Found { source, temporary, destination });
                        let named =
                            matches!(progress, Progress::Renamed { .. } | Progress::Stored { .. } | Progress::Released);
                        let complete = matches!(
                            progress,
                            Progress::DataComplete { .. } | Progress::Verified { .. } | Progress::Finalizing { .. }
                        );
                        let finalizing = matches!(progress, Progress::Finalizing { .. });
                        let expected = match () {
                            () if named => Action::Nothing,
                            () if finalizing && destination == D::Ours && temporary => Action::RecordNameAndTidy,
                            () if finalizing && destination == D::Ours => Action::RecordName,
                            // What somebody else put there is never overwritten.
                            () if destination != D::Absent => Action::Fail(Loss::InTheWay),
                            // Complete data needs no source any more.
                            () if complete && temporary => Action::Finish,
                            () if source == S::Gone => Action::Fail(Loss::SourceGone),
                            () if *progress == Progress::Added => Action::Begin,
                            () if source == S::Changed => Action::Fail(Loss::SourceChanged),
                            () if !complete && temporary => Action::Continue,
                            () => Action::StartOver,
                        };
                        assert_eq!(action, expected, "{progress:?} {source:?} {temporary} {destination:?}");
                    }
                }
            }
        }
    }
}
