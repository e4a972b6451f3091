//! Disks that say of every part of themselves what it is: which disk, which block, which generation, and a sum.
//!
//! So a loss, a mix-up or a leak has a name: "block 17 of b/one/sda holds block 17 of a/alpha/sda, generation 3".
//! Shares no code with what it judges.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest as _, Sha256};

/// How large a block is.
pub const BLOCK: usize = 4096;
/// Every so many bytes the block says what it is: less than a sector, so that a torn one is seen.
const RECORD: usize = 64;
const MAGIC: [u8; 4] = *b"EbbT";
/// The longest name of a disk.
const NAME: usize = 16;
/// How many differences are told.
const TOLD: usize = 4;

/// What a block says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    disk: [u8; NAME],
    block: u64,
    generation: u32,
}

impl Tag {
    fn record(self, place: u32) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.block.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.disk);
        // The place in the block is in the sum: a block shifted in itself is torn.
        let sum = Sha256::new().chain_update(&bytes[..32]).chain_update(place.to_le_bytes()).finalize();
        bytes[32..].copy_from_slice(&sum);
        bytes
    }

    fn of_record(bytes: &[u8], place: u32) -> Option<Self> {
        let (generation, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        let (block, rest) = rest.split_first_chunk::<8>()?;
        let disk = *rest.first_chunk::<NAME>()?;
        let tag = Self { disk, block: u64::from_le_bytes(*block), generation: u32::from_le_bytes(*generation) };
        (tag.record(place) == bytes).then_some(tag)
    }

    fn fill(self) -> Vec<u8> {
        (0..).map(|place| self.record(place)).take(BLOCK / RECORD).flatten().collect()
    }

    fn name(self) -> String {
        String::from_utf8_lossy(&self.disk).trim_end_matches('\0').to_owned()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} of {}, generation {}", self.block, self.name(), self.generation)
    }
}

/// What a block really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Zero,
    Whole(Tag),
    /// Parts of it are this, the rest is something else.
    Torn(Tag),
    Unknown,
}

impl Found {
    fn of(block: &[u8]) -> Self {
        if block.iter().all(|byte| *byte == 0) {
            return Self::Zero;
        }
        let records: Vec<_> =
            (0..).zip(block.chunks(RECORD)).map(|(place, part)| Tag::of_record(part, place)).collect();
        match records.iter().flatten().next() {
            None => Self::Unknown,
            Some(first) if records.iter().all(|tag| tag.as_ref() == Some(first)) => Self::Whole(*first),
            Some(first) => Self::Torn(*first),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("zeros"),
            Self::Whole(tag) => tag.fmt(f),
            Self::Torn(tag) => write!(f, "parts of {tag}, and something else"),
            Self::Unknown => f.write_str("bytes that nobody wrote"),
        }
    }
}

/// What a disk must hold, block by block: a tag, or zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger(Vec<Option<Tag>>);

impl Ledger {
    /// Returns a disk of zeros.
    pub fn zeros(blocks: u64) -> Self {
        Self((0..blocks).map(|_| None).collect())
    }

