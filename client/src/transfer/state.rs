//! What the records of a journal add up to, and which record may follow which.

use std::path::{Path, PathBuf};

use sigs::{ByteLen, Digest};
use uuid::Uuid;

use super::journal::folder_of;
use super::place::{Object, Place};
use super::record::{Addition, ItemKind, Metadata, Options, Record, Seal};

/// A record that does not fit what came before it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("record {number} ({what}) cannot follow what came before it")]
pub struct Impossible {
    /// Which record.
    pub number: usize,
    /// What it says.
    pub what: String,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Things are being added.
    Created,
    /// They are being copied.
    Dispatched,
    /// Everything has its name, durably.
    Committed,
    /// Nothing is left to do.
    Closed,
}

/// How an attempt stands that is not at work.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing stopped it; if nobody works on it, it was cut off.
    Open,
    /// Somebody asked it to stop; it can be resumed.
    Stopped,
    /// Somebody wants no more of it.
    Cancelled,
    /// It failed, and can be resumed.
    Failed {
        /// What kind of failure.
        class: String,
        /// What happened.
        detail: String,
    },
}

/// How far one item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was added.
    Added,
    /// Its source is known; so many chunks of it are durable.
    Sealed {
        /// The digests of the durable chunks.
        chunks: Vec<Digest>,
    },
    /// All chunks are durable.
    DataComplete {
        /// The digest over their digests.
        digest: Digest,
    },
    /// What was written was read back.
    Verified {
        /// The digest over the digests of its chunks.
        digest: Digest,
    },
    /// It may have its name by now, or not.
    Finalizing {
        /// The digest over the digests of its chunks.
        digest: Digest,
    },
    /// It has its name.
    Renamed {
        /// Of a file: the digest over the digests of its chunks.
        digest: Option<Digest>,
    },
    /// A boss has it as the object of this digest.
    Stored {
        /// The digest of the object.
        digest: Digest,
    },
    /// Its source was removed.
    Released,
}

/// What a source was when the transfer began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Something of this machine, and what it has besides its content.
    Local(Seal, Metadata),
    /// An object of a boss of so many bytes.
    Object(ByteLen),
}

impl Sealed {
    /// Returns the size.
    pub const fn size(&self) -> ByteLen {
        match self {
            Self::Local(seal, _) => seal.size,
            Self::Object(size) => *size,
        }
    }
}

/// One thing to be transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is.
    pub source: Place,
    /// Where it goes.
    pub destination: Place,
    /// What it is.
    pub kind: ItemKind,
    /// What its source was.
    pub sealed: Option<Sealed>,
    /// How far it is.
    pub progress: Progress,
}

impl Item {
    fn new(added: Addition) -> Self {
        let Addition { source, destination, kind } = added;
        Self { source, destination, kind, sealed: None, progress: Progress::Added }
    }

    /// Returns the object of a boss that it is a copy of.
    pub const fn object(&self) -> Option<&Object> {
        match &self.source {
            Place::Object(object) => Some(object),
            Place::Path(_) | Place::Store(_) => None,
        }
    }

    /// Returns the seal of a source on this machine.
    pub const fn seal(&self) -> Option<&Seal> {
        match &self.sealed {
            Some(Sealed::Local(seal, _)) => Some(seal),
            Some(Sealed::Object(_)) | None => None,
        }
    }

    /// Returns where it is while it is not whole: beside its name, so that a rename is enough.
    pub fn temporary(&self, transfer: Uuid, number: u32) -> Option<PathBuf> {
        let name = format!(".ebb-{transfer}-{number}.partial");
        self.destination.path().map(|path: &Path| folder_of(path).join(name))
    }

    /// Returns true once it has its name.
    pub const fn arrived(&self) -> bool {
        matches!(self.progress, Progress::Renamed { .. } | Progress::Stored { .. } | Progress::Released)
    }
}

/// A transfer as its journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub id: Uuid,
    /// How it is done.
    pub options: Options,
    /// How far it is.
    pub phase: Phase,
    /// The last attempt, counted from 1; 0 before the first.
    pub attempt: u32,
    /// How the last attempt stands.
    pub verdict: Verdict,
    /// What is transferred.
    pub items: Vec<Item>,
}

impl State {
    /// Adds records up.
    ///
    /// # Errors
    /// [`Impossible`] for the first record that does not fit.
    pub fn of(records: &[Record]) -> Result<Self, Impossible> {
        let impossible = |number: usize, record: &Record| Impossible { number, what: name_of(record) };
        let (first, rest) = records.split_first().ok_or(Impossible { number: 0, what: "nothing".to_owned() })?;
        let Record::Created { id, options } = first else { return Err(impossible(0, first)) };
        let mut state = Self {
            id: *id,
            options: *options,
            phase: Phase::Created,
            attempt: 0,
            verdict: Verdict::Open,
            items: Vec::new(),
        };
        for (number, record) in (1..).zip(rest) {
            state.apply(record).ok_or_else(|| impossible(number, record))?;
        }
        Ok(state)
    }

