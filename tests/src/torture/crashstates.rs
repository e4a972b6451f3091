//! What a crash of boss's machine may leave of its store: the recorded system calls of a cycle, replayed up to each flush,
//! each name and each end of an object.
//!
//! What was flushed is there. Of what was not, a file system may keep names without their bytes, bytes without their
//! names, a part of the bytes, or nothing; each is a state. In every state an object that has its name is whole, and one
//! that boss took for durable is there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::order::{DURABLE, folder_of};
use super::report::{Method, Row};
use super::strace::Call;
use super::trace;
use super::turnover::Turnover;

/// All of what is written: no call of boss writes more.
const BYTES: usize = 16 << 20;

/// Records a cycle and judges every state.
///
/// # Errors
/// When the site or `strace` does not work.
pub fn run(folder: &Path) -> anyhow::Result<Row> {
    let began = Instant::now();
    let mut turnover = Turnover::start(folder)?;
    let calls = trace::record(&mut turnover, folder, BYTES)?;
    let Judged { states, wrong, objects } =
        judge(&calls, &turnover.site().state().join("store/objects").display().to_string());
    let mut failures: Vec<_> = wrong.iter().map(|(what, times)| format!("{what}, in {times} states")).collect();
    if objects == 0 {
        failures.push("no object got its name".to_owned());
    }
    let found = states.saturating_sub(wrong.values().sum());
    let mut more = serde_json::Map::new();
    more.insert("objects".into(), json!(objects));
    let seconds = began.elapsed().as_secs_f64();
    Ok(Row { method: Method::Crashstates, tried: states, found, expected: states, seconds, failures, more })
}

/// A file: what is written of it, and what of that was flushed.
#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    flushed: Vec<u8>,
    /// Where the next plain write goes.
    end: usize,
    /// Digests of all that is written, of what was flushed, and of a part between the two; worked out when asked for.
    digests: Option<[String; 3]>,
}

impl Content {
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

    /// Returns the digest of what a crash leaves.
    fn digest(&mut self, bytes: Bytes) -> &str {
        let Self { written, flushed, digests, .. } = self;
        let work_out = || {
            // The first half reached the medium, the rest is as it was flushed last.
            let half = written.len() / 2;
            let torn = [&written[..half], flushed.get(half..).unwrap_or_default()].concat();
            [&written[..], flushed, &torn].map(|bytes| hex::encode(Sha256::digest(bytes)))
        };
        &digests.get_or_insert_with(work_out)[bytes as usize]
    }
}

/// Of bytes that were not flushed.
#[derive(Clone, Copy)]
enum Bytes {
    All = 0,
    None = 1,
    Half = 2,
}

/// Of names that were not flushed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    All,
    None,
}

const STATES: [(Names, Bytes); 6] = [
    (Names::All, Bytes::All),
    (Names::All, Bytes::None),
    (Names::All, Bytes::Half),
    (Names::None, Bytes::All),
    (Names::None, Bytes::None),
    (Names::None, Bytes::Half),
];

/// The file system, as it is and as it is for sure.
#[derive(Debug, Default)]
struct Files<'a> {
    contents: Vec<Content>,
    names: HashMap<&'a str, usize>,
    sure: HashMap<&'a str, usize>,
    /// Changed in a folder since it was flushed: this name is this file, or gone.
    changed: HashMap<&'a str, Vec<(&'a str, Option<usize>)>>,
    /// Folders that were made since their parent was flushed.
    new_folders: HashMap<&'a str, HashSet<&'a str>>,
}

impl<'a> Files<'a> {
    fn file(&mut self, path: &'a str) -> usize {
        if let Some(file) = self.names.get(path) {
            return *file;
        }
        let file = self.contents.len();
        self.contents.push(Content::default());
        self.set(path, Some(file));
        file
    }

    fn set(&mut self, path: &'a str, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(path, file),
            None => self.names.remove(path),
        };
        self.changed.entry(folder_of(path)).or_default().push((path, file));
    }

    fn apply(&mut self, call: &'a Call) {
        let numbers = call.numbers();
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0).try_into().unwrap_or(usize::MAX);
        let done = call.done().and_then(|done| usize::try_from(done).ok()).unwrap_or(usize::MAX);
        let bytes = call.texts.first().map(Vec::as_slice).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(done)];
        match (call.name.as_str(), call.file(), call.path(0), call.path(1)) {
            ("openat", _, Some(path), _) if call.truncates() => {
                let file = self.file(path);
                self.contents[file].cut(0);
                self.contents[file].end = 0;
            }
            ("write", Some(path), ..) => {
                let file = self.file(path);
                let end = self.contents[file].end;
                self.contents[file].write(bytes, end);
                self.contents[file].end += done;
            }
            ("pwrite64", Some(path), ..) => {
                let file = self.file(path);
                self.contents[file].write(bytes, number(1));
            }
            ("ftruncate", Some(path), ..) => {
                let file = self.file(path);
                self.contents[file].cut(number(0));
            }
            ("fallocate", Some(path), ..) if number(0) == 0 => {
                let file = self.file(path);
                let end = number(1).saturating_add(number(2)).max(self.contents[file].written.len());
                self.contents[file].cut(end);
            }
            ("fsync" | "fdatasync", Some(path), ..) => {
                self.new_folders.remove(path);
                for (name, file) in self.changed.remove(path).unwrap_or_default() {
                    match file {
                        Some(file) => self.sure.insert(name, file),
                        None => self.sure.remove(name),
                    };
                }
                if let Some(file) = self.names.get(path) {
                    self.contents[*file].flush();
                }
            }
            ("rename" | "renameat" | "renameat2", _, Some(from), Some(to)) => {
                let file = self.file(from);
                self.set(from, None);
                self.set(to, Some(file));
            }
            ("unlink" | "unlinkat", _, Some(path), _) => self.set(path, None),
            ("mkdir" | "mkdirat", _, Some(path), _) => {
                self.new_folders.entry(folder_of(path)).or_default().insert(path);
            }
            _ => {}
        }
    }

    /// Returns the digest of what a name is in a state, if it is there.
    fn digest(&mut self, path: &str, names: Names, bytes: Bytes) -> Option<&str> {
        let known = if names == Names::All { &self.names } else { &self.sure };
        let file = *known.get(path)?;
        let folder = folder_of(path);
        let new = self.new_folders.get(folder_of(folder)).is_some_and(|new| new.contains(folder));
        (names == Names::All || !new).then(|| self.contents[file].digest(bytes))
    }
}

