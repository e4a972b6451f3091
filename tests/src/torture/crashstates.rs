//! What a crash of boss's machine may leave of its store: the recorded system calls of a cycle, replayed up to each flush,
//! each name and each end of an object. What it may leave of a transfer is judged by [`transfer_states`].
//!
//! In every state ([`replay`](super::replay) says which there are) an object that has its name is whole, and one that boss
//! took for durable is there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::order::DURABLE;
use super::replay::{BYTES, Files, Left};
use super::report::{Method, Row};
use super::strace::Call;
use super::turnover::Turnover;
use super::{trace, transfer_states};

/// Records a cycle and some transfers, and judges every state.
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
    let transfers = transfer_states::run(&folder.join("transfers"), usize::MAX)?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let tried = states + count(transfers.tried);
    let found = tried.saturating_sub(wrong.values().sum()).saturating_sub(count(transfers.failures.len()));
    failures.extend(transfers.failures);
    let mut more = serde_json::Map::new();
    more.insert("objects".into(), json!(objects));
    more.insert("states of transfers".into(), json!(transfers.tried));
    let seconds = began.elapsed().as_secs_f64();
    Ok(Row { method: Method::Crashstates, tried, found, expected: tried, seconds, failures, more })
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
        for left in Left::ALL {
            judged.states += 1;
            let mut wrong = |what: String| *judged.wrong.entry(what).or_default() += 1;
            for object in &named {
                let name = object.rsplit('/').next().unwrap_or_default();
                match files.digest(object, left) {
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
        assert_eq!(good, Judged { states: 50, wrong: BTreeMap::new(), objects: 1 });
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