    /// Takes one more record, or returns nothing when it does not fit.
    pub fn apply(&mut self, record: &Record) -> Option<()> {
        let ended = self.phase == Phase::Closed;
        let given_up = self.verdict == Verdict::Cancelled && *record != Record::Closed;
        if ended || given_up {
            return None;
        }
        match record {
            Record::Created { .. } => return None,
            Record::Added { items } => {
                if self.phase != Phase::Created || !items.iter().all(is_possible) {
                    return None;
                }
                self.items.extend(items.iter().cloned().map(Item::new));
            }
            Record::Dispatched { attempt } => {
                if self.phase != Phase::Created || *attempt != 1 {
                    return None;
                }
                (self.phase, self.attempt) = (Phase::Dispatched, 1);
            }
            Record::Resumed { attempt } => {
                if self.attempt == 0 || *attempt != self.attempt.checked_add(1)? {
                    return None;
                }
                (self.attempt, self.verdict) = (*attempt, Verdict::Open);
            }
            Record::Committed => {
                let arrived = self.items.iter().all(Item::arrived);
                if self.phase != Phase::Dispatched || !arrived {
                    return None;
                }
                self.phase = Phase::Committed;
            }
            Record::Closed => {
                if self.phase != Phase::Committed && self.verdict != Verdict::Cancelled {
                    return None;
                }
                self.phase = Phase::Closed;
            }
            Record::Cancelled => {
                if self.phase == Phase::Committed {
                    return None;
                }
                self.verdict = Verdict::Cancelled;
            }
            Record::Stopped => {
                if self.attempt == 0 {
                    return None;
                }
                self.verdict = Verdict::Stopped;
            }
            Record::Failed { class, detail, .. } => {
                self.verdict = Verdict::Failed { class: class.clone(), detail: detail.clone() };
            }
            Record::Sealed { item, seal, metadata } => {
                let found = self.item(*item)?;
                if found.progress != Progress::Added {
                    return None;
                }
                found.source.path()?;
                found.sealed = Some(Sealed::Local(*seal, metadata.clone()));
                found.progress = Progress::Sealed { chunks: Vec::new() };
            }
            Record::Measured { item, bytes } => {
                let found = self.item(*item)?;
                if found.progress != Progress::Added {
                    return None;
                }
                found.object()?;
                found.sealed = Some(Sealed::Object(*bytes));
                found.progress = Progress::Sealed { chunks: Vec::new() };
            }
            Record::Chunks { item, first, digests } => {
                let Progress::Sealed { chunks } = &mut self.item(*item)?.progress else { return None };
                // What a later attempt found to be missing is written again from there.
                let first = usize::try_from(*first).ok().filter(|first| *first <= chunks.len())?;
                chunks.truncate(first);
                chunks.extend(digests);
            }
            Record::Discarded { item } => {
                let progress = &mut self.item(*item)?.progress;
                match progress {
                    Progress::Sealed { .. }
                    | Progress::DataComplete { .. }
                    | Progress::Verified { .. }
                    | Progress::Finalizing { .. } => *progress = Progress::Sealed { chunks: Vec::new() },
                    Progress::Added | Progress::Renamed { .. } | Progress::Stored { .. } | Progress::Released => {
                        return None;
                    }
                }
            }
            Record::Stored { item, digest } => {
                let found = self.item(*item)?;
                let (Progress::Sealed { .. }, Place::Store(_)) = (&found.progress, &found.destination) else {
                    return None;
                };
                found.progress = Progress::Stored { digest: *digest };
            }
            Record::DataComplete { item, digest } => {
                let found = self.item(*item)?;
                found.destination.path()?;
                let progress = &mut found.progress;
                let Progress::Sealed { .. } = progress else { return None };
                *progress = Progress::DataComplete { digest: *digest };
            }
            Record::Verified { item } => {
                let progress = &mut self.item(*item)?.progress;
                let Progress::DataComplete { digest } = *progress else { return None };
                *progress = Progress::Verified { digest };
            }
            Record::Finalizing { item } => {
                let progress = &mut self.item(*item)?.progress;
                let Progress::Verified { digest } = *progress else { return None };
                *progress = Progress::Finalizing { digest };
            }
            Record::Renamed { item } => {
                let found = self.item(*item)?;
                let digest = match (&found.progress, found.kind) {
                    (Progress::Finalizing { digest }, ItemKind::File) => Some(*digest),
                    // Directories and links have no content to be verified.
                    (Progress::Sealed { .. }, ItemKind::Directory | ItemKind::Link) => None,
                    _ => return None,
                };
                found.progress = Progress::Renamed { digest };
            }
            Record::SourceReleased { item } => {
                if self.phase != Phase::Committed || !self.options.release_sources {
                    return None;
                }
                let progress = &mut self.item(*item)?.progress;
                let Progress::Renamed { .. } = progress else { return None };
                *progress = Progress::Released;
            }
        }
        Some(())
    }

    /// An item of a transfer that is under way.
    fn item(&mut self, number: u32) -> Option<&mut Item> {
        if !matches!(self.phase, Phase::Dispatched | Phase::Committed) {
            return None;
        }
        self.items.get_mut(usize::try_from(number).ok()?)
    }
}

/// Returns whether there can be such an item: what is no plain file stays on this machine.
const fn is_possible(item: &Addition) -> bool {
    match (&item.source, &item.destination) {
        (Place::Path(_), Place::Path(_)) => true,
        (Place::Object(_), Place::Path(_)) | (Place::Path(_), Place::Store(_)) => matches!(item.kind, ItemKind::File),
        (Place::Store(_), _) | (_, Place::Object(_)) | (Place::Object(_), Place::Store(_)) => false,
    }
}

fn name_of(record: &Record) -> String {
    let value = serde_json::to_value(record).unwrap_or_default();
    value.get("record").and_then(serde_json::Value::as_str).unwrap_or("?").to_owned()
}
