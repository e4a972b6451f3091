//! A file system replayed from recorded system calls: what is there, what of it is there for sure, and what a crash may
//! leave of the rest.
//!
//! What was flushed is there. Of what was not, a file system may keep names without their bytes, bytes without their
//! names, a part of the bytes, zeros in their place, or nothing. A flush of a file says nothing of its name, and `fdatasync`
//! nothing of its mode, owner, times and attributes: some file systems do more, none has to.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::order::folder_of;
use super::strace::Call;

/// All of what is written: no call that is recorded to be replayed writes more.
pub const BYTES: usize = 16 << 20;

/// Of bytes that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// They are there.
    All,
    /// All is as it was flushed last.
    None,
    /// The first half of what is new is there.
    Half,
    /// Where they were to be are zeros.
    Zeros,
}

/// Of names that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// They are there.
    All,
    /// All is as it was flushed last.
    None,
}

/// What a crash leaves of what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Of names.
    pub names: Names,
    /// Of the file that was written last.
    pub last: Bytes,
    /// Of the others.
    pub others: Bytes,
}

impl Left {
    /// What is tried.
    pub const ALL: [Self; 10] = {
        use Bytes as B;
        use Names as N;
        [
            Self::alike(N::All, B::All),
            Self::alike(N::All, B::None),
            Self::alike(N::All, B::Half),
            Self::alike(N::All, B::Zeros),
            Self::alike(N::None, B::All),
            Self::alike(N::None, B::None),
            Self::alike(N::None, B::Half),
            Self::alike(N::None, B::Zeros),
            // What came last overtook what came before.
            Self { names: N::All, last: B::All, others: B::None },
            Self { names: N::None, last: B::All, others: B::None },
        ]
    };

    const fn alike(names: Names, bytes: Bytes) -> Self {
        Self { names, last: bytes, others: bytes }
    }
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; its bytes are where it leads.
    Link,
}

/// What was said of a file besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Its mode.
    pub mode: Option<u32>,
    /// Its owner and group.
    pub owner: Option<(u32, u32)>,
    /// When it was modified: seconds and nanoseconds.
    pub modified: Option<(i64, u32)>,
    /// Its extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file, folder or link: what is written of it, and what of that was flushed.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    written: Vec<u8>,
    flushed: Vec<u8>,
    said: Metadata,
    flushed_of_said: Metadata,
    /// Where the next plain write goes.
    end: usize,
    /// Digests of what a crash leaves, for each of [`Bytes`]; worked out when asked for.
    digests: Option<[(Bytes, String); 4]>,
}

impl Node {
    fn new(kind: Kind) -> Self {
        let (said, flushed_of_said) = (Metadata::default(), Metadata::default());
        Self { kind, written: Vec::new(), flushed: Vec::new(), said, flushed_of_said, end: 0, digests: None }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.written.len() < end {
            self.written.resize(end, 0);
        }
        self.written[at..end].copy_from_slice(bytes);
        self.digests = None;
    }

    fn cut(&mut self, len: usize) {
        self.written.resize(len, 0);
        self.digests = None;
    }

    fn flush(&mut self) {
        self.flushed.clone_from(&self.written);
        self.digests = None;
    }

    /// Returns the bytes that a crash leaves.
    fn left(&self, bytes: Bytes) -> Vec<u8> {
        let Self { written, flushed, .. } = self;
        let same = written.iter().zip(flushed).take_while(|(written, flushed)| written == flushed).count();
        match bytes {
            Bytes::All => written.clone(),
            Bytes::None => flushed.clone(),
            Bytes::Half => {
                let half = same + (written.len() - same) / 2;
                [&written[..half], flushed.get(half..).unwrap_or_default()].concat()
            }
            Bytes::Zeros => {
                let mut left = written[..same].to_vec();
                left.resize(written.len(), 0);
                left
            }
        }
    }

