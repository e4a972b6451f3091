//! Journals of transfers whose sources were made anew: the same bytes and names, but other inodes and other times of
//! change, which nobody can set. A seal that a journal has of them is replaced, and nothing else.
//!
//! The layout is that of `docs/formats/journal.md`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};

const HEADER_BYTES: usize = 16;
const FRAME_BYTES: usize = 16;

/// Returns a journal with the seals that sources have now. What is no whole record stays as it is.
pub fn reseal(journal: &[u8], seal: impl Fn(&Path) -> Option<Value>) -> Vec<u8> {
    let Some((header, mut rest)) = journal.split_at_checked(HEADER_BYTES) else { return journal.to_vec() };
    let (mut made, mut sources) = (header.to_vec(), Vec::new());
    while let Some((number, body, after)) = record(rest) {
        made.extend(encode(number, &with_seal(body, &mut sources, &seal)));
        rest = after;
    }
    made.extend(rest);
    made
}

/// Returns the seal that a path has now.
pub fn seal_of(path: &Path) -> Option<Value> {
    let found = fs::symlink_metadata(path).ok()?;
    let time = |seconds: i64, nanoseconds: i64| json!({ "seconds": seconds, "nanoseconds": nanoseconds });
    Some(json!({
        "device": found.dev(),
        "inode": found.ino(),
        "size": found.len(),
        "modified": time(found.mtime(), found.mtime_nsec()),
        "changed": time(found.ctime(), found.ctime_nsec()),
    }))
}

/// Returns number and body of the record that bytes begin with, and what follows it.
fn record(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (frame, rest) = bytes.split_at_checked(FRAME_BYTES)?;
    let number = |range: std::ops::Range<usize>| Some(u32::from_le_bytes(frame.get(range)?.try_into().ok()?));
    let (len, sum) = (number(0..4)?, number(4..8)?);
    let which = u64::from_le_bytes(frame.get(8..16)?.try_into().ok()?);
    let (body, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    (len > 0 && checksum(which, body) == sum).then_some((which, body, after))
}

fn checksum(number: u64, body: &[u8]) -> u32 {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut sum = crc32fast::Hasher::new();
    [&len.to_le_bytes()[..], &number.to_le_bytes(), body].iter().for_each(|part| sum.update(part));
    sum.finalize()
}

fn encode(number: u64, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes()[..], &checksum(number, body).to_le_bytes(), &number.to_le_bytes(), body].concat()
}

/// Returns the body of a record with the seal that its source has now, if it has one. Notes the sources that it adds.
fn with_seal(body: &[u8], sources: &mut Vec<Vec<u8>>, seal: &impl Fn(&Path) -> Option<Value>) -> Vec<u8> {
    let Ok(mut told) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let added = told["items"].as_array().into_iter().flatten();
    sources.extend(added.map(|item| hex::decode(item["source"].as_str().unwrap_or_default()).unwrap_or_default()));
    let item = told["item"].as_u64().and_then(|item| usize::try_from(item).ok());
    let source = item.and_then(|item| sources.get(item)).filter(|_| told["record"] == "sealed");
    let Some(now) = source.and_then(|source| seal(Path::new(OsStr::from_bytes(source)))) else { return body.to_vec() };
    told["seal"] = now;
    told.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../docs/formats/golden/transfer.journal");

    fn records(journal: &[u8]) -> Vec<Value> {
        let mut rest = &journal[HEADER_BYTES..];
        std::iter::from_fn(|| {
            let (_, body, after) = record(rest)?;
            rest = after;
            serde_json::from_slice(body).ok()
        })
        .collect()
    }

    #[test]
    fn seals_are_replaced_and_nothing_else() {
        assert_eq!(reseal(GOLDEN, |_| None), GOLDEN);
        let torn = &GOLDEN[..GOLDEN.len() - 3];
        let made = reseal(torn, |path| Some(json!(path.display().to_string())));
        let (before, after) = (records(torn), records(&made));
        assert_eq!((before.len(), after.len()), (24, 24));
        let sealed: Vec<_> = after.iter().filter(|told| told["record"] == "sealed").collect();
        assert!(!sealed.is_empty());
        let added = before.iter().filter_map(|told| told["items"].as_array());
        let added: Vec<_> = added.flatten().map(|item| item["source"].as_str().unwrap()).collect();
        for told in sealed {
            let item = usize::try_from(told["item"].as_u64().unwrap()).unwrap();
            assert_eq!(hex::encode(told["seal"].as_str().unwrap()), added[item]);
        }
        let others = |all: &[Value]| all.iter().filter(|told| told["record"] != "sealed").cloned().collect::<Vec<_>>();
        assert_eq!(others(&before), others(&after));
        let tail = |bytes: &[u8]| bytes[bytes.len() - 9..].to_vec();
        assert_eq!(tail(torn), tail(&made));
    }
}
