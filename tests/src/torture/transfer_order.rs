//! What a transfer makes durable before what, read off its system calls: a kill cannot show a flush that is missing, for
//! what was written is still in the cache.
//!
//! Before a record says that something is durable, it was flushed: content, metadata, and the directories in which names
//! were given or removed. Before a name is given or a source removed, the record that announces it was flushed.

use std::collections::HashSet;

use super::strace::Call;

/// What records announce, or say to be done.
const RECORDS: [&str; 6] = ["chunks", "data-complete", "verified", "renamed", "committed", "source-released"];

/// Looks at the calls of a transfer with one thread. Returns how many names were given, and what was in a wrong order.
pub fn judge(calls: &[Call], journal: &str) -> (u64, Vec<String>) {
    let mut watched = Watched { journal, ..Watched::default() };
    for call in calls.iter().filter(|call| call.succeeded()) {
        watched.see(call);
    }
    let left = watched.dirty.iter().chain(watched.names.iter().map(|(_, name)| name));
    let left: Vec<_> = left.map(|path| format!("{path} was never flushed")).collect();
    watched.wrong.extend(left);
    (watched.given, watched.wrong)
}

#[derive(Default)]
struct Watched<'a> {
    journal: &'a str,
    /// Files and directories with something that is not flushed.
    dirty: HashSet<&'a str>,
    /// Directories, and what was named, made or removed in them without a flush of them.
    names: Vec<(&'a str, &'a str)>,
    /// Temporary files that were seen before.
    begun: HashSet<&'a str>,
    given: u64,
    wrong: Vec<String>,
}

impl<'a> Watched<'a> {
    fn see(&mut self, call: &'a Call) {
        let texts: Vec<&str> = (0..call.texts.len()).filter_map(|index| call.path(index)).collect();
        match (call.name.as_str(), call.file(), texts.as_slice()) {
            ("write" | "pwrite64", Some(file), _) if file == self.journal => self.record(call),
            ("write" | "pwrite64" | "fchmod" | "fchown" | "fsetxattr" | "utimensat" | "ftruncate", Some(file), _)
                if is_durable(file) =>
            {
                if file.ends_with(".partial") && self.begun.insert(file) {
                    self.names.push((folder_of(file), file));
                }
                self.dirty.insert(file);
            }
            ("fsync" | "fdatasync", Some(file), _) => {
                self.dirty.remove(file);
                self.names.retain(|(folder, _)| *folder != file);
            }
            ("rename" | "renameat" | "renameat2", _, [from, to]) => {
                self.given += 1;
                if self.dirty.contains(from) {
                    self.wrong.push(format!("{from} was not flushed before it became {to}"));
                }
                self.announced(to);
                self.names.push((folder_of(to), to));
            }
            ("mkdir" | "mkdirat" | "symlink" | "symlinkat", _, [.., made]) => self.names.push((folder_of(made), made)),
            ("unlink" | "unlinkat" | "rmdir", _, [removed]) => {
                self.announced(removed);
                self.names.push((folder_of(removed), removed));
            }
            _ => {}
        }
    }

    /// A record is written: what it says was flushed, or something is wrong.
    fn record(&mut self, call: &'a Call) {
        let text = call.texts.first().map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
        let word = RECORDS.iter().find(|word| text.contains(&format!("{{\"record\":\"{word}\"")));
        let what = word.map_or("another record", |word| word);
        let unflushed = self.dirty.iter().filter(|path| word.is_some() && **path != self.journal);
        self.wrong.extend(unflushed.map(|path| format!("{what} was written before {path} was flushed")));
        // Chunks are believed only when the file is found, so that its name may come later.
        let may_wait = word.is_none_or(|word| *word == "chunks");
        let names = self.names.iter().filter(|(_, name)| !may_wait || !name.ends_with(".partial"));
        self.wrong.extend(
            names.map(|(folder, name)| format!("{what} was written before {folder} was flushed, after {name}")),
        );
        self.announced(what);
        self.dirty.insert(self.journal);
    }

    fn announced(&mut self, what: &str) {
        if self.dirty.contains(self.journal) {
            self.wrong.push(format!("the journal was not flushed before {what}"));
        }
    }
}

/// Returns true for what is on a disk, as pipes and terminals are not.
fn is_durable(file: &str) -> bool {
    file.starts_with('/') && !file.starts_with("/dev/")
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(folder, _)| folder)
}