    fn digest(&mut self, bytes: Bytes) -> &str {
        if self.digests.is_none() {
            let all = [Bytes::All, Bytes::None, Bytes::Half, Bytes::Zeros];
            self.digests = Some(all.map(|bytes| (bytes, hex::encode(Sha256::digest(self.left(bytes))))));
        }
        let found = self.digests.iter().flatten().find(|(of, _)| *of == bytes);
        found.map_or("", |(_, digest)| digest)
    }
}

/// The file system, as it is and as it is for sure.
#[derive(Debug, Default)]
pub struct Files<'a> {
    nodes: Vec<Node>,
    names: BTreeMap<&'a str, usize>,
    sure: BTreeMap<&'a str, usize>,
    /// Changed in a folder since it was flushed: this name is this node, or gone.
    changed: HashMap<&'a str, Vec<(&'a str, Option<usize>)>>,
    /// Folders that were not always there.
    folders: HashSet<&'a str>,
    /// The file that was written last.
    last: Option<usize>,
}

impl<'a> Files<'a> {
    /// Puts a name there that was there before everything that is replayed.
    pub fn put(&mut self, path: &'a str, kind: Kind) {
        let node = self.make(path, kind);
        self.sure.insert(path, node);
        self.changed.remove(folder_of(path));
    }

    fn make(&mut self, path: &'a str, kind: Kind) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node::new(kind));
        if kind == Kind::Folder {
            self.folders.insert(path);
        }
        self.set(path, Some(node));
        node
    }

    fn file(&mut self, path: &'a str) -> &mut Node {
        let node = match self.names.get(path) {
            Some(node) => *node,
            None => self.make(path, Kind::File),
        };
        &mut self.nodes[node]
    }

    /// As [`Self::file`], for what changes its bytes.
    fn written(&mut self, path: &'a str) -> &mut Node {
        self.file(path);
        self.last = self.names.get(path).copied();
        self.file(path)
    }

    fn set(&mut self, path: &'a str, node: Option<usize>) {
        match node {
            Some(node) => self.names.insert(path, node),
            None => self.names.remove(path),
        };
        self.changed.entry(folder_of(path)).or_default().push((path, node));
    }

    /// Returns whether a call that changes something is one that can be replayed.
    pub fn understands(call: &Call) -> bool {
        const UNDERSTOOD: [&str; 19] = [
            "openat",
            "write",
            "pwrite64",
            "ftruncate",
            "fallocate",
            "fchmod",
            "fchown",
            "utimensat",
            "fsetxattr",
            "fsync",
            "fdatasync",
            "rename",
            "renameat",
            "renameat2",
            "unlink",
            "rmdir",
            "mkdir",
            "mkdirat",
            "symlink",
        ];
        UNDERSTOOD.contains(&call.name.as_str())
    }

