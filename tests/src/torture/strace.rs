//! What `strace -f -y -xx` writes, understood.

use std::collections::HashMap;

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Its arguments as they are written.
    pub arguments: String,
    /// The texts among them: paths, or what is written, as far as it was recorded.
    pub texts: Vec<Vec<u8>>,
    /// What it returned, or why it did not.
    pub result: String,
    file: Option<String>,
}

impl Call {
    /// Returns the path of the file that its first argument is a descriptor of.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Returns its descriptor and the path of it.
    pub fn descriptor(&self) -> Option<&str> {
        Some(self.arguments.split_once('>')?.0)
    }

    /// Returns a text as a path.
    pub fn path(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.texts.get(index)?).ok()
    }

    /// Returns the numbers after the texts.
    pub fn numbers(&self) -> Vec<u64> {
        let rest = self.arguments.split_once(',').map_or("", |(_, rest)| rest);
        let after = rest.rsplit_once('"').map_or(rest, |(_, after)| after);
        after.split(',').filter_map(|word| word.trim().parse().ok()).collect()
    }

    /// Returns whether the file that is opened is made empty.
    pub fn truncates(&self) -> bool {
        self.arguments.contains("O_TRUNC")
    }

    /// Returns whether the file that is opened is made if it is not there.
    pub fn creates(&self) -> bool {
        self.arguments.contains("O_CREAT")
    }

    /// Returns the mode that `fchmod` gives.
    pub fn mode(&self) -> Option<u32> {
        let (_, mode) = self.arguments.rsplit_once(", ")?;
        u32::from_str_radix(mode, 8).ok()
    }

    /// Returns the time of modification that `utimensat` gives: seconds and nanoseconds.
    pub fn modified(&self) -> Option<(i64, u32)> {
        let (_, time) = self.arguments.rsplit_once("{tv_sec=")?;
        let (seconds, rest) = time.split_once(", tv_nsec=")?;
        Some((seconds.parse().ok()?, rest.split_once('}')?.0.parse().ok()?))
    }

    /// Returns what came of it as a number; nothing when it failed.
    pub fn done(&self) -> Option<u64> {
        self.result.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Returns true unless it failed.
    pub fn succeeded(&self) -> bool {
        self.done().is_some()
    }

    /// Returns true for what is written to a terminal, a pipe, or another thread: nothing durable.
    pub fn is_talk(&self) -> bool {
        self.file().is_some_and(|file| !file.starts_with('/') || file.starts_with("/dev/"))
    }
}

/// Understands a trace, in the order in which the calls ended: those that overlap are in two parts.
pub fn understand(text: &str) -> Vec<Call> {
    let (mut calls, mut open) = (Vec::new(), HashMap::new());
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Ok(thread) = thread.parse() else { continue };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, head.to_owned());
            continue;
        }
        let whole = match rest.strip_prefix("<... ").and_then(|tail| tail.split_once(" resumed>")) {
            Some((_, tail)) => open.remove(&thread).map(|head| head + tail),
            None => Some(rest.to_owned()),
        };
        calls.extend(whole.and_then(|whole| call(thread, &whole)));
    }
    calls
}

fn call(thread: u32, whole: &str) -> Option<Call> {
    let (head, result) = whole.rsplit_once(" = ")?;
    let (name, arguments) = head.trim_end().strip_suffix(')')?.split_once('(')?;
    let first = arguments.split_once(',').map_or(arguments, |(first, _)| first);
    let file = first.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| decode(path));
    Some(Call {
        thread,
        name: name.into(),
        texts: arguments.split('"').skip(1).step_by(2).map(decode).collect(),
        file: file.and_then(|path| String::from_utf8(path).ok()),
        arguments: arguments.into(),
        result: result.into(),
    })
}

/// Turns `\x61b` into `ab`.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut pieces = text.split("\\x");
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_one_part_and_in_two_are_understood() {
        let text = r#"
15 write(3<\x2f\x61\x20b>, "\x68\x69\x00", 3) = 3
7  pwrite64(3</a>, "\xff"..., 500, 4096 <unfinished ...>
15 mkdir("/x", 0700)            = -1 EEXIST (File exists)
8  fsync(5</a> <unfinished ...>
7  <... pwrite64 resumed>) = 500
7  renameat2(AT_FDCWD</home>, "\x2fx", AT_FDCWD</home>, "/y", RENAME_NOREPLACE) = 0
8 <... fsync resumed>)  = -1 EIO (Input/output error) (INJECTED)
9 write(4</a/d>, "z", 1 <unfinished ...>) = ?
15 openat(AT_FDCWD</home>, "/z", O_WRONLY|O_TRUNC, 0600) = 9</z>
15 +++ exited with 0 +++
"#;
        let calls = understand(text);
        let seen: Vec<_> = calls.iter().map(|call| (call.thread, call.name.as_str(), call.succeeded())).collect();
        let wanted = [
            (15, "write", true),
            (15, "mkdir", false),
            (7, "pwrite64", true),
            (7, "renameat2", true),
            (8, "fsync", false),
            (9, "write", false),
            (15, "openat", true),
        ];
        assert_eq!(seen, wanted);
        assert_eq!((calls[0].file(), calls[0].texts[0].as_slice()), (Some("/a b"), &b"hi\0"[..]));
        assert_eq!((calls[2].numbers(), calls[2].done()), (vec![500, 4096], Some(500)));
        assert_eq!((calls[3].path(0), calls[3].path(1)), (Some("/x"), Some("/y")));
        assert_eq!((calls[4].descriptor(), calls[4].file()), (Some("5</a"), Some("/a")));
        assert!(calls[6].truncates() && !calls[0].truncates());
    }
}
