//! The folder through which programs are told what is to go wrong, and tell what they passed; `failpoints` reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The variable that names the folder.
pub const VARIABLE: &str = "EBB_FAILPOINTS";
/// How long a delay is: longer than the loops of boss and agent need to notice, shorter than any limit.
const DELAY_MS: u32 = 700;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The place fails.
    Error,
    /// The process ends there.
    Crash,
    /// The process waits there.
    Delay,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Error, Self::Crash, Self::Delay];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Crash => "crash",
            Self::Delay => "delay",
        })
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Arming(PathBuf);

impl Arming {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        for name in ["armed", "fired"] {
            let folder = folder.join(name);
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(Self(folder.canonicalize()?))
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Has something go wrong at a place, the `at`th time that one process comes by.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub fn arm(&self, place: &str, fault: Fault, at: u32) -> anyhow::Result<()> {
        let text = match fault {
            Fault::Error | Fault::Crash => format!("{fault} {at}"),
            Fault::Delay => format!("{fault} {at} {DELAY_MS}"),
        };
        // Programs look all the time: the file is there whole or not at all.
        let partial = self.0.join("arming");
        fs::write(&partial, text)?;
        fs::rename(&partial, self.0.join("armed").join(place)).with_context(|| format!("arm {place}"))
    }

    /// Returns whether it went wrong.
    pub fn has_fired(&self, place: &str) -> bool {
        self.0.join("fired").join(place).exists()
    }

    /// Disarms everything, and forgets what was.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear(&self) -> anyhow::Result<()> {
        for name in ["armed", "fired"] {
            for entry in fs::read_dir(self.0.join(name))? {
                match fs::remove_file(entry?.path()) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    // A program may have moved it a moment ago; then it is in the next folder.
                    _ => {}
                }
            }
        }
        fs::write(self.0.join("hits"), "").context("forget what was passed")
    }

    /// Returns how often each place was passed since the last [`Arming::clear`].
    pub fn hits(&self) -> BTreeMap<String, u32> {
        let mut hits = BTreeMap::new();
        for line in self.lines() {
            *hits.entry(line.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        hits
    }

    /// Returns how many places the one process of a program passed that passed most.
    pub fn most_of(&self, program: &str) -> u32 {
        let mut hits = BTreeMap::<String, u32>::new();
        for line in self.lines() {
            if let Some((_, process)) = line.split_once(' ')
                && process.split(' ').next() == Some(program)
            {
                *hits.entry(process.to_owned()).or_default() += 1;
            }
        }
        hits.into_values().max().unwrap_or(0)
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("hits")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
