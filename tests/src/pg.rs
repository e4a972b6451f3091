//! A private PostgreSQL: never the system's cluster, no TCP, a socket in a short folder of its own.
//!
//! As an ordinary user it lives in the folder it is made for. PostgreSQL refuses root, and clones often lie where the
//! user `postgres` cannot go; so as root it lives in a fresh folder under `/var/tmp` and a note says where.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cleanup::Cleanup;
use crate::tools;

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A socket's path has at most 107 bytes, and the file in the folder is called `.s.PGSQL.5432`.
const MAX_SOCKET_FOLDER: usize = 107 - "/.s.PGSQL.5432".len();
const NOTE: &str = "postgresql.note";
const USER: &str = "ebb";

/// What kind of server to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether what it says is stored must be: true but for tests, which never look after a power failure.
    pub durable: bool,
    /// A password to ask for; none: whoever may enter the folder may connect.
    pub password: Option<String>,
    /// A folder that is there to hold what it stores, instead of where that is by itself.
    pub data: Option<PathBuf>,
}

/// A running server; dropping it stops it and removes what it stored.
#[derive(Debug)]
pub struct Server {
    place: Place,
    durable: bool,
    password: Option<String>,
    child: Arc<Mutex<Child>>,
    _cleanup: Cleanup,
}

/// Returns the folder with PostgreSQL's programs, the newest.
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let found = versions.filter(|path| path.join("bin/postgres").is_file() && path.join("bin/initdb").is_file());
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    found.max_by_key(number).map(|path| path.join("bin"))
}

