//! A file system in a few states, one after the other: what turns one into the next is what a log has to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use imagezip::alloc::Survey;

use super::super::super::tools::{Image, crc32c, pairs, reason, run, run_any, survey_of};
use super::super::judge::{Sizes, allocated, log};
use super::writer::{Format, Log, MAGIC, Place};

pub(super) const BLOCK: usize = 1024;
const BLOCKS: u64 = 8192;
const SIZES: Sizes = Sizes { block: 1024, cluster: 1 };
const SUPERBLOCK: u64 = 1;
const NEEDS_RECOVERY: u8 = 4;

/// Blocks with the number of their place, in order.
pub(super) type Blocks = Vec<(u64, Vec<u8>)>;

/// The disks in the order of time, all of them as if they were in use.
#[derive(Debug)]
pub(super) struct States {
    image: Image,
    pub(super) disks: Vec<Vec<u8>>,
    /// What `dumpe2fs` has as allocated in each of them.
    used: Vec<BTreeSet<u64>>,
    /// The first block of the journal, all of which lie behind each other, and how many there are.
    pub(super) journal: u64,
    pub(super) len: u32,
}

/// What there has to be once a log is replayed.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) disk: Vec<u8>,
    pub(super) homes: BTreeSet<u64>,
}

impl States {
    pub(super) fn new(options: &[&str]) -> Self {
        let mut all = vec!["-g", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
        all.extend(options);
        let image = Image::fresh("ext4", 1024, BLOCKS, &all);
        let text = image.debugfs("stat <8>\n");
        let (_, extents) = text.split_once("\n(0-").unwrap();
        let (last, homes) = extents.split_once("):").unwrap();
        let len = last.parse::<u32>().unwrap() + 1;
        let journal = homes.split_once('-').unwrap().0.parse().unwrap();
        let mut states = Self { image, disks: Vec::new(), used: Vec::new(), journal, len };
        states.add("mkdir /before\n");
        // Begins like a block of the log.
        let escaped = [MAGIC.as_slice(), &[0, 0, 0, 1], &[9; 1500]].concat();
        let source = states.image.folder().join("escaped");
        fs::write(&source, escaped).unwrap();
        let source = source.display();
        states.add(&format!("write {source} /escaped\nrm /file88\nrm /file20\n"));
        states.add(&format!("mkdir /folder\nwrite {source} /folder/more\nrm /file41\nrm /escaped\n"));
        states.add(&format!("write {source} /folder/third\nrm /file70\nrm /file3\nrm /folder/more\n"));
        states
    }

    fn add(&mut self, script: &str) {
        self.image.debugfs(script);
        let mut disk = self.image.bytes();
        mark_in_use(&mut disk);
        self.used.push(self.used(&disk));
        self.disks.push(disk);
    }

    /// Begins a log over the first state.
    pub(super) fn log(&self, start: u32, first: u32, format: Format) -> Log {
        self.log_of(self.len, start, first, format)
    }

    /// Begins a log that has only `len` blocks of the journal.
    pub(super) fn log_of(&self, len: u32, start: u32, first: u32, format: Format) -> Log {
        Log::new(self.disks[0].clone(), Place { block: BLOCK, home: self.journal, len }, start, first, format)
    }

    /// Returns what makes a state of the one before it; what the superblock counts is not logged.
    pub(super) fn changes(&self, state: usize) -> Blocks {
        let (old, new) = (&self.disks[state - 1], &self.disks[state]);
        let pairs = old.chunks(BLOCK).zip(new.chunks(BLOCK));
        let changed: Blocks =
            (0..).zip(pairs).filter(|(_, (old, new))| old != new).map(|(at, (_, new))| (at, new.to_vec())).collect();
        changed.into_iter().filter(|(at, _)| *at != SUPERBLOCK && !self.is_journal(*at)).collect()
    }

    fn is_journal(&self, block: u64) -> bool {
        (self.journal..self.journal + u64::from(self.len)).contains(&block)
    }

    /// Returns some blocks that are free in all states.
    pub(super) fn free(&self, count: usize) -> Vec<u64> {
        let is_free = |block: &u64| self.used.iter().all(|used| !used.contains(block));
        let free: Vec<u64> = (0..BLOCKS).rev().filter(is_free).take(count).collect();
        assert_eq!(free.len(), count);
        free
    }

    /// Expects that blocks are written to the first state, the later ones over the earlier ones.
    pub(super) fn expect(&self, written: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Expected {
        let mut disk = self.disks[0].clone();
        let written: BTreeMap<u64, Vec<u8>> = written.into_iter().collect();
        for (home, content) in &written {
            let start = usize::try_from(*home).unwrap() * BLOCK;
            disk[start..start + BLOCK].copy_from_slice(content);
        }
        Expected { disk, homes: written.into_keys().collect() }
    }

    /// Expects what the transactions up to a state write.
    pub(super) fn expect_state(&self, state: usize) -> Expected {
        let expected = self.expect((1..=state).flat_map(|state| self.changes(state)));
        for (at, (is, should)) in expected.disk.chunks(BLOCK).zip(self.disks[state].chunks(BLOCK)).enumerate() {
            let at = u64::try_from(at).unwrap();
            assert!(at == SUPERBLOCK || self.is_journal(at) || is == should, "{at}");
        }
        expected
    }

    /// Returns the blocks `dumpe2fs` has as allocated, and what lies behind the file system.
    fn used(&self, disk: &[u8]) -> BTreeSet<u64> {
        let path = self.image.folder().join("used");
        fs::write(&path, disk).unwrap();
        used(&path)
    }

    /// Asserts that a log is understood as expected, by us and by the tools of ext.
    pub(super) fn assert_replays(&self, disk: &[u8], expected: &Expected, what: &str) {
        let survey = survey_of(&disk.to_vec());
        let found = log(&survey);
        assert_eq!(found.blocks, u64::try_from(expected.homes.len()).unwrap(), "{what}");
        let ours = blocks(&pairs(&survey.allocated));
        let after = self.used(&expected.disk);
        let all: BTreeSet<u64> = [&self.used[0], &after, &expected.homes].into_iter().flatten().copied().collect();
        assert!(ours == all, "{what}: too much {:?}, missing {:?}", &ours - &all, &all - &ours);

        let copy = self.image.folder().join("copy");
        let text = copy.display().to_string();
        fs::write(&copy, disk).unwrap();
        run("debugfs", &["-w", "-R", "journal_run", &text]);
        let replayed = fs::read(&copy).unwrap();
        for (at, (is, should)) in replayed.chunks(BLOCK).zip(expected.disk.chunks(BLOCK)).enumerate() {
            let at = u64::try_from(at).unwrap();
            assert!(at == SUPERBLOCK || self.is_journal(at) || is == should, "{what}: block {at} is another");
        }
        assert_eq!(used(&copy), after, "{what}");

        let (status, said) = run_any("e2fsck", &["-f", "-y", &text]);
        assert!(status <= 1, "{what}: {status}: {said}");
        let theirs = used(&copy);
        assert!(theirs.is_subset(&ours), "{what}: we have as free {:?}", &theirs - &ours);
    }

    /// Asserts that there is nothing in a log.
    pub(super) fn assert_empty(&self, disk: &[u8], what: &str) {
        let survey = survey_of(&disk.to_vec());
        assert_eq!(log(&survey).transactions, 0, "{what}");
        assert_eq!(blocks(&pairs(&survey.allocated)), self.used[0], "{what}");
    }

    /// Asserts that a log is not believed.
    pub(super) fn assert_refused(&self, disk: &[u8], says: &str, what: &str) {
        let survey = survey_of(&disk.to_vec());
        let reason = reason(&survey);
        assert!(reason.contains(says), "{what}: {reason}");
        assert_whole(&survey, disk, what);
    }

    /// Asserts that the tools of ext do not replay a log either, or not without an error.
    pub(super) fn assert_nobody_replays(&self, disk: &[u8], what: &str) {
        let copy = self.image.folder().join("copy");
        fs::write(&copy, disk).unwrap();
        let (status, said) = run_any("debugfs", &["-w", "-R", "journal_run", &copy.display().to_string()]);
        let complains = said.lines().any(|line| !line.starts_with("debugfs 1"));
        assert!(status != 0 || complains, "{what}: {said}");
    }
}

/// Says that a disk was not unmounted.
pub(super) fn mark_in_use(disk: &mut [u8]) {
    disk[1024 + 0x60] |= NEEDS_RECOVERY;
    seal_superblock(disk);
}

/// Puts the checksum of the superblock right, which counts only where there are checksums.
pub(super) fn seal_superblock(disk: &mut [u8]) {
    let crc = crc32c(u32::MAX, &[&disk[1024..1024 + 0x3FC]]);
    disk[1024 + 0x3FC..2048].copy_from_slice(&crc.to_le_bytes());
}

fn assert_whole(survey: &Survey, disk: &[u8], what: &str) {
    assert_eq!(pairs(&survey.allocated), [(0, u64::try_from(disk.len()).unwrap())], "{what}");
}

fn used(path: &Path) -> BTreeSet<u64> {
    blocks(&allocated(path, SIZES))
}

/// Returns all blocks that have a byte in a range.
fn blocks(ranges: &[(u64, u64)]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(start, end)| start / SIZES.block..end.div_ceil(SIZES.block)).collect()
}
