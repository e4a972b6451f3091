//! What is durable when: read off the system calls of a running boss while both experiments take their turns.
//!
//! A kill cannot show a flush that is missing, for what was written is still in the cache. So for every object that gets
//! its name in the store there must have been, in this order: the last write to the file, its fsync, the rename, and the
//! fsync of the folder, before boss goes on.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::report::{Method, Row};
use super::strace::Call;
use super::trace;
use super::turnover::Turnover;

/// What boss tells the folder of fail points when an object is durable. The row comes later: the fail points show that.
pub const DURABLE: &[u8] = b"store.publish.durable";
/// How much of what is written is looked at.
const BYTES: usize = 64;

/// Looks on while both experiments take their turns.
///
/// # Errors
/// When the site or `strace` does not work.
pub fn run(folder: &Path) -> anyhow::Result<Row> {
    let began = Instant::now();
    let mut turnover = Turnover::start(folder)?;
    let calls = trace::record(&mut turnover, folder, BYTES)?;
    let (named, failures) = judge(&calls, &turnover.site().state().join("store/objects").display().to_string());
    let wrong = u64::try_from(failures.len()).unwrap_or(u64::MAX);
    let mut more = serde_json::Map::new();
    more.insert("calls".into(), json!(calls.len()));
    let (found, seconds) = (named.saturating_sub(wrong), began.elapsed().as_secs_f64());
    Ok(Row { method: Method::Order, tried: named, found, expected: named, seconds, failures, more })
}

/// Looks at every object that got its name. Returns how many did, and which did so in a wrong order.
fn judge(calls: &[Call], objects: &str) -> (u64, Vec<String>) {
    let (mut named, mut wrong) = (0, Vec::new());
    // Files with something written and not flushed; names and folders that are not flushed, and who made them.
    let (mut dirty, mut flushed) = (HashSet::new(), HashSet::new());
    let mut unflushed: Vec<(u32, &str, &str)> = Vec::new();
    for call in calls {
        match (call.name.as_str(), call.file(), call.path(0), call.path(1)) {
            ("write" | "pwrite64" | "ftruncate", Some(file), ..) => {
                dirty.insert(file);
                let done = call.texts.first().is_some_and(|text| text.starts_with(DURABLE));
                for (_, folder, name) in unflushed.extract_if(.., |(thread, ..)| done && *thread == call.thread) {
                    wrong.push(format!("{name} was taken for durable before {folder} was flushed"));
                }
            }
            ("fsync" | "fdatasync", Some(file), ..) => {
                dirty.remove(file);
                flushed.insert(file);
                unflushed.retain(|(_, folder, _)| *folder != file);
            }
            ("mkdir" | "mkdirat", _, Some(made), _) if made.starts_with(objects) => {
                unflushed.push((call.thread, folder_of(made), made));
            }
            ("rename" | "renameat" | "renameat2", _, Some(from), Some(to)) => {
                let (was_dirty, was_flushed) = (dirty.remove(from), flushed.remove(from));
                if was_dirty {
                    dirty.insert(to);
                }
                if was_flushed {
                    flushed.insert(to);
                }
                if to.starts_with(objects) {
                    named += 1;
                    if was_dirty || !was_flushed {
                        wrong.push(format!("{from} was not flushed before it became {to}"));
                    }
                    unflushed.push((call.thread, folder_of(to), to));
                }
            }
            _ => {}
        }
    }
    wrong.extend(unflushed.iter().map(|(_, folder, name)| format!("{folder} was never flushed after {name} was made")));
    (named, wrong)
}

/// Returns the folder that a path lies in.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::super::strace::understand;
    use super::*;

    const WELL: &str = r#"
11 pwrite64(9</s/partial/x>, "abc"..., 3, 0) = 3
11 fsync(9</s/partial/x> <unfinished ...>
12 write(4</f/hits>, "request.before-commit\x0a", 22) = 22
11 <... fsync resumed>) = 0
11 rename("/s/partial/x", "/s/staging/y") = 0
11 mkdir("/s/objects/aa", 0700) = 0
11 mkdir("/s/objects/aa", 0700) = -1 EEXIST (File exists)
11 fsync(9</s/objects>) = 0
11 renameat2(AT_FDCWD</>, "/s/staging/y", AT_FDCWD</>, "/s/objects/aa/z", RENAME_NOREPLACE) = 0
11 fsync(9</s/objects/aa>) = 0
11 write(4</f/hits>, "store.publish.durable\x0a", 22) = 22
"#;

    fn judged(text: &str) -> (u64, Vec<String>) {
        let mut calls = understand(text);
        calls.retain(Call::succeeded);
        judge(&calls, "/s/objects")
    }

    #[test]
    fn each_flush_that_is_missing_is_told() {
        assert_eq!(judged(WELL), (1, vec![]));
        let without = |line: &str| {
            assert!(WELL.contains(line));
            let (named, wrong) = judged(&WELL.replace(line, ""));
            assert_eq!((named, wrong.len()), (1, 1), "{wrong:?}");
            wrong[0].clone()
        };
        let told = without("11 fsync(9</s/objects/aa>) = 0\n");
        assert!(told.contains("taken for durable before /s/objects/aa was flushed"), "{told}");
        let told = without("11 fsync(9</s/objects>) = 0\n");
        assert!(told.contains("before /s/objects was flushed"), "{told}");
        let told = without("11 <... fsync resumed>) = 0\n");
        assert!(told.contains("not flushed before it became /s/objects/aa/z"), "{told}");
    }

    #[test]
    fn a_flush_that_failed_is_none_and_a_write_after_it_counts() {
        let (_, wrong) = judged(&WELL.replace("resumed>) = 0", "resumed>) = -1 EIO (Input/output error)"));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let mkdir = "11 mkdir(\"/s/objects/aa\", 0700) = 0";
        let late = format!("11 write(9</s/staging/y>, \"d\", 1) = 1\n{mkdir}");
        let (_, wrong) = judged(&WELL.replacen(mkdir, &late, 1));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}