impl Server {
    /// Starts a server that belongs to the folder `home`, and returns once it answers.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start(home: &Path, options: &Options) -> anyhow::Result<Self> {
        let programs = programs().context(
            "PostgreSQL is not installed: no /usr/lib/postgresql/*/bin; run as root: apt-get install -y postgresql",
        )?;
        fs::create_dir_all(home).with_context(|| format!("make {}", home.display()))?;
        let home = home.canonicalize().with_context(|| format!("find {}", home.display()))?;
        remove_leftovers(&home);
        let place = Place::make(&home, options.data.as_deref())?;
        initialize(&programs, &place, options)?;
        let child = launch(&programs, &place, options.durable)?;
        let child = Arc::new(Mutex::new(child));
        let cleanup = Cleanup::new({
            let (child, place) = (Arc::clone(&child), place.clone());
            move || {
                stop(&mut child.lock().unwrap_or_else(PoisonError::into_inner));
                place.remove();
            }
        });
        let (durable, password) = (options.durable, options.password.clone());
        let server = Self { place, durable, password, child, _cleanup: cleanup };
        server.wait_ready(&programs)?;
        server.create_database(&programs, "ebb")?;
        Ok(server)
    }

    /// Starts it again if it ended by itself, and returns once it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn keep(&self) -> anyhow::Result<()> {
        let programs = programs().context("PostgreSQL is not installed any more")?;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.try_wait()?.is_some() {
            *child = launch(&programs, &self.place, self.durable)?;
        }
        drop(child);
        self.wait_ready(&programs)
    }

    /// Returns the address of a database of this server.
    pub fn url(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        self.url_as(&format!("{USER}{password}"), database)
    }

    /// Returns the address of a database for somebody: `user` or `user:password`.
    pub fn url_as(&self, who: &str, database: &str) -> String {
        // A folder's name is letters, digits and a few more; only what means something in an address is escaped.
        let folder = self.place.sockets.display().to_string();
        let escaped = folder.replace('%', "%25").replace('&', "%26").replace('#', "%23").replace('+', "%2B");
        format!("postgres://{who}@localhost/{database}?host={}", escaped.replace(' ', "%20"))
    }

    /// Makes another database.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn add_database(&self, name: &str) -> anyhow::Result<()> {
        self.create_database(&programs().context("PostgreSQL is not installed any more")?, name)
    }

    /// Applies the migrations of a folder to the database `ebb`, oldest first.
    ///
    /// # Errors
    /// When one cannot be applied.
    pub fn apply(&self, folder: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.retain(|path| path.to_string_lossy().ends_with(".up.sql"));
        files.sort();
        ensure!(!files.is_empty(), "there are no migrations in {}", folder.display());
        let psql = programs().context("PostgreSQL is not installed any more")?.join("psql");
        for file in files {
            let mut command = Command::new(&psql);
            command.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file).arg(self.url("ebb"));
            tools::run(&mut command).with_context(|| format!("apply {}", file.display()))?;
        }
        Ok(())
    }

    fn create_database(&self, programs: &Path, name: &str) -> anyhow::Result<()> {
        let mut command = Command::new(programs.join("createdb"));
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        let command =
            command.args(["-U", USER, "-p", "5432", "-h"]).arg(&self.place.sockets).arg(name).current_dir("/");
        tools::run(command).with_context(|| format!("make the database {name}"))
    }

    fn wait_ready(&self, programs: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut probe = Command::new(programs.join("pg_isready"));
            probe.args(["-q", "-U", USER, "-d", "postgres", "-p", "5432", "-t", "5", "-h"]).arg(&self.place.sockets);
            if probe.current_dir("/").status().context("run pg_isready")?.success() {
                return Ok(());
            }
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            if let Some(status) = ended {
                bail!("PostgreSQL ended with {status} while starting; its log ends:\n{}", self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "PostgreSQL does not answer after {} s; its log ends:\n{}",
                START_TIMEOUT.as_secs(),
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns what it wrote to its log.
    pub fn log(&self) -> String {
        let text = fs::read(self.place.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// Where a server keeps its things, and as whom it runs.
#[derive(Clone, Debug)]
struct Place {
    /// Everything: `log`, and `data` unless that is elsewhere.
    folder: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    note: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Place {
    fn make(home: &Path, data: Option<&Path>) -> anyhow::Result<Self> {
        let owner = if tools::is_root() { Some(user_id("postgres")?) } else { None };
        let inside = home.join("postgresql");
        let short = inside.as_os_str().len() + "/sockets".len() <= MAX_SOCKET_FOLDER;
        let folder = if owner.is_some() {
            fresh("/var/tmp")?
        } else {
            fs::create_dir(&inside).with_context(|| format!("make {}", inside.display()))?;
            inside
        };
        let sockets = if short || owner.is_some() { folder.join("sockets") } else { fresh("/tmp")? };
        let note = home.join(NOTE);
        let data = data.map_or_else(|| folder.join("data"), Path::to_path_buf);
        let place = Self { folder, data, sockets, note, owner };
        fs::write(&place.note, format!("{}\n{}\n", place.folder.display(), place.sockets.display()))
            .with_context(|| format!("write {}", place.note.display()))?;
        fs::create_dir_all(&place.sockets).with_context(|| format!("make {}", place.sockets.display()))?;
        let own = [&place.folder, &place.sockets].into_iter().chain(place.data.exists().then_some(&place.data));
        for path in own {
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
            if let Some((user, group)) = place.owner {
                chown(path, Some(user), Some(group)).with_context(|| format!("give {} away", path.display()))?;
            }
        }
        Ok(place)
    }

    /// Whether what is stored is where somebody else said.
    fn is_elsewhere(&self) -> bool {
        !self.data.starts_with(&self.folder)
    }

    /// A program of PostgreSQL, run as whom the server belongs to, in a folder it may enter.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("LC_ALL", "C").stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn remove(&self) {
        for path in [&self.sockets, &self.folder, &self.note] {
            remove(path);
        }
    }
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        crate::talk::say(format!("cannot remove {}: {error}", path.display()));
    }
}

fn fresh(parent: &str) -> anyhow::Result<PathBuf> {
    let made = tempfile::Builder::new().prefix("ebb-pg-").tempdir_in(parent);
    Ok(made.with_context(|| format!("make a folder in {parent}"))?.keep())
}

/// Looks a user up, without libc: its id and its group's.
///
/// # Errors
/// When there is no such user.
pub fn user_id(name: &str) -> anyhow::Result<(u32, u32)> {
    let line = tools::output(tools::program("getent").args(["passwd", name]))
        .with_context(|| format!("there is no user {name} on this machine"))?;
    let fields: Vec<_> = line.trim().split(':').collect();
    let [_, _, user, group, ..] = fields.as_slice() else { bail!("getent says {line:?} of {name}") };
    Ok((user.parse()?, group.parse()?))
}

fn initialize(programs: &Path, place: &Place, options: &Options) -> anyhow::Result<()> {
    let mut command = place.command(&programs.join("initdb"));
    command.args(["-U", USER, "-E", "UTF8", "--locale=C", "-D"]).arg(&place.data);
    command.arg("-A").arg(if options.password.is_some() { "scram-sha-256" } else { "trust" });
    if !options.durable {
        command.arg("--no-sync");
    }
    if options.data.is_some() {
        // On a small file system the log is small, too.
        command.arg("--wal-segsize=1");
    }
    if let Some(password) = &options.password {
        let file = place.folder.join("password");
        fs::write(&file, password)?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        if let Some((user, group)) = place.owner {
            chown(&file, Some(user), Some(group))?;
        }
        command.arg("--pwfile").arg(file);
    }
    tools::run(&mut command).context("make a private PostgreSQL cluster")
}

fn launch(programs: &Path, place: &Place, durable: bool) -> anyhow::Result<Child> {
    let log = fs::File::options().append(true).create(true).open(place.folder.join("log"));
    let log = log.context("make PostgreSQL's log")?;
    let mut command = place.command(&programs.join("postgres"));
    command.arg("-D").arg(&place.data).arg("-k").arg(&place.sockets).args(["-h", "", "-p", "5432"]);
    command.args(["-c", "max_connections=200", "-c", "shared_buffers=64MB"]);
    if place.is_elsewhere() {
        // Every piece of its log is a new file, which needs room.
        command.args(["-c", "wal_recycle=off"]);
    }
    if !durable {
        command.args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]);
    }
    // Its own process group: Ctrl-C reaches us, and we stop it in order, after those who use it.
    command.process_group(0).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("start PostgreSQL")
}

/// Stops the server: in order first, then at once, then by force.
fn stop(child: &mut Child) {
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return };
    for (signal, patience) in [(Signal::INT, 10), (Signal::QUIT, 5), (Signal::KILL, 5)] {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        // Its end between the look and the signal is what we want.
        let _gone = kill_process(pid, signal);
        let deadline = Instant::now() + Duration::from_secs(patience);
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Stops and removes what a run before us left that could not clean up, as after `kill -9`.
pub fn remove_leftovers(home: &Path) {
    let note = home.join(NOTE);
    let Ok(text) = fs::read_to_string(&note) else { return };
    let folders: Vec<_> = text.lines().map(PathBuf::from).collect();
    let ours = |path: &&PathBuf| {
        path.starts_with(home) || path.iter().any(|part| part.to_string_lossy().starts_with("ebb-pg-"))
    };
    if let Some(folder) = folders.first()
        && let Some(pid) = postmaster(folder)
    {
        let _gone = kill_process(pid, Signal::QUIT);
        let deadline = Instant::now() + Duration::from_secs(10);
        while postmaster(folder).is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    folders.iter().filter(ours).for_each(|path| remove(path));
    remove(&note);
}

/// The living server of a data folder: its pid file may be old, so what it names must be about this folder.
fn postmaster(folder: &Path) -> Option<Pid> {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    let raw: i32 = text.lines().next()?.parse().ok()?;
    let arguments = fs::read(format!("/proc/{raw}/cmdline")).ok()?;
    let data = folder.join("data");
    let about = arguments.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    if about { Pid::from_raw(raw) } else { None }
}
