//! What is allocated in an ext file system, as `dumpe2fs` says: the yardstick that is not ours.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// The blocks of an ext file system and which of them are free.
#[derive(Debug)]
pub struct FreeBlocks {
    /// Bytes a block.
    pub block_size: u64,
    /// How many blocks there are.
    pub block_count: u64,
    /// The free ones, sorted.
    pub free: Vec<Range<u64>>,
}

impl FreeBlocks {
    /// Asks `dumpe2fs` about the file system that begins at `offset` of `image`.
    ///
    /// # Errors
    /// When it cannot be run or its answer is not understood.
    pub fn ask(image: &Path, offset: u64) -> anyhow::Result<Self> {
        let place = format!("{}?offset={offset}", image.display());
        let output = Command::new("dumpe2fs")
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(if offset == 0 { image.display().to_string() } else { place })
            .output()
            .context("run dumpe2fs")?;
        if !output.status.success() {
            bail!("dumpe2fs {}: {}", image.display(), String::from_utf8_lossy(&output.stderr));
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let number = |name: &str| -> anyhow::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.with_context(|| format!("dumpe2fs did not say {name:?}"))?.trim().parse().context("a number")
        };
        let (block_size, block_count) = (number("Block size:")?, number("Block count:")?);
        let mut free = Vec::new();
        for list in text.lines().filter_map(|line| line.strip_prefix("  Free blocks:")) {
            for piece in list.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
                let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
                free.push(first.parse()?..last.parse::<u64>()? + 1);
            }
        }
        free.sort_by_key(|range: &Range<u64>| range.start);
        Ok(Self { block_size, block_count, free })
    }

    /// Returns the allocated blocks, sorted.
    pub fn allocated(&self) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let mut next = 0;
        for free in &self.free {
            if next < free.start {
                ranges.push(next..free.start);
            }
            next = free.end;
        }
        if next < self.block_count {
            ranges.push(next..self.block_count);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_lists_are_read() {
        let text = "Block count:              100\nBlock size:               4096\nGroup 0:\n  \
                    Free blocks: 10-19, 30\nGroup 1:\n  Free blocks: \n  Free blocks: 90-99\n";
        let blocks = FreeBlocks::parse(text).unwrap();
        assert_eq!(blocks.free, [10..20, 30..31, 90..100]);
        assert_eq!(blocks.allocated(), [0..10, 20..30, 31..90]);
    }
}
