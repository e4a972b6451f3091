//! From a path to an inode. Symbolic links are followed inside the file system only, as `chroot` would.

use super::{FilesError, Kind, Node, Volume, shown};
use crate::control::Control;

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// What a path leads to.
#[derive(Clone, Debug)]
pub struct Found {
    /// The inode.
    pub node: Node,
    /// Where it is, without symbolic links; the topmost folder is `/`.
    pub path: Vec<u8>,
}

impl Volume<'_> {
    /// Follows a path from the topmost folder to its end, a symbolic link at the end included.
    ///
    /// # Errors
    /// [`FilesError`] when it leads nowhere, or what it leads through cannot be read.
    pub fn find(&self, path: &[u8], control: Control<'_>) -> Result<Found, FilesError> {
        self.follow(path, true, control)
    }

    /// Follows a path, but not a symbolic link at its end.
    ///
    /// # Errors
    /// As [`Volume::find`].
    pub fn find_itself(&self, path: &[u8], control: Control<'_>) -> Result<Found, FilesError> {
        self.follow(path, false, control)
    }

    fn follow(&self, path: &[u8], last_too: bool, control: Control<'_>) -> Result<Found, FilesError> {
        let root = self.root()?;
        // The folders that lead to where the walk is, without the root, and what is left to walk, from its end.
        let mut way: Vec<(Vec<u8>, Node)> = Vec::new();
        let mut todo = components(path);
        let (mut links, mut because) = (0, String::new());
        while let Some(name) = todo.pop() {
            let here = way.last().map_or(&root, |(_, node)| node);
            if name == b".." {
                way.pop();
                continue;
            }
            if here.kind() != Kind::Folder {
                return Err(FilesError::NotFolder { path: shown(&joined(&way)) });
            }
            if name == b"." {
                continue;
            }
            let Some(inode) = self.lookup(here, &name)? else {
                way.push((name, root));
                return Err(FilesError::NotFound { path: shown(&joined(&way)), because });
            };
            let node = self.node(inode)?;
            if node.kind() != Kind::Link || (todo.is_empty() && !last_too) {
                way.push((name, node));
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(FilesError::Links { path: shown(path), most: MOST_LINKS });
            }
            let target = self.target(&node, control)?;
            because = format!(", where the symbolic link {} leads", shown(&name));
            if target.starts_with(b"/") {
                way.clear();
            }
            todo.extend(components(&target));
        }
        let path = joined(&way);
        Ok(Found { node: way.pop().map_or(root, |(_, node)| node), path })
    }
}

/// Returns the parts of a path, the last one first. A slash at the end asks for a folder, as a dot does.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let mut parts: Vec<_> = parts.map(<[u8]>::to_vec).collect();
    if path.ends_with(b"/") {
        parts.push(b".".to_vec());
    }
    parts.reverse();
    parts
}

fn joined(way: &[(Vec<u8>, Node)]) -> Vec<u8> {
    let mut path: Vec<u8> = way.iter().flat_map(|(name, _)| [b"/".as_slice(), name]).flatten().copied().collect();
    if path.is_empty() {
        path.push(b'/');
    }
    path
}
