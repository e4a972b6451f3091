//! A state directory on a nearly full file system, at many sizes: every swap-out and swap-in is done, or held with a
//! reason that speaks of room; nothing saved earlier is harmed; and when room is made it goes on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use super::report::{Method, Row};
use super::rows;
use super::turnover::{Trouble, Turn, Turnover};
use crate::cleanup::Cleanup;
use crate::{talk, tools};

/// The size of the file system.
const BYTES: u64 = 256 << 20;
/// The room with which a cycle is sure to go through.
const ENOUGH: u64 = 18 << 20;
/// How exactly room is taken.
const STEP: u64 = 16 << 10;
/// How many captures are looked at.
const ALL: u32 = 10_000;

/// A small file system of its own, with a file in it that takes the room.
#[derive(Debug)]
pub struct Small {
    folder: PathBuf,
    _unmount: Cleanup,
}

impl Small {
    /// Makes one, mounted on a folder; or nothing where that may not be.
    ///
    /// # Errors
    /// When a tool fails for another reason.
    pub fn mount(image: &Path, folder: &Path) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        File::create(image)?.set_len(BYTES)?;
        tools::run(tools::program("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(image))?;
        let mut mount = tools::program("mount");
        mount.args(["-o", "loop"]).arg(image).arg(folder).stderr(Stdio::null());
        if !mount.status().context("start mount")?.success() {
            return Ok(None);
        }
        let mounted = folder.to_path_buf();
        // What still has files open in it goes first: it was made later.
        let unmount = Cleanup::new(move || unmount(&mounted));
        Ok(Some(Self { folder: folder.to_path_buf(), _unmount: unmount }))
    }

    /// Leaves so many bytes free, or as many as there are.
    ///
    /// # Errors
    /// When the room cannot be taken.
    pub fn leave(&self, bytes: u64) -> anyhow::Result<()> {
        self.relieve()?;
        let mut taken = self.free()?.saturating_sub(bytes);
        let file = File::create(self.ballast()).context("take the room")?;
        // The list of what a large file takes takes room, too.
        while taken > 0 {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, taken) {
                Ok(()) => break,
                Err(rustix::io::Errno::NOSPC) => taken = taken.saturating_sub(STEP),
                Err(error) => return Err(error).context("take the room"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When it cannot be given back.
    pub fn relieve(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("make room"),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    fn free(&self) -> anyhow::Result<u64> {
        let found = rustix::fs::statvfs(&self.folder).context("look at the room")?;
        Ok(found.f_bavail * found.f_frsize)
    }
}

/// Unmounts what is mounted on a folder, if something is.
pub fn unmount(folder: &Path) {
    let _not_mounted = tools::output(tools::program("umount").arg("-l").arg(folder));
}

/// Takes turns with so many amounts of room, from none to enough. Returns nothing where no file system may be mounted.
///
/// # Errors
/// When the site does not start.
pub fn run(folder: &Path, sizes: u64) -> anyhow::Result<Option<Row>> {
    let began = Instant::now();
    let state = folder.join("site/state");
    let Some(small) = Small::mount(&folder.join("small.img"), &state)? else { return Ok(None) };
    let mut turnover = Turnover::start(folder)?;
    // Both have something saved that must not be harmed.
    for turn in Turn::ALL {
        turnover.turn(turn)?;
    }
    let (mut well, mut full, mut failures) = (0, 0, Vec::new());
    for size in 0..sizes {
        let room = ENOUGH * size / sizes;
        match squeeze(&mut turnover, &small, room) {
            Ok(trouble) => {
                talk::say(format!("[{}/{sizes}] {} KiB: {}", size + 1, room >> 10, shown(&trouble)));
                well += 1;
                full += u64::from(trouble != Trouble::default());
            }
            Err(error) => {
                failures.push(format!("with {room} bytes: {error:#}"));
                break;
            }
        }
    }
    let mut more = serde_json::Map::new();
    more.insert("ran_out_of_room".into(), json!(full));
    let seconds = began.elapsed().as_secs_f64();
    Ok(Some(Row { method: Method::Nospace, tried: sizes, found: well, expected: sizes, seconds, failures, more }))
}

/// The first experiment leaves and comes back with little room, each time until something asks for more.
fn squeeze(turnover: &mut Turnover, small: &Small, room: u64) -> anyhow::Result<Trouble> {
    let mut all = Trouble::default();
    for turn in [Turn::FirstOut, Turn::FirstIn] {
        small.leave(room)?;
        let trouble = turnover.turn_with(turn, |trouble| {
            let why = trouble.held.last().or(trouble.refused.last()).context("a person is asked for nothing")?;
            let spoken = ["room", "space", "full"].iter().any(|word| why.contains(word));
            ensure!(spoken, "the reason does not speak of room: {why}");
            small.relieve()
        });
        all.add(trouble.with_context(|| format!("in {turn:?}"))?);
        rows::check(turnover.site(), ALL)?;
    }
    small.relieve()?;
    Ok(all)
}

fn shown(trouble: &Trouble) -> String {
    let told: Vec<_> = trouble.refused.iter().chain(&trouble.held).map(String::as_str).collect();
    if told.is_empty() { "done".into() } else { told.join(" | ") }
}
