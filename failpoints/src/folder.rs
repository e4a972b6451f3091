//! The folder in which a test arms places, and sees which were passed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Where places are armed.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The name of the program.
    program: String,
    passed: Mutex<Passed>,
}

/// How often this process came by.
#[derive(Debug, Default)]
struct Passed {
    each: HashMap<&'static str, u32>,
    /// Any of them, since something is armed at any, and what that is.
    any: u32,
    armed: Option<(u32, Action)>,
}

/// What happens at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Error,
    Crash,
    Delay(Duration),
}

/// Returns the folder this process was told of.
pub(crate) fn of_this_process() -> Option<&'static Folder> {
    static FOLDER: OnceLock<Option<Folder>> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::var_os(crate::VARIABLE).map(|path| Folder::new(path.into()))).as_ref()
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        let program =
            std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Self { path, program: program.unwrap_or_default(), passed: Mutex::default() }
    }

    /// Does what is wanted at a place.
    pub(crate) fn pass(&self, name: &'static str) -> io::Result<()> {
        match self.wanted(name) {
            None => Ok(()),
            Some(Action::Error) => Err(io::Error::other(format!("a test wants an error at {name}"))),
            // Nothing is dropped, flushed or said: as after SIGKILL.
            Some(Action::Crash) => std::process::abort(),
            Some(Action::Delay(time)) => {
                std::thread::sleep(time);
                Ok(())
            }
        }
    }

    /// Notes that a place is passed, and takes what is to happen there now.
    fn wanted(&self, name: &'static str) -> Option<Action> {
        self.note(name);
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let time = passed.each.entry(name).or_default();
        *time += 1;
        if let Some(action) = self.armed(name).and_then(|armed| self.take(name, armed, *time)) {
            return Some(action);
        }
        let any = format!("any.{}", self.program);
        let armed = self.armed(&any);
        if passed.armed != armed {
            (passed.armed, passed.any) = (armed, 0);
        }
        passed.any += 1;
        let action = self.take(&any, armed?, passed.any)?;
        passed.armed = None;
        Some(action)
    }

    fn armed(&self, name: &str) -> Option<(u32, Action)> {
        parse(&fs::read_to_string(self.path.join("armed").join(name)).ok()?)
    }

    /// Takes what is armed when it is time. Whoever moves the file does it: of several processes only one can.
    fn take(&self, name: &str, (at, action): (u32, Action), time: u32) -> Option<Action> {
        let moved = || fs::rename(self.path.join("armed").join(name), self.path.join("fired").join(name)).is_ok();
        (time >= at && moved()).then_some(action)
    }

    fn note(&self, name: &str) {
        let line = format!("{name} {} {}\n", self.program, std::process::id());
        let file = File::options().append(true).create(true).open(self.path.join("hits"));
        // One short write to a file opened for appending: lines of several processes do not mix. A test that counts
        // misses the line when it cannot be written.
        drop(file.and_then(|mut file| file.write_all(line.as_bytes())));
    }
}

fn parse(text: &str) -> Option<(u32, Action)> {
    let mut words = text.split_whitespace();
    let (action, at) = (words.next()?, words.next()?.parse().ok()?);
    let action = match action {
        "error" => Action::Error,
        "crash" => Action::Crash,
        "delay" => Action::Delay(Duration::from_millis(words.next()?.parse().ok()?)),
        _ => return None,
    };
    words.next().is_none().then_some((at, action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_armed_happens_once_and_at_its_time() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path().to_path_buf());
        for name in ["armed", "fired"] {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        folder.pass("a.b").unwrap();
        fs::write(temp.path().join("armed/a.b"), "error 3").unwrap();
        folder.pass("a.b").unwrap();
        folder.pass("a.c").unwrap();
        assert!(folder.pass("a.b").unwrap_err().to_string().contains("a.b"));
        folder.pass("a.b").unwrap();
        assert!(temp.path().join("fired/a.b").exists());
        let hits = fs::read_to_string(temp.path().join("hits")).unwrap();
        let names: Vec<_> = hits.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["a.b", "a.b", "a.c", "a.b", "a.b"]);
    }

    #[test]
    fn at_any_place_it_counts_from_when_it_is_armed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder { program: "here".to_owned(), ..Folder::new(temp.path().to_path_buf()) };
        for name in ["armed", "fired"] {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        folder.pass("a.b").unwrap();
        fs::write(temp.path().join("armed/any.there"), "error 1").unwrap();
        fs::write(temp.path().join("armed/any.here"), "crash 9").unwrap();
        folder.pass("a.b").unwrap();
        for _ in 0..2 {
            fs::write(temp.path().join("armed/any.here"), "error 2").unwrap();
            folder.pass("a.b").unwrap();
            assert!(folder.pass("a.c").unwrap_err().to_string().contains("a.c"));
            folder.pass("a.c").unwrap();
        }
    }

    #[test]
    fn only_what_is_understood_is_wanted() {
        assert_eq!(parse("error 1\n"), Some((1, Action::Error)));
        assert_eq!(parse("crash 12"), Some((12, Action::Crash)));
        assert_eq!(parse("delay 2 250"), Some((2, Action::Delay(Duration::from_millis(250)))));
        for other in ["", "crash", "crash x", "delay 1", "error 1 2", "panic 1"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }
}
