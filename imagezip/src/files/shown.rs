//! Names out of a disk, for people: nothing in them can command a terminal.

use std::fmt::Write as _;

/// Returns a name or a path with everything but plain text escaped, as in Rust: `\n`, `\u{1b}`, `\xff`.
///
/// Besides control characters that is whatever does not print, like marks that turn the direction of text around, and
/// bytes that are not UTF-8. A backslash is doubled, so that no two names look the same.
pub fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for part in chunk.valid().split_inclusive(['\'', '"']) {
            // Quotes would be escaped, too, although nothing is wrong with them.
            let quote = part.strip_suffix(['\'', '"']).map(|before| part.split_at(before.len()));
            let (plain, quote) = quote.unwrap_or((part, ""));
            text.extend(plain.escape_debug());
            text.push_str(quote);
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_text_is_left_as_it_is() {
        for (name, text) in [
            (&b"it's \"plain\" text.txt"[..], "it's \"plain\" text.txt"),
            ("größe 大小".as_bytes(), "größe 大小"),
            (b"\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            (b"a\nb\tc\rd\0", "a\\nb\\tc\\rd\\0"),
            (b"\xff\xfe ok \x9b2J", "\\xff\\xfe ok \\x9b2J"),
            ("\u{9b}2J \u{202e}gpj.exe".as_bytes(), "\\u{9b}2J \\u{202e}gpj.exe"),
            (b"back\\slash\\'", "back\\\\slash\\\\'"),
            (b"''", "''"),
            (b"", ""),
        ] {
            assert_eq!(shown(name), text);
        }
    }
}
