//! The map itself: a domain log of `ddrescue`, as partclone prints it.
//!
//! ```text
//! # Domain logfile created by unset_name v0.3.23
//! # current_pos  current_status
//! 0x03FFF000     ?
//! #      pos        size  status
//! 0x00000000  0x00003000  +
//! 0x00003000  0x00001000  ?
//! ```
//!
//! `+` is in use, `?` is free. The ranges follow each other without gaps up to the end, which the first line with
//! numbers repeats. Anything else is no map.

use std::io::{self, BufRead, BufReader, Read};

use crate::extents::{Extents, ExtentsBuilder};

/// How much output is read at most: some 30 bytes for each of more ranges than are kept apart.
const MOST_BYTES: u64 = 1 << 30;
/// The longest line; comments name the device.
const LONGEST: u64 = 8192;
const MOST_COMMENTS: u32 = 16;

/// What was printed is not a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapFault {
    /// A line that is not understood, or not where it may be.
    #[error("makes no sense in line {line}")]
    Line {
        /// Its number.
        line: u64,
    },
    /// The end is missing.
    #[error("breaks off behind line {line}")]
    Short {
        /// The last line.
        line: u64,
    },
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Read(String),
}

/// What partclone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Of partclone.
    pub(super) version: String,
    /// What is in use, in bytes from the start of the partition.
    pub(super) used: Extents,
    /// Up to where it speaks.
    pub(super) end: u64,
}

