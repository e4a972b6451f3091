//! What is changed: differently on each machine, and of every kind.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Change;

const PAGE: usize = 4096;
/// Files that are overwritten have their blocks in one piece, or nearly.
const OVERWRITTEN: std::ops::Range<u64> = 8192..4 << 20;

/// The work of one machine's user.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// On which virtual node.
    pub vname: &'a str,
    /// Different for each.
    pub seed: u64,
    /// Bytes of new files that no compression makes smaller.
    pub new_bytes: u64,
    /// How many files are deleted, and somewhat fewer overwritten and renamed.
    pub touched: usize,
}

/// Returns the text by which what this machine's user wrote is known.
pub fn marker(vname: &str, seed: u64) -> String {
    format!("EBB-SECRET-OF-{vname}-{seed:016x}-")
}

impl Work<'_> {
    /// Returns the changes to a file system that holds these files; `scratch` gets the new ones.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn plan(&self, files: &[(PathBuf, u64)], scratch: &Path) -> anyhow::Result<Vec<Change>> {
        fs::create_dir_all(scratch).with_context(|| format!("make {}", scratch.display()))?;
        let home = format!("/work-of-{}", self.vname);
        let mut changes = vec![Change::Folder(home.clone())];
        self.create(&home, scratch, &mut changes)?;
        let mut pick = Pick { files, next: usize::try_from(self.seed % 7)?, step: 3 };
        for path in pick.take(self.touched, |_| true) {
            changes.push(Change::Delete(path));
        }
        let mut random = Random(self.seed | 1);
        for (number, path) in (0_u64..).zip(pick.take(self.touched / 2, |size| OVERWRITTEN.contains(&size))) {
            // Whole pages, pieces of one, and across two.
            let (offset, len) = [(0, PAGE), (1000, 500), (4000, 300), (4096, PAGE)][usize::try_from(number % 4)?];
            let mut bytes = self.page(&mut random);
            bytes.truncate(len);
            changes.push(Change::Overwrite { path, offset, bytes });
        }
        for (number, from) in (0..).zip(pick.take(self.touched / 3, |_| true)) {
            changes.push(Change::Rename { from, to: format!("{home}/moved-{number}") });
        }
        for (path, mode) in pick.take(4, |_| true).into_iter().zip([0o600, 0o755, 0o440, 0o666]) {
            changes.push(Change::Mode { path, mode });
        }
        for (path, user) in pick.take(3, |_| true).into_iter().zip([1000, 65534, 12345]) {
            changes.push(Change::Owner { path, user, group: user + 1 });
        }
        changes.push(Change::Link { path: format!("{home}/link"), aim: "../etc/elsewhere".into() });
        // Too long for the inode: it takes a block of its own.
        changes.push(Change::Link { path: format!("{home}/long-link"), aim: format!("/{}", "far/".repeat(30)) });
        Ok(changes)
    }

    fn create(&self, home: &str, scratch: &Path, changes: &mut Vec<Change>) -> anyhow::Result<()> {
        let mut random = Random(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(77) | 1);
        let sizes = [self.new_bytes, 0, 1, 4095, 4097, 40_000];
        for (number, bytes) in sizes.into_iter().enumerate() {
            let source = scratch.join(format!("new-{number}"));
            let file = File::create(&source)?;
            for start in (0..bytes).step_by(PAGE) {
                file.write_all_at(&self.page(&mut random), start)?;
            }
            file.set_len(bytes)?;
            changes.push(Change::File { path: format!("{home}/new-{number}"), source });
        }
        // Mostly holes: a page at the beginning, in the middle and at the very end.
        let source = scratch.join("sparse");
        let file = File::create(&source)?;
        for start in [0, 3 << 20, (8 << 20) - 4096] {
            file.write_all_at(&self.page(&mut random), start)?;
        }
        changes.push(Change::File { path: format!("{home}/sparse"), source });
        Ok(())
    }

    /// A page that begins with the marker; the rest is noise.
    fn page(&self, random: &mut Random) -> Vec<u8> {
        let mut page = marker(self.vname, self.seed).into_bytes();
        page.resize_with(PAGE, || random.byte());
        page
    }
}

/// Picks each file at most once.
struct Pick<'a> {
    files: &'a [(PathBuf, u64)],
    next: usize,
    step: usize,
}

impl Pick<'_> {
    fn take(&mut self, count: usize, fits: impl Fn(u64) -> bool) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((path, size)) = self.files.get(self.next)
        {
            self.next += self.step;
            if fits(*size) {
                taken.push(format!("/{}", path.display()));
            }
        }
        taken
    }
}

/// xorshift64: bytes that can be had again and that no compression makes smaller. No secret depends on them.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()[3]
    }
}
