//! The judges of a crashed disk: its restored copies, replayed by e2fsck and by the kernel, against itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imagezip::alloc::filesystem::ReplayedLog;
use imagezip::alloc::{Evidence, Survey, SurveyOptions, Treatment, survey};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen};

use super::super::tools::{Pairs, complement, covers, numbers, pairs, run, run_any, survey_of};
use super::crash::STALE;
use crate::mounted::{Mount, tree};
use crate::support::{make, open, restore_to};

/// What was on the target before.
const GARBAGE: &[u8; 32] = b"garbage of a disk of someone els";

type Tree = BTreeMap<PathBuf, (u32, u32, u64, Vec<u8>)>;

/// The size of a block in bytes, and that of a cluster in blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) block: u64,
    pub(super) cluster: u64,
}

/// How strictly a disk is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// What a replay leaves allocated is, and there is no stale data where it is free.
    Exact,
    /// The replay takes blocks for itself and fills them.
    Takes,
    /// Blocks that the disk has as allocated were never written: their data waits in the journal, or they are the rest
    /// of a cluster.
    Late,
}

/// Who replays a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replayer {
    E2fsck,
    Kernel,
}

/// Returns what the survey says of the log.
pub(super) fn log(survey: &Survey) -> ReplayedLog {
    match &survey.partitions[0].treatment {
        Treatment::Proven { evidence: Evidence::ExtBitmaps { journal: Some(log), .. } } => *log,
        other => panic!("{other:?}"),
    }
}

/// Returns what `dumpe2fs` has as allocated.
pub(super) fn allocated(path: &Path, sizes: Sizes) -> Pairs {
    let mut free: Pairs = Vec::new();
    for line in run("dumpe2fs", &[&path.display().to_string()]).lines() {
        for part in line.strip_prefix("  Free blocks: ").unwrap_or("").split(", ").filter(|part| !part.is_empty()) {
            let (first, last) = numbers(part);
            // Of the last cluster of a range only the first block is printed.
            free.push((first * sizes.block, (last / sizes.cluster + 1) * sizes.cluster * sizes.block));
        }
    }
    complement(&free, fs::metadata(path).unwrap().len())
}

/// Replays a copy of a disk and returns what it shows; `None` when that is not possible here.
fn replayed(path: &Path, replayer: Replayer) -> Option<Tree> {
    let text = path.display().to_string();
    if replayer == Replayer::E2fsck {
        let (status, said) = run_any("e2fsck", &["-f", "-y", &text]);
        assert!(status <= 1 && said.contains("recovering journal"), "{status}: {said}");
    }
    let mount = Mount::new(path, "")?;
    let found = tree(mount.path());
    mount.unmount();
    let (status, said) = run_any("e2fsck", &["-f", "-n", &text]);
    assert_eq!(status, 0, "{replayer:?}: {said}");
    Some(found)
}

/// Takes an image of a crashed disk and proves that its copies are as good as itself.
pub(super) fn judge(disk: &Path, sizes: Sizes, measure: Measure, round: usize, what: &str) -> Option<ReplayedLog> {
    let bytes = fs::read(disk).unwrap();
    let survey = survey_of(&bytes);
    let found = log(&survey);
    let ours = pairs(&survey.allocated);
    let layout = Layout::from_survey(ByteLen::of(&bytes), &survey).unwrap();
    let made = make(&bytes, &layout, &[], BlockSize::DEFAULT).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");

    for (replayer, turn) in [(Replayer::E2fsck, round), (Replayer::Kernel, round + 1)] {
        fs::write(&path, &bytes).unwrap();
        let original = replayed(&path, replayer)?;
        let theirs = allocated(&path, sizes);
        assert!(measure == Measure::Takes || covers(&ours, &theirs), "{what}: {replayer:?} has more allocated");

        // Whichever of the two a disk is restored with, the other one has its turn in the next round.
        let policy = if turn.is_multiple_of(2) { FreePolicy::Zero } else { FreePolicy::Keep };
        let target = MemoryDisk::new(GARBAGE.repeat(bytes.len() / GARBAGE.len()));
        restore_to(&open(&made.image, &[]).unwrap(), &target, policy, false).unwrap();
        let restored = target.content();
        // Some metadata is allocated and never written.
        assert!(measure == Measure::Late || covers(&theirs, &stale(&restored)), "{what}: stale data came along");
        fs::write(&path, &restored).unwrap();
        let copy = replayed(&path, replayer)?;
        assert!(copy == original, "{what}: {replayer:?} {policy:?}: {}", difference(&original, &copy));
    }
    Some(found)
}

/// Returns the sectors that nobody ever wrote.
fn stale(disk: &[u8]) -> Pairs {
    let sectors = (0..).step_by(512).zip(disk.chunks(512));
    sectors.filter(|(_, sector)| sector.starts_with(STALE)).map(|(at, _)| (at, at + 512)).collect()
}

fn difference(original: &Tree, copy: &Tree) -> String {
    let lost = original.iter().filter(|(name, about)| copy.get(*name) != Some(*about)).map(|(name, _)| name);
    let lost: Vec<_> = lost.take(5).collect();
    format!("{} names, then {}; not the same: {lost:?}", original.len(), copy.len())
}

/// Returns the share of a disk that is allocated.
pub(super) fn share(disk: &Path) -> f64 {
    let file = sigs::source::FileSource::open(disk).unwrap();
    let survey = survey(&file, SurveyOptions::default()).unwrap();
    let total = f64::from(u32::try_from(survey.allocated.total().get() / 512).unwrap());
    total / f64::from(u32::try_from(fs::metadata(disk).unwrap().len() / 512).unwrap())
}