/// What was judged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    states: u64,
    /// What was wrong, and in how many states.
    wrong: BTreeMap<String, u64>,
    objects: usize,
}

fn judge<'a>(calls: &'a [Call], objects: &str) -> Judged {
    let (mut files, mut judged) = (Files::default(), Judged::default());
    // Objects that have their name, those that boss took for durable, and who named which last.
    let (mut named, mut durable) = (Vec::<&'a str>::new(), HashSet::new());
    let mut last: HashMap<u32, &str> = HashMap::new();
    for call in calls {
        files.apply(call);
        let names = call.name.starts_with("rename");
        if names && let Some(to) = call.path(1).filter(|to| to.starts_with(objects)) {
            named.push(to);
            last.insert(call.thread, to);
        }
        let ends = call.texts.first().is_some_and(|text| text.starts_with(DURABLE));
        if ends {
            durable.extend(last.remove(&call.thread));
        }
        if !(names || ends || call.name.ends_with("sync")) {
            continue;
        }
        for (names, bytes) in STATES {
            judged.states += 1;
            let mut wrong = |what: String| *judged.wrong.entry(what).or_default() += 1;
            for object in &named {
                let name = object.rsplit('/').next().unwrap_or_default();
                match files.digest(object, names, bytes) {
                    Some(digest) if digest != name => wrong(format!("{name} has its name and is not whole")),
                    None if durable.contains(object) => wrong(format!("{name} was taken for durable and is not there")),
                    _ => {}
                }
            }
        }
    }
    judged.objects = named.len();
    judged
}

#[cfg(test)]
mod tests {
    use super::super::strace::understand;
    use super::*;

    /// The digest of `abc`, which is in the object's name.
    const NAME: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn trace() -> String {
        format!(
            r#"11 openat(AT_FDCWD</>, "/s/partial/x", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0400) = 9</s/partial/x>
11 write(9</s/partial/x>, "ab", 2) = 2
11 pwrite64(9</s/partial/x>, "c", 1, 2) = 1
11 fsync(9</s/partial/x>) = 0
11 mkdir("/s/objects/ba", 0700) = 0
11 fsync(9</s/objects>) = 0
11 renameat2(AT_FDCWD</>, "/s/partial/x", AT_FDCWD</>, "/s/objects/ba/{NAME}", RENAME_NOREPLACE) = 0
11 fsync(9</s/objects/ba>) = 0
11 write(4</f/hits>, "store.publish.durable\x0a", 22) = 22
"#
        )
    }

    fn judged(text: &str) -> Judged {
        judge(&understand(text), "/s/objects")
    }

    #[test]
    fn every_state_of_a_good_order_is_good_and_a_missing_flush_shows() {
        let good = judged(&trace());
        assert_eq!(good, Judged { states: 30, wrong: BTreeMap::new(), objects: 1 });
        let without = |line: &str| {
            assert!(trace().contains(line));
            let Judged { wrong, .. } = judged(&trace().replace(line, ""));
            assert_eq!(wrong.len(), 1, "{line}: {wrong:?}");
            wrong.into_keys().next().unwrap()
        };
        assert!(without("11 fsync(9</s/partial/x>) = 0\n").contains("not whole"));
        assert!(without("11 fsync(9</s/objects/ba>) = 0\n").contains("not there"));
        assert!(without("11 fsync(9</s/objects>) = 0\n").contains("not there"));
    }

    #[test]
    fn a_byte_written_after_the_flush_shows() {
        let late = trace().replace("11 pwrite64(9</s/partial/x>, \"c\", 1, 2) = 1\n", "");
        let late = late.replace("11 mkdir", "11 pwrite64(9</s/partial/x>, \"c\", 1, 2) = 1\n11 mkdir");
        assert!(judged(&late).wrong.keys().all(|what| what.contains("not whole")));
        assert!(!judged(&late).wrong.is_empty());
    }
}
