//! A second opinion: the map that `partclone` prints of a file system whose word alone is not proof enough.
//!
//! What is free in such a file system is free only when its own bitmap, read here and cross-checked with all that the
//! format offers, says so and partclone does, too. Partclone reads a read-only loop device that has the partition and
//! nothing else, so it cannot write to the disk, whatever it does. It is run without a shell and with nothing of our
//! environment, and its output is bounded and read strictly. Whatever goes wrong is a doubt, and the partition is data.

mod loop_device;
mod map;
mod program;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::content::Content;
use super::doubt::Stop;
use super::filesystem::{CrossCheck, Evidence, FileSystem};
use super::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
use loop_device::LoopDevice;
pub use map::MapFault;

/// Permission to ask partclone about a disk, and what it needs for that.
#[derive(Clone, Debug)]
pub struct Partclone<'a> {
    /// The disk, as another program opens it: a device or a file.
    pub disk: PathBuf,
    /// Where on it the part that is surveyed begins.
    pub start: ByteOffset,
    /// Where `partclone.*` and `losetup` are looked for, in this order.
    pub folders: Vec<PathBuf>,
    /// How long a program may take.
    pub patience: Duration,
    /// Becomes true when the survey has to end.
    pub cancel: &'a AtomicBool,
}

impl<'a> Partclone<'a> {
    /// How long partclone may take if nobody says otherwise: it only reads metadata.
    pub const PATIENCE: Duration = Duration::from_secs(600);

    /// Allows the programs in the path, and in the folders that Debian keeps out of the path of users.
    pub fn installed(disk: &Path, start: ByteOffset, cancel: &'a AtomicBool) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        let folders = folders.chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from)).collect();
        Self { disk: disk.to_owned(), start, folders, patience: Self::PATIENCE, cancel }
    }

    /// Returns where a program is.
    fn find(&self, program: &'static str) -> Result<PathBuf, PartcloneDoubt> {
        let mut places = self.folders.iter().map(|folder| folder.join(program));
        places.find(|place| place.is_file()).ok_or(PartcloneDoubt::Missing { program })
    }
}

/// Why there is no second opinion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartcloneDoubt {
    /// There was no permission, or no file or device.
    #[error("{0} counts only when partclone agrees, and it was not asked: it needs a partition of a disk or a file")]
    NotAsked(Content),
    /// A program is not there.
    #[error("{program} is not installed")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// The path does not lead anywhere.
    #[error("the path of the disk cannot be resolved: {0}")]
    Path(String),
    /// The partition could not be shown to partclone.
    #[error("partclone needs a loop device, which takes root: {0}")]
    Loop(String),
    /// A program did not start.
    #[error("{program} cannot be run: {reason}")]
    Start {
        /// Its name.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// A program gave up.
    #[error("{program} does not vouch for it: {status}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
    },
    /// A program took too long.
    #[error("{program} was still busy after {seconds} seconds")]
    Slow {
        /// Its name.
        program: String,
        /// For how long it was waited.
        seconds: u64,
    },
    /// The caller wants to stop.
    #[error("the survey was interrupted")]
    Cancelled,
    /// What was printed is no map.
    #[error("the map of partclone {0}")]
    Map(#[from] MapFault),
    /// It speaks of another file system.
    #[error("the map of partclone ends at byte {map} of the partition, the file system at {file_system}")]
    OtherSize {
        /// The end of the map.
        map: u64,
        /// The end of the file system.
        file_system: u64,
    },
    /// It has other free space.
    #[error("partclone and the file system do not agree on {0} bytes")]
    Differs(u64),
}

/// What a file system says of itself: a consistent word, but not proof enough to be believed alone.
#[derive(Debug)]
pub(crate) struct OwnWord {
    /// What is allocated of the partition.
    pub(crate) allocated: Extents,
    /// Where the file system ends, in whole clusters.
    pub(crate) end: u64,
    /// The size of a cluster.
    pub(crate) cluster_size: ByteLen,
    /// What it was compared with.
    pub(crate) cross_check: CrossCheck,
}

/// A file system that says the same as partclone.
#[derive(Debug)]
pub(crate) struct Agreed {
    content: Content,
    evidence: Evidence,
    allocated: Extents,
}

impl Agreed {
    /// Reads what the file system says, asks partclone, and takes as free what is free for both.
    pub(crate) fn read(
        window: &Window<'_>,
        content: Content,
        program: &'static str,
        partclone: Option<&Partclone<'_>>,
        own: impl FnOnce(&Window<'_>) -> Result<OwnWord, Stop>,
    ) -> Result<Self, Stop> {
        let partclone = partclone.ok_or(PartcloneDoubt::NotAsked(content))?;
        let program = partclone.find(program)?;
        let own = own(window)?;
        let device = LoopDevice::attach(window, partclone)?;
        let map = program::map(&program, device.path(), partclone)?;
        if map.end != own.end {
            return Err(PartcloneDoubt::OtherSize { map: map.end, file_system: own.end }.into());
        }
        let partition = window.range().len;
        let both = union(&own.allocated, &map.used, map.end, partition);
        let behind = partition.get().saturating_sub(map.end);
        let fewer = own.allocated.total().get().saturating_sub(behind).min(map.used.total().get());
        let evidence = Evidence::Partclone {
            version: map.version,
            cross_check: own.cross_check,
            cluster_size: own.cluster_size,
            free: ByteLen::new(partition.get().saturating_sub(both.total().get())),
            disputed: ByteLen::new(both.total().get().saturating_sub(behind).saturating_sub(fewer)),
        };
        Ok(Self { content, evidence, allocated: both })
    }
}

impl FileSystem for Agreed {
    fn name(&self) -> Content {
        self.content
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter())
    }
}

/// Returns what is allocated for one of two, and everything behind the file system.
fn union(own: &Extents, map: &Extents, end: u64, partition: ByteLen) -> Extents {
    let mut list = ExtentsBuilder::new();
    let (mut own, mut map) = (own.iter().peekable(), map.iter().peekable());
    loop {
        let next = match (own.peek(), map.peek()) {
            (Some(first), Some(second)) if second.start < first.start => map.next(),
            (Some(_), _) => own.next(),
            (None, _) => map.next(),
        };
        let Some(range) = next else { break };
        list.add(range);
    }
    list.push(end, partition.get());
    list.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extents(pieces: &[(u64, u64)]) -> Extents {
        let mut list = ExtentsBuilder::new();
        let mut at = 0;
        for (gap, len) in pieces {
            list.push(at + gap, at + gap + len);
            at += gap + len;
        }
        list.finish()
    }

    fn has(extents: &Extents, at: u64) -> bool {
        super::super::clusters::holds(extents, ByteRange { start: ByteOffset::new(at), len: ByteLen::new(1) })
    }

    proptest! {
        #[test]
        fn free_is_what_both_call_free(
            own in prop::collection::vec((0_u64..9, 1_u64..9), 0..20),
            map in prop::collection::vec((0_u64..9, 1_u64..9), 0..20),
        ) {
            let (own, map) = (extents(&own), extents(&map));
            let both = union(&own, &map, 300, ByteLen::new(310));
            for at in 0..310 {
                prop_assert_eq!(has(&both, at), has(&own, at) || has(&map, at) || at >= 300, "{}", at);
            }
        }
    }
}