    /// Returns how many blocks it has.
    pub fn blocks(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    /// Has somebody write every block that `chosen` names, as a generation of the disk `disk`.
    ///
    /// # Errors
    /// When the name is too long, or the file cannot be written.
    pub fn write(
        &mut self,
        path: &Path,
        disk: &str,
        generation: u32,
        chosen: impl Fn(u64) -> bool,
    ) -> anyhow::Result<()> {
        ensure!(disk.len() <= NAME, "the name {disk:?} has more than {NAME} bytes");
        let mut name = [0; NAME];
        name[..disk.len()].copy_from_slice(disk.as_bytes());
        let open = File::options().write(true).create(true).truncate(false).open(path);
        let file = open.with_context(|| format!("open {}", path.display()))?;
        for (block, slot) in (0..).zip(&mut self.0).filter(|(block, _)| chosen(*block)) {
            let tag = Tag { disk: name, block, generation };
            file.write_all_at(&tag.fill(), block * BLOCK as u64)
                .with_context(|| format!("write {}", path.display()))?;
            *slot = Some(tag);
        }
        Ok(())
    }

    /// Compares a disk with what it must hold. Returns what differs, in words: the first few, and how many there are.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn differences(&self, path: &Path, disk: &str) -> anyhow::Result<Vec<String>> {
        let found = read(path)?;
        if found.len() != self.0.len() {
            return Ok(vec![format!("{disk} has {} blocks and not {}", found.len(), self.0.len())]);
        }
        let wanted = |tag: &Option<Tag>| tag.map_or(Found::Zero, Found::Whole);
        let differs: Vec<_> = (0_u64..)
            .zip(self.0.iter().zip(&found))
            .filter(|(_, (tag, found))| wanted(tag) != **found)
            .map(|(block, (tag, found))| format!("block {block} of {disk} holds {found}; it must hold {}", wanted(tag)))
            .collect();
        Ok(told(differs))
    }
}

fn told(mut differs: Vec<String>) -> Vec<String> {
    let more = differs.len().saturating_sub(TOLD);
    differs.truncate(TOLD);
    if more > 0 {
        differs.push(format!("and {more} blocks more"));
    }
    differs
}

fn read(path: &Path) -> anyhow::Result<Vec<Found>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("read {}", path.display()))?;
    ensure!(bytes.len().is_multiple_of(BLOCK), "{} has {} bytes, no whole blocks", path.display(), bytes.len());
    Ok(bytes.chunks(BLOCK).map(Found::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, path: &Path) -> Ledger {
        let mut ledger = Ledger::zeros(40);
        ledger.write(path, name, 1, |_| true).unwrap();
        ledger.write(path, name, 2, |block| block % 4 == 1).unwrap();
        ledger
    }

    #[test]
    fn a_loss_and_a_mix_up_have_names() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let (of_a, of_b) = (disk("a/sda", &a), disk("b/sda", &b));
        assert_eq!(of_a.differences(&a, "a/sda").unwrap(), Vec::<String>::new());

        let at = |block: u64| block * BLOCK as u64;
        let (from, to) = (std::fs::read(&a).unwrap(), File::options().write(true).open(&b).unwrap());
        let block = |block: usize| &from[block * BLOCK..(block + 1) * BLOCK];
        to.write_all_at(block(17), at(17)).unwrap();
        to.write_all_at(&[0; BLOCK], at(3)).unwrap();
        to.write_all_at(&block(17)[..512], at(5)).unwrap();
        to.write_all_at(b"x", at(8)).unwrap();
        assert_eq!(
            of_b.differences(&b, "b/sda").unwrap(),
            [
                "block 3 of b/sda holds zeros; it must hold block 3 of b/sda, generation 1",
                "block 5 of b/sda holds parts of block 17 of a/sda, generation 2, and something else; it must hold block 5 \
                 of b/sda, generation 2",
                "block 8 of b/sda holds parts of block 8 of b/sda, generation 1, and something else; it must hold block 8 \
                 of b/sda, generation 1",
                "block 17 of b/sda holds block 17 of a/sda, generation 2; it must hold block 17 of b/sda, generation 2",
            ]
        );
    }

    #[test]
    fn a_lost_generation_is_not_taken_for_the_present_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let ledger = disk("a/sda", &path);
        let mut old = Ledger::zeros(40);
        old.write(&path, "a/sda", 1, |_| true).unwrap();
        let lost = ledger.differences(&path, "a/sda").unwrap();
        assert_eq!(lost.len(), TOLD + 1, "{lost:?}");
        assert_eq!(
            lost[0],
            "block 1 of a/sda holds block 1 of a/sda, generation 1; it must hold block 1 of a/sda, generation 2"
        );
    }
}