    /// Replays a call that succeeded.
    pub fn apply(&mut self, call: &'a Call) {
        let numbers = call.numbers();
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0).try_into().unwrap_or(usize::MAX);
        let done = call.done().and_then(|done| usize::try_from(done).ok()).unwrap_or(usize::MAX);
        let bytes = call.texts.first().map(Vec::as_slice).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(done)];
        match (call.name.as_str(), call.file(), call.path(0), call.path(1)) {
            ("openat", _, Some(path), _) if call.truncates() => {
                let file = self.written(path);
                file.cut(0);
                file.end = 0;
            }
            ("openat", _, Some(path), _) if call.creates() => {
                self.file(path);
            }
            ("write", Some(path), ..) => {
                let file = self.written(path);
                file.write(bytes, file.end);
                file.end += done;
            }
            ("pwrite64", Some(path), ..) => self.written(path).write(bytes, number(1)),
            ("ftruncate", Some(path), ..) => self.written(path).cut(number(0)),
            ("fallocate", Some(path), ..) if number(0) == 0 => {
                let file = self.written(path);
                let end = number(1).saturating_add(number(2)).max(file.written.len());
                file.cut(end);
            }
            ("fchmod", Some(path), ..) => self.file(path).said.mode = call.mode(),
            ("fchown", Some(path), ..) => {
                let id = |index| u32::try_from(number(index)).unwrap_or(u32::MAX);
                self.file(path).said.owner = Some((id(0), id(1)));
            }
            ("utimensat", Some(path), ..) => self.file(path).said.modified = call.modified(),
            ("fsetxattr", Some(path), ..) => {
                if let [name, value, ..] = call.texts.as_slice() {
                    self.file(path).said.attributes.insert(name.clone(), value.clone());
                }
            }
            ("fsync" | "fdatasync", Some(path), ..) => self.flush(path, call.name == "fsync"),
            ("rename" | "renameat" | "renameat2", _, Some(from), Some(to)) => {
                self.file(from);
                let node = self.names.get(from).copied();
                self.set(from, None);
                self.set(to, node);
            }
            ("unlink" | "unlinkat" | "rmdir", _, Some(path), _) => self.set(path, None),
            ("mkdir" | "mkdirat", _, Some(path), _) => {
                self.make(path, Kind::Folder);
            }
            ("symlink" | "symlinkat", _, Some(target), Some(path)) => {
                let node = self.make(path, Kind::Link);
                self.nodes[node].write(target.as_bytes(), 0);
                // Where it leads is a part of its name.
                self.nodes[node].flush();
            }
            _ => {}
        }
    }

    fn flush(&mut self, path: &str, with_metadata: bool) {
        for (name, node) in self.changed.remove(path).unwrap_or_default() {
            match node {
                Some(node) => self.sure.insert(name, node),
                None => self.sure.remove(name),
            };
        }
        if let Some(node) = self.names.get(path).map(|node| &mut self.nodes[*node]) {
            node.flush();
            if with_metadata {
                node.flushed_of_said = node.said.clone();
            }
        }
    }

    fn known(&self, left: Left) -> &BTreeMap<&'a str, usize> {
        if left.names == Names::All { &self.names } else { &self.sure }
    }

    /// Returns what a name is of, if it is left.
    fn find(&self, path: &str, left: Left) -> Option<usize> {
        let known = self.known(left);
        let node = *known.get(path)?;
        // With a folder goes what is in it.
        let mut rest = path;
        while let Some((folder, _)) = rest.rsplit_once('/') {
            if self.folders.contains(folder) && !known.contains_key(folder) {
                return None;
            }
            rest = folder;
        }
        Some(node)
    }

    fn bytes(&self, node: usize, left: Left) -> Bytes {
        if self.last == Some(node) { left.last } else { left.others }
    }

    /// Returns the digest of the bytes that are left under a name, if that is left.
    pub fn digest(&mut self, path: &str, left: Left) -> Option<&str> {
        let node = self.find(path, left)?;
        let bytes = self.bytes(node, left);
        Some(self.nodes[node].digest(bytes))
    }

    /// Returns the names that are left, folders before what is in them.
    pub fn left(&self, left: Left) -> Vec<(&'a str, Kind)> {
        let known = self.known(left).keys();
        let found = known.filter_map(|path| Some((*path, self.nodes[self.find(path, left)?].kind)));
        found.collect()
    }

    /// Returns the bytes that are left under a name; none when it is not.
    pub fn content(&self, path: &str, left: Left) -> Vec<u8> {
        self.find(path, left).map(|node| self.nodes[node].left(self.bytes(node, left))).unwrap_or_default()
    }

    /// Returns what else is left under a name; nothing when that is not.
    pub fn metadata(&self, path: &str, left: Left) -> Metadata {
        let found = self.find(path, left).map(|node| match self.bytes(node, left) {
            Bytes::All => self.nodes[node].said.clone(),
            Bytes::None | Bytes::Half | Bytes::Zeros => self.nodes[node].flushed_of_said.clone(),
        });
        found.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::strace::understand;
    use super::*;

    const CALLS: &str = r#"
7 mkdir("/d/to", 0777) = 0
7 openat(AT_FDCWD</>, "/d/to/x", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 9</d/to/x>
7 pwrite64(9</d/to/x>, "abcd", 4, 0) = 4
7 fdatasync(9</d/to/x>) = 0
7 pwrite64(9</d/to/x>, "efgh", 4, 4) = 4
7 fchmod(9</d/to/x>, 0440) = 0
7 fchown(9</d/to/x>, 1, 2) = 0
7 fsetxattr(9</d/to/x>, "user.a", "b", 1, 0) = 0
7 utimensat(9</d/to/x>, NULL, [{tv_sec=1, tv_nsec=2} /* 1970 */, {tv_sec=3, tv_nsec=4} /* 1970 */], 0) = 0
7 symlink("x", "/d/to/link") = 0
"#;

    fn states(text: &str) -> Vec<(usize, Vec<u8>, Option<u32>)> {
        let calls = understand(text);
        let mut files = Files::default();
        calls.iter().for_each(|call| files.apply(call));
        let of =
            |left: Left| (files.left(left).len(), files.content("/d/to/x", left), files.metadata("/d/to/x", left).mode);
        Left::ALL.map(of).to_vec()
    }

    #[test]
    fn names_bytes_and_metadata_are_lost_each_by_itself() {
        let gone = || (0, vec![], None);
        let left = |bytes: &[u8], mode| (3, bytes.to_vec(), mode);
        let lost = states(CALLS);
        assert_eq!(
            lost[..4],
            [left(b"abcdefgh", Some(0o440)), left(b"abcd", None), left(b"abcdef", None), left(b"abcd\0\0\0\0", None)]
        );
        assert_eq!(lost[4..8], [gone(), gone(), gone(), gone()]);
        assert_eq!(lost[8..], [left(b"abcdefgh", Some(0o440)), gone()]);
        // Of the folder's own name nothing is known before the flush of the one above.
        assert_eq!(
            states(&format!("{CALLS}7 fsync(8</d/to>) = 0\n"))[4..],
            [gone(), gone(), gone(), gone(), left(b"abcdefgh", Some(0o440)), gone()]
        );
        let sure = states(&format!("{CALLS}7 fsync(8</d/to>) = 0\n7 fsync(8</d>) = 0\n7 fsync(9</d/to/x>) = 0\n"));
        assert!(sure.iter().all(|state| *state == left(b"abcdefgh", Some(0o440))), "{sure:?}");
    }

    #[test]
    fn what_is_said_besides_the_bytes_is_understood() {
        let calls = understand(CALLS);
        let mut files = Files::default();
        calls.iter().for_each(|call| files.apply(call));
        let found = files.metadata("/d/to/x", Left::ALL[0]);
        let attributes = BTreeMap::from([(b"user.a".to_vec(), b"b".to_vec())]);
        assert_eq!(found, Metadata { mode: Some(0o440), owner: Some((1, 2)), modified: Some((3, 4)), attributes });
        assert_eq!(files.content("/d/to/link", Left::ALL[0]), b"x");
    }

    #[test]
    fn what_is_removed_may_be_there_still() {
        let calls = understand("7 unlink(\"/d/from/a\") = 0\n7 rmdir(\"/d/from\") = 0\n7 fsync(8</d/from>) = 0\n");
        let mut files = Files::default();
        files.put("/d/from", Kind::Folder);
        files.put("/d/from/a", Kind::File);
        let count = |files: &Files<'_>| Left::ALL.map(|left| files.left(left).len());
        assert_eq!(count(&files), [2; 10]);
        files.apply(&calls[0]);
        assert_eq!(count(&files), [1, 1, 1, 1, 2, 2, 2, 2, 1, 2]);
        files.apply(&calls[1]);
        files.apply(&calls[2]);
        assert_eq!(count(&files), [0, 0, 0, 0, 1, 1, 1, 1, 0, 1]);
    }
}
