//! Nearly full file systems, at many sizes. With the state directory on one, every swap-out and swap-in is done, or held
//! with a reason that speaks of room; with the database on one, nothing moves. Nothing saved earlier is harmed, and when
//! room is made it goes on.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::report::{Method, Row};
use super::rows;
use super::turnover::{Moment, Trouble, Turn, Turnover};
use crate::cleanup::Cleanup;
use crate::{pg, talk, tools};

/// The size of the file system: small, so that the part of it that is kept back is, too.
const BYTES: u64 = 256 << 20;
/// How many amounts of room are tried on one: what is saved each time stays.
const SIZES_EACH: usize = 10;
/// The room with which a cycle is sure to go through: of the state directory, and of the database.
const ENOUGH: u64 = 18 << 20;
const ENOUGH_ROWS: u64 = 2 << 20;
/// How long a database has no room.
const STANDSTILL: Duration = Duration::from_secs(3);
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

/// Takes turns with so many amounts of room, from none to enough; then a part of that with a database that has little.
/// Returns nothing where no file system may be mounted.
///
/// # Errors
/// When a site does not start.
pub fn run(folder: &Path, sizes: u64) -> anyhow::Result<Option<Row>> {
    let began = Instant::now();
    let Some((store, mut failures)) = full_store(&folder.join("store"), sizes)? else { return Ok(None) };
    let rows = sizes.div_ceil(5);
    let Some((database, more_failures)) = full_database(&folder.join("database"), rows)? else { return Ok(None) };
    failures.extend(more_failures);
    let mut more = serde_json::Map::new();
    more.insert("store_ran_out".into(), json!(store.ran_out));
    more.insert("database_sizes".into(), json!(rows));
    more.insert("database_ran_out".into(), json!(database.ran_out));
    let (tried, found) = (sizes + rows, store.well + database.well);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Some(Row { method: Method::Nospace, tried, found, expected: tried, seconds, failures, more }))
}

/// How many amounts of room ended well, and with how many there was too little.
#[derive(Debug, Default)]
struct Ends {
    well: u64,
    ran_out: u64,
}

impl Ends {
    /// Tries amounts of room until one does not end well.
    fn add(
        &mut self,
        rooms: &[u64],
        mut squeeze: impl FnMut(u64) -> anyhow::Result<(bool, String)>,
    ) -> anyhow::Result<()> {
        for room in rooms {
            let (ran_out, shown) = squeeze(*room).with_context(|| format!("with {room} bytes"))?;
            talk::say(format!("{} KiB: {shown}", room >> 10));
            self.well += 1;
            self.ran_out += u64::from(ran_out);
        }
        Ok(())
    }
}

/// So many amounts of room, from none up to less than enough.
fn rooms(sizes: u64, enough: u64) -> Vec<u64> {
    (0..sizes).map(|size| enough * size / sizes).collect()
}

fn full_store(folder: &Path, sizes: u64) -> anyhow::Result<Option<(Ends, Vec<String>)>> {
    let (mut ends, mut failures) = (Ends::default(), Vec::new());
    for (index, rooms) in rooms(sizes, ENOUGH).chunks(SIZES_EACH).enumerate() {
        let folder = folder.join(index.to_string());
        fs::create_dir_all(&folder)?;
        let Some(small) = Small::mount(&folder.join("small.img"), &folder.join("site/state"))? else { return Ok(None) };
        let mut turnover = Turnover::start(&folder)?;
        both_saved(&mut turnover)?;
        let ended = ends.add(rooms, |room| {
            let mut all = Trouble::default();
            for turn in [Turn::FirstOut, Turn::FirstIn] {
                small.leave(room)?;
                let trouble = turnover.turn_with(turn, |_, moment| {
                    let Moment::Asked(why) = moment else { return Ok(()) };
                    let spoken = ["room", "space", "full"].iter().any(|word| why.contains(word));
                    ensure!(spoken, "the reason does not speak of room: {why}");
                    small.relieve()
                });
                all.add(trouble.with_context(|| format!("in {turn:?}"))?);
                rows::check(turnover.site(), ALL)?;
            }
            small.relieve()?;
            Ok((all != Trouble::default(), shown(&all)))
        });
        failures.extend(ended.err().map(|error| format!("{error:#}")));
    }
    Ok(Some((ends, failures)))
}

fn full_database(folder: &Path, sizes: u64) -> anyhow::Result<Option<(Ends, Vec<String>)>> {
    fs::create_dir_all(folder)?;
    // Where the user that PostgreSQL runs as may go.
    let place = tempfile::Builder::new().prefix("ebb-pg-").tempdir_in("/var/tmp")?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711))?;
    let Some(small) = Small::mount(&folder.join("small.img"), &place.path().join("small"))? else { return Ok(None) };
    let data = place.path().join("small/data");
    fs::create_dir(&data)?;
    let mut turnover = Turnover::start_with(folder, &pg::Options { data: Some(data), ..pg::Options::default() })?;
    both_saved(&mut turnover)?;
    let mut ends = Ends::default();
    let ended = ends.add(&rooms(sizes, ENOUGH_ROWS), |room| {
        let (mut all, mut ran_out) = (Trouble::default(), false);
        for turn in [Turn::FirstOut, Turn::FirstIn] {
            let said = turnover.site().database().log().len();
            let (mut full_since, mut relieved) = (None, false);
            let trouble = turnover.turn_with(turn, |site, _| {
                let Some(since) = full_since else {
                    // The rest of the present piece of its log would be room of its own.
                    rows::query(site, "SELECT pg_switch_wal()")?;
                    small.leave(room)?;
                    full_since = Some(Instant::now());
                    return Ok(());
                };
                if !relieved && since.elapsed() > STANDSTILL {
                    relieved = true;
                    ran_out |= site.database().log()[said..].contains("No space left");
                    small.relieve()?;
                    // Without room for its log it ends.
                    site.database().keep()?;
                }
                Ok(())
            });
            all.add(trouble.with_context(|| format!("in {turn:?}"))?);
            rows::check(turnover.site(), ALL)?;
        }
        small.relieve()?;
        Ok((ran_out, shown(&all)))
    });
    drop(turnover);
    Ok(Some((ends, ended.err().map(|error| format!("{error:#}")).into_iter().collect())))
}

/// A cycle with enough room: both have something saved that must not be harmed.
fn both_saved(turnover: &mut Turnover) -> anyhow::Result<()> {
    for turn in Turn::ALL {
        turnover.turn(turn)?;
    }
    Ok(())
}

fn shown(trouble: &Trouble) -> String {
    let told: Vec<_> = trouble.refused.iter().chain(&trouble.held).map(String::as_str).collect();
    if told.is_empty() { "done".into() } else { told.join(" | ") }
}
