//! What may be arriving, and what it becomes when all of it is there.

use std::fmt;
use std::str::FromStr;

use boss_api::ids::CaptureId;
use sha2::{Digest as _, Sha256};
use sigs::zdi::{Contents, HEADER_BYTES, header_bytes};
use sigs::{ByteOffset, Digest};

use super::staging::Placed;

/// Something that arrives in frames, by its name in the staging folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arrival {
    /// The saving of a disk: it becomes an image, whose digest nobody knows before.
    Capture(CaptureId),
    /// An object that somebody uploads, by its digest.
    Object(Digest),
}

impl From<CaptureId> for Arrival {
    fn from(capture: CaptureId) -> Self {
        Self::Capture(capture)
    }
}

impl From<Digest> for Arrival {
    fn from(object: Digest) -> Self {
        Self::Object(object)
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture(capture) => capture.fmt(f),
            Self::Object(object) => object.fmt(f),
        }
    }
}

/// A name that is neither that of a capture nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoArrival;

impl FromStr for Arrival {
    type Err = NoArrival;
    fn from_str(text: &str) -> Result<Self, NoArrival> {
        let capture = || text.parse().ok().map(Self::Capture);
        text.parse().ok().map(Self::Object).or_else(capture).ok_or(NoArrival)
    }
}

impl Arrival {
    /// Returns what comes before its frames.
    pub(super) fn preface(self) -> Vec<u8> {
        match self {
            Self::Capture(_) => header_bytes().to_vec(),
            Self::Object(_) => Vec::new(),
        }
    }

    /// Returns how long that is.
    pub(super) const fn preface_len(self) -> u64 {
        match self {
            Self::Capture(_) => HEADER_BYTES,
            Self::Object(_) => 0,
        }
    }
}

/// What an upload becomes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whole<'a> {
    /// An image: frames wherever they lie, and behind them what says so.
    Image(&'a Contents),
    /// An object of this digest: these pieces, one after the other, and nothing else.
    Object(Digest, &'a [Digest]),
}

impl Whole<'_> {
    /// Returns what tells it from any other.
    pub(super) fn identity(&self) -> Digest {
        match self {
            Self::Image(contents) => Digest::of(&contents.to_wire()),
            Self::Object(_, pieces) => {
                let mut hash = Sha256::new();
                pieces.iter().for_each(|piece| hash.update(piece.as_bytes()));
                Digest::from_bytes(hash.finalize().into())
            }
        }
    }

    /// Returns the digest it must have, if that is known before it is made.
    pub(super) const fn expected(&self) -> Option<Digest> {
        match self {
            Self::Image(_) => None,
            Self::Object(object, _) => Some(*object),
        }
    }

    /// Returns where its frames lie, in its order, unless one is missing or not what it should be.
    pub(super) fn places(&self, mut find: impl FnMut(Digest) -> Option<Placed>) -> Option<Vec<Placed>> {
        match self {
            Self::Image(contents) => {
                let mut place = |digest, len| find(digest).filter(|placed| placed.len == len);
                contents.frames.iter().map(|frame| place(frame.digest, frame.stored_bytes)).collect()
            }
            Self::Object(_, pieces) => pieces.iter().map(|piece| find(*piece)).collect(),
        }
    }

    /// Returns whether its frames may stay where they lie, given that they are as many bytes as arrived.
    pub(super) fn lies_well(&self, name: Arrival, places: &[Placed]) -> bool {
        match self {
            Self::Image(_) => {
                let mut distinct: Vec<_> = places.iter().map(|placed| placed.offset).collect();
                distinct.sort_unstable();
                distinct.dedup();
                distinct.len() == places.len()
            }
            Self::Object(..) => {
                let mut end = name.preface_len();
                places.iter().all(|placed| {
                    let next = placed.offset == end;
                    end += u64::from(placed.len);
                    next
                })
            }
        }
    }

    /// Returns what comes behind its frames.
    pub(super) fn tail(&self, placement: &[ByteOffset], frames_end: ByteOffset) -> Vec<u8> {
        match self {
            Self::Image(contents) => contents.encode_tail(placement, frames_end),
            Self::Object(..) => Vec::new(),
        }
    }
}
