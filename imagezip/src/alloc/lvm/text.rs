//! The text format of LVM2, as far as metadata use it: sections, numbers, strings and lists of them.
//!
//! ```text
//! name { key = 1  key = "text"  key = ["a", 2]  name { ... } }   # comment
//! ```
//!
//! Anything else is a doubt. Depth and number of values are bounded, and a name occurs once in its section.

use std::collections::BTreeMap;

/// A group has four levels.
const MOST_DEPTH: usize = 8;
/// What a text of full length can hold if it is not made of lists of tiny numbers.
const MOST_VALUES: usize = 1 << 18;

/// A section, or the text as a whole.
pub(super) type Section<'a> = BTreeMap<&'a str, Value<'a>>;

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// As it is written, escapes included.
    Text(&'a str),
    List(Vec<Value<'a>>),
    Section(Section<'a>),
}

/// The text is not of this form, or is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where, in bytes.
    pub(super) at: usize,
}

/// Parses a text up to its closing zero byte.
pub(super) fn parse(text: &[u8]) -> Result<Section<'_>, Malformed> {
    let utf8 = std::str::from_utf8(text).map_err(|error| Malformed { at: error.valid_up_to() })?;
    let mut parser = Parser { text: utf8.trim_end_matches('\0'), at: 0, values: 0 };
    let section = parser.section(0)?;
    Ok(section)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Parser<'a> {
    fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Returns the next byte behind blanks and comments, without taking it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.rest().bytes().next()? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                other => return Some(other),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek() != Some(wanted) {
            return Err(self.malformed());
        }
        self.at += 1;
        Ok(())
    }

    /// Takes the longest piece of such characters, which must not be empty.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Result<&'a str, Malformed> {
        let rest = self.rest();
        let word = rest.get(..rest.find(|c| !belongs(c)).unwrap_or(rest.len())).unwrap_or_default();
        self.at += word.len();
        if word.is_empty() { Err(self.malformed()) } else { Ok(word) }
    }

    /// Counts a value, so that a text cannot make us hold more than the bound.
    fn count(&mut self) -> Result<(), Malformed> {
        self.values += 1;
        if self.values > MOST_VALUES { Err(self.malformed()) } else { Ok(()) }
    }

    /// Reads up to the closing brace, or to the end of the text at depth 0. The depth bounds the recursion.
    fn section(&mut self, depth: usize) -> Result<Section<'a>, Malformed> {
        if depth > MOST_DEPTH {
            return Err(self.malformed());
        }
        let mut section = Section::new();
        loop {
            match self.peek() {
                None if depth == 0 => return Ok(section),
                Some(b'}') if depth > 0 => {
                    self.at += 1;
                    return Ok(section);
                }
                _ => {}
            }
            let name = self.word(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))?;
            self.count()?;
            let value = match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    Value::Section(self.section(depth + 1)?)
                }
                _ => {
                    self.take(b'=')?;
                    self.value()?
                }
            };
            if section.insert(name, value).is_some() {
                return Err(self.malformed());
            }
        }
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        if self.peek() != Some(b'[') {
            return self.scalar();
        }
        self.at += 1;
        let mut list = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(list));
        }
        loop {
            self.count()?;
            list.push(self.scalar()?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(list));
                }
                _ => return Err(self.malformed()),
            }
        }
    }

    fn scalar(&mut self) -> Result<Value<'a>, Malformed> {
        if self.peek() == Some(b'"') {
            self.at += 1;
            return self.string().map(Value::Text);
        }
        let digits = self.word(|c| c.is_ascii_digit())?;
        // A sign, a fraction or a unit would follow; metadata have none.
        if self.rest().starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') {
            return Err(self.malformed());
        }
        digits.parse().map(Value::Number).map_err(|_| self.malformed())
    }

    fn string(&mut self) -> Result<&'a str, Malformed> {
        let (rest, mut escaped) = (self.rest(), false);
        for (at, byte) in rest.bytes().enumerate() {
            match byte {
                b'"' if !escaped => {
                    self.at += at + 1;
                    return rest.get(..at).ok_or(self.malformed());
                }
                b'\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        Err(self.malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> usize {
        parse(text.as_bytes()).unwrap_err().at
    }

    #[test]
    fn sections_numbers_strings_and_lists() {
        let text = b"vg-0 {\nid = \"a\\\"b\" # c }\nlist=[\"x\",1 , 2]\nnone = []\nin.ner { }\n}\nversion = 1\n\0";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed["version"], Value::Number(1));
        let Value::Section(group) = &parsed["vg-0"] else { panic!("{parsed:?}") };
        assert_eq!(group["id"], Value::Text("a\\\"b"));
        assert_eq!(group["list"], Value::List(vec![Value::Text("x"), Value::Number(1), Value::Number(2)]));
        assert_eq!(group["none"], Value::List(Vec::new()));
        assert_eq!(group["in.ner"], Value::Section(Section::new()));
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in [
            "a",
            "a =",
            "a {",
            "a { b = 1",
            "}",
            "a }",
            "a = 1 }",
            "a = [",
            "a = [1",
            "a = [1,]",
            "a = [1 2]",
            "= 1",
            "a = \"x",
            "a = -1",
            "a = 1.5",
            "a = 0x1",
            "a = x",
            "a = [[1]]",
            "a = {}",
            "a = 99999999999999999999",
            "a = 1 a = 2",
            "a { b = 1 b = 2 }",
            "\u{e9} = 1",
            "a = 1\0b = 2",
        ] {
            bad(text);
        }
        assert_eq!(bad("ab = ?"), 5);
        assert_eq!(parse(b"a = \xff"), Err(Malformed { at: 4 }));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| "a {".repeat(depth) + &"}".repeat(depth);
        assert!(parse(nested(MOST_DEPTH).as_bytes()).is_ok());
        assert_eq!(bad(&nested(MOST_DEPTH + 1)), 3 * (MOST_DEPTH + 1));
        bad(&"a {".repeat(500_000));
        let list = |len: usize| format!("a = [1{}]", ",1".repeat(len - 1));
        assert!(parse(list(MOST_VALUES - 1).as_bytes()).is_ok());
        bad(&list(MOST_VALUES));
    }
}
