//! What is in a folder, and below it.

use std::vec::IntoIter;

use super::{Entry, FilesError, Found, Kind, Node, Seen, Volume};

/// Something in a folder.
#[derive(Debug)]
pub struct Step {
    /// Where it is.
    pub path: Vec<u8>,
    /// What it is, or why that cannot be read. A folder that cannot be gone into comes once more, with the reason.
    pub node: Result<Node, FilesError>,
}

/// A folder on the way to where a walk is.
#[derive(Debug)]
struct Level {
    /// How long its path is.
    path_len: usize,
    /// How many names it has.
    names: usize,
    /// Those that are still to come.
    left: IntoIter<Entry>,
}

/// Goes through a folder in the order of the names, a folder before what is in it.
///
/// Memory: the names of all folders on the way to where it is, some 200 MiB of them at most.
#[derive(Debug)]
pub struct Walk<'a> {
    volume: &'a Volume<'a>,
    recursive: bool,
    seen: Seen,
    path: Vec<u8>,
    /// The folders on the way.
    levels: Vec<Level>,
    /// How many names they have.
    held: usize,
    /// What is to be told before going on.
    failed: Option<Step>,
}

impl<'a> Walk<'a> {
    /// Begins with what is in a folder.
    ///
    /// # Errors
    /// [`FilesError`] when the folder cannot be read.
    pub fn new(volume: &'a Volume<'a>, folder: &Found, recursive: bool) -> Result<Self, FilesError> {
        let path = if folder.path == b"/" { Vec::new() } else { folder.path.clone() };
        let (seen, levels) = (Seen::default(), Vec::new());
        let mut walk = Self { volume, recursive, seen, path, levels, held: 0, failed: None };
        walk.enter(&folder.node)?;
        Ok(walk)
    }

    fn enter(&mut self, folder: &Node) -> Result<(), FilesError> {
        self.seen.enter(folder)?;
        let entries = self.volume.entries(folder, self.held)?;
        self.held = self.held.saturating_add(entries.len());
        self.levels.push(Level { path_len: self.path.len(), names: entries.len(), left: entries.into_iter() });
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some(step) = self.failed.take() {
            return Some(step);
        }
        loop {
            let level = self.levels.last_mut()?;
            self.path.truncate(level.path_len);
            let Some(entry) = level.left.next() else {
                self.held = self.held.saturating_sub(level.names);
                self.levels.pop();
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            let node = self.volume.node(entry.inode);
            if let Ok(folder) = &node
                && self.recursive
                && folder.kind() == Kind::Folder
                && let Err(error) = self.enter(folder)
            {
                self.failed = Some(Step { path: self.path.clone(), node: Err(error) });
            }
            return Some(Step { path: self.path.clone(), node });
        }
    }
}