/// Reads all of a map.
pub(super) fn read(output: impl Read) -> Result<Map, MapFault> {
    let mut output = BufReader::with_capacity(1 << 16, output.take(MOST_BYTES));
    let (mut used, mut reached, mut end) = (ExtentsBuilder::new(), 0_u64, None);
    let (mut version, mut comments, mut line) = (String::new(), 0, 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        (&mut output).take(LONGEST).read_until(b'\n', &mut bytes).map_err(|error| read_fault(&error))?;
        if bytes.is_empty() {
            break;
        }
        line += 1;
        let text = bytes.strip_suffix(b"\n").and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.ok_or(MapFault::Line { line })?;
        if let Some(comment) = text.strip_prefix('#') {
            comments += 1;
            if comments > MOST_COMMENTS || reached > 0 {
                return Err(MapFault::Line { line });
            }
            if line == 1 {
                version = version_in(comment);
            }
            continue;
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().take(4).collect();
        match (fields.as_slice(), end) {
            ([position, "?" | "+"], None) => end = Some(number(position).ok_or(MapFault::Line { line })?),
            ([position, size, status @ ("?" | "+")], Some(end)) => {
                let start = number(position).filter(|start| *start == reached);
                let next = start.zip(number(size)).and_then(|(start, size)| start.checked_add(size));
                let next = next.filter(|next| *next > reached && *next <= end).ok_or(MapFault::Line { line })?;
                if *status == "+" {
                    used.push(reached, next);
                }
                reached = next;
            }
            _ => return Err(MapFault::Line { line }),
        }
    }
    let end = end.filter(|end| *end == reached && reached > 0).ok_or(MapFault::Short { line })?;
    Ok(Map { version, used: used.finish(), end })
}

fn read_fault(error: &io::Error) -> MapFault {
    MapFault::Read(error.to_string())
}

/// Takes `v0.3.23` out of the first comment; it goes into reports, and nothing depends on it.
fn version_in(comment: &str) -> String {
    let last = comment.split_ascii_whitespace().next_back().and_then(|word| word.strip_prefix('v'));
    let plain = last.filter(|word| word.len() <= 32 && word.bytes().all(|byte| byte.is_ascii_graphic()));
    plain.unwrap_or("unknown").to_owned()
}

fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAP: &str = "\
# Domain logfile created by unset_name v0.3.23
# Source: /dev/loop0
# Offset: 0x00000000
# current_pos  current_status
0x03FFF000     ?
#      pos        size  status
0x00000000  0x00003000  +
0x00003000  0x00001000  ?
0x00004000  0x03FFB000  +
";

    fn fault(text: &str) -> MapFault {
        read(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_map_of_partclone() {
        let map = read(MAP.as_bytes()).unwrap();
        assert_eq!((map.version.as_str(), map.end), ("0.3.23", 0x03FF_F000));
        let used: Vec<_> = map.used.iter().map(|range| (range.start.get(), range.len.get())).collect();
        assert_eq!(used, [(0, 0x3000), (0x4000, 0x03FF_B000)]);
        assert_eq!(read(MAP.split_once('\n').unwrap().1.as_bytes()).unwrap().version, "unknown");
    }

    #[test]
    fn whatever_is_not_a_map_is_refused() {
        let changed = |from: &str, to: &str| {
            assert!(MAP.contains(from), "{from}");
            fault(&MAP.replace(from, to))
        };
        assert_eq!(fault(""), MapFault::Short { line: 0 });
        assert_eq!(fault("command not found\n"), MapFault::Line { line: 1 });
        // Overlap, gap, wrong order, nothing, too much, beyond all numbers.
        assert_eq!(changed("0x00003000  0x00001000", "0x00002000  0x00002000"), MapFault::Line { line: 8 });
        assert_eq!(changed("0x00003000  0x00001000", "0x00003800  0x00000800"), MapFault::Line { line: 8 });
        assert_eq!(changed("0x00004000  0x", "0x00000000  0x"), MapFault::Line { line: 9 });
        assert_eq!(changed("0x00001000  ?", "0x00000000  ?"), MapFault::Line { line: 8 });
        assert_eq!(changed("0x03FFB000", "0x03FFC000"), MapFault::Line { line: 9 });
        assert_eq!(changed("0x03FFB000", "0xFFFFFFFFFFFFFFFF"), MapFault::Line { line: 9 });
        assert_eq!(changed("0x03FFB000", "0x103FFB0000000000000"), MapFault::Line { line: 9 });
        assert_eq!(changed("0x03FFB000", "0x03FFA000"), MapFault::Short { line: 9 });
        assert_eq!(changed("0x03FFF000", "0x13FFF000"), MapFault::Short { line: 9 });
        // Other states of ddrescue, other words, signs.
        assert_eq!(changed("0x00001000  ?", "0x00001000  -"), MapFault::Line { line: 8 });
        assert_eq!(changed("0x00001000  ?", "0x00001000  ?  ?"), MapFault::Line { line: 8 });
        assert_eq!(changed("0x00001000  ?", "0x+0001000  ?"), MapFault::Line { line: 8 });
        assert_eq!(changed("0x00001000  ?", "4096  ?"), MapFault::Line { line: 8 });
        assert_eq!(fault(&MAP.replace("0x03FFF000     ?\n", "")), MapFault::Line { line: 6 });
        assert_eq!(fault(&format!("{MAP}# the end\n")), MapFault::Line { line: 10 });
        assert_eq!(fault(&format!("{MAP}{MAP}")), MapFault::Line { line: 10 });
        assert_eq!(fault(&"#\n".repeat(100)), MapFault::Line { line: 17 });
        assert_eq!(fault(&format!("# {}\n", "x".repeat(10_000))), MapFault::Line { line: 1 });
    }

    #[test]
    fn endless_output_ends() {
        assert_eq!(read(io::repeat(b'#')), Err(MapFault::Line { line: 1 }));
        assert_eq!(read(io::repeat(b'\n')), Err(MapFault::Line { line: 1 }));
    }

    proptest! {
        /// A map that is cut or changed anywhere is refused, or does not call more free than it did.
        #[test]
        fn a_cut_map_is_no_map(at in 0..MAP.len()) {
            prop_assert!(read(&MAP.as_bytes()[..at]).is_err());
        }

        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0..MAP.len()) {
            let mut text = MAP.as_bytes().to_vec();
            text.splice(at..at, bytes);
            if let Ok(map) = read(text.as_slice()) {
                prop_assert!(map.used.end().get() <= map.end);
            }
        }
    }
}
