//! A site of its own: a database, a boss, machines whose disks are files, and people.
//!
//! Everything goes through the built programs and the HTTP interface. Dropping a site stops all of it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use boss_api::client::{ClientError, ExperimentAction, UserClient};
use boss_api::names::{ExperimentName, Name};
use boss_api::user::{ExperimentView, JobView, NodeView, RetryHeld, SwapPointView};
use rustix::process::Signal;

use crate::cleanup::Cleanup;
use crate::{pg, processes, tools};

/// How long boss may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest a command may take: a hanging test helps nobody.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1800);
/// The project that demo and tests work in.
pub const PROJECT: &str = "demo";
const ADMIN: &str = "admin";

/// A running site.
#[derive(Debug)]
pub struct Site {
    // Fields are dropped in this order: what uses the database goes before it.
    boss: Mutex<Option<Child>>,
    _cleanup: Cleanup,
    database: pg::Server,
    folder: PathBuf,
    programs: PathBuf,
    mark: String,
    variables: Vec<(&'static str, OsString)>,
    listen: SocketAddr,
    agent_listen: SocketAddr,
    runtime: tokio::runtime::Runtime,
    client: Option<UserClient>,
}

impl Site {
    /// Starts a site in a folder, with an admin signed in and a project.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start(folder: &Path, options: &pg::Options) -> anyhow::Result<Self> {
        Self::start_with(folder, options, Vec::new())
    }

    /// As [`Site::start`]; every program gets these variables, too.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        folder: &Path,
        options: &pg::Options,
        variables: Vec<(&'static str, OsString)>,
    ) -> anyhow::Result<Self> {
        let mut site = Self::prepare(folder, options)?;
        site.variables = variables;
        site.start_boss()?;
        site.sign_in()?;
        Ok(site)
    }

    /// Makes everything but does not start boss.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn prepare(folder: &Path, options: &pg::Options) -> anyhow::Result<Self> {
        let programs = programs()?;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let mark = mark_of(&folder);
        // What a run before us left that could not clean up, as after `kill -9`.
        processes::kill_marked(&mark);
        let database = pg::Server::start(&folder, options)?;
        let cleanup = Cleanup::new({
            let mark = mark.clone();
            move || processes::kill_marked(&mark)
        });
        let site = Self {
            boss: Mutex::new(None),
            _cleanup: cleanup,
            database,
            programs,
            mark,
            variables: Vec::new(),
            listen: free_address()?,
            agent_listen: free_address()?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            client: None,
            folder,
        };
        fs::create_dir_all(site.folder.join("keys"))?;
        site.write_password(ADMIN)?;
        site.boss(&["migrate"])?;
        site.boss(&["admin", "project", "add", PROJECT])?;
        site.add_user(ADMIN, "admin")?;
        Ok(site)
    }

    /// Returns the site's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns boss's state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Returns the database's address.
    pub fn database_url(&self) -> String {
        self.database.url("ebb")
    }

    /// Returns the database server.
    pub const fn database(&self) -> &pg::Server {
        &self.database
    }

    /// Returns the address for people.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Returns where boss listens for people and for agents.
    pub const fn listens(&self) -> (SocketAddr, SocketAddr) {
        (self.listen, self.agent_listen)
    }

    /// Returns who may do everything, and the file with the password.
    pub fn login(&self) -> (&'static str, PathBuf) {
        (ADMIN, self.password_file(ADMIN))
    }

    /// Returns the folder of the built programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Prepares one of our programs, with this site's settings.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("EBB_DATABASE_URL", self.database_url()).env("EBB_STATE", self.state());
        command.env("EBB_SERVER", self.url()).env("EBB_TOKEN_FILE", self.folder.join("token"));
        command.env("HOME", &self.folder).env(processes::MARK, &self.mark);
        command.env_remove("DATABASE_URL").env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Prepares `boss serve`.
    pub fn serve(&self) -> Command {
        let mut command = self.program("boss");
        command.arg("serve").arg("--listen").arg(self.listen.to_string());
        command.arg("--agent-listen").arg(self.agent_listen.to_string()).arg("--state").arg(self.state());
        command.arg("--base-url").arg(self.url()).arg("--agent-program").arg(self.programs.join("node-agent"));
        command
    }

    /// Starts boss and returns once it serves.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the end of its log is part of the error.
    pub fn start_boss(&self) -> anyhow::Result<()> {
        let ready = self.state().join("run/boss.json");
        let log = self.folder.join("boss.log");
        let file = File::options().append(true).create(true).open(&log).context("open boss's log")?;
        let mut command = self.serve();
        command.process_group(0).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().context("start boss")?;
        let pid = child.id();
        let deadline = Instant::now() + READY_TIMEOUT;
        let started = loop {
            if let Some(status) = child.try_wait()? {
                break Err(anyhow::anyhow!("boss ended with {status}"));
            }
            // A file of a boss that was killed names another process.
            let told = fs::read(&ready).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
            if told.is_some_and(|told| told["pid"] == pid) && self.is_ready() {
                break Ok(());
            }
            if Instant::now() > deadline {
                break Err(anyhow::anyhow!("boss is not ready after {} s", READY_TIMEOUT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        *self.boss.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        started.with_context(|| format!("start boss; its log ends:\n{}", tail(&log)))
    }

    fn is_ready(&self) -> bool {
        let url = format!("{}/readyz", self.url());
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        client.is_ok_and(|client| {
            self.runtime
                .block_on(async { client.get(url).send().await })
                .is_ok_and(|answer| answer.status().is_success())
        })
    }

    /// Kills boss as a power failure would, and returns once it is gone.
    ///
    /// # Errors
    /// When it did not run.
    pub fn kill_boss(&self) -> anyhow::Result<()> {
        let mut boss = self.boss.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = boss.take().context("boss does not run")?;
        child.kill().context("kill boss")?;
        child.wait().context("wait for boss").map(drop)
    }

    /// Returns whether boss ended by itself since it was started.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn boss_has_ended(&self) -> anyhow::Result<bool> {
        let mut boss = self.boss.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = match &mut *boss {
            Some(child) => child.try_wait().context("look at boss")?.is_some(),
            None => true,
        };
        if ended {
            *boss = None;
        }
        Ok(ended)
    }

    /// Returns the processes of a machine's agent and what it started.
    pub fn agent(&self, node: &str) -> Vec<processes::Process> {
        let work = self.state().join("run/nodes").join(node).join("work");
        let marked = processes::marked(&self.mark);
        let is_agent = |process: &&processes::Process| process.arguments.iter().any(|word| Path::new(word) == work);
        let mut found: Vec<_> = marked.iter().filter(is_agent).cloned().collect();
        // And its children, and theirs.
        loop {
            let is_new = |process: &&processes::Process| {
                let known = |other: &processes::Process| other.pid == process.pid;
                found.iter().any(|other| other.pid.as_raw_nonzero().get() == process.parent) && !found.iter().any(known)
            };
            let more: Vec<_> = marked.iter().filter(is_new).cloned().collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Sends all processes of a machine's agent a signal. Returns how many there were.
    pub fn signal_agent(&self, node: &str, signal: Signal) -> usize {
        let processes = self.agent(node);
        processes.iter().for_each(|process| process.signal(signal));
        processes.len()
    }

    fn sign_in(&mut self) -> anyhow::Result<()> {
        let (user, file) = self.login();
        self.ebb([
            OsStr::new("login"),
            "--user".as_ref(),
            user.as_ref(),
            "--password-file".as_ref(),
            file.as_os_str(),
        ])?;
        let kept: serde_json::Value = serde_json::from_slice(&fs::read(self.folder.join("token"))?)?;
        let token = kept["token"].as_str().context("ebb keeps no token")?;
        self.client = Some(UserClient::new(&self.url(), Some(token))?);
        Ok(())
    }

    fn password_file(&self, user: &str) -> PathBuf {
        self.folder.join("keys").join(format!("{user}.password"))
    }

    fn write_password(&self, user: &str) -> anyhow::Result<()> {
        let file = self.password_file(user);
        fs::write(&file, format!("{}\n", uuid::Uuid::now_v7().simple()))?;
        fs::set_permissions(&file, Permissions::from_mode(0o600)).context("keep the password to ourselves")
    }

    /// Adds a person to the project.
    ///
    /// # Errors
    /// When boss refuses.
    pub fn add_user(&self, name: &str, role: &str) -> anyhow::Result<()> {
        self.write_password(name)?;
        let file = self.password_file(name);
        let file = file.to_str().context("a folder's name that is not UTF-8")?;
        self.boss(&["admin", "user", "add", name, "--role", role, "--project", PROJECT, "--password-file", file])
            .map(drop)
    }

    /// Makes a key pair and has boss trust it. Returns the secret half.
    ///
    /// # Errors
    /// When boss refuses.
    pub fn add_key(&self, name: &str) -> anyhow::Result<PathBuf> {
        let secret = self.new_key(name)?;
        let public = format!("{}.pub", secret.display());
        self.boss(&["admin", "key", "add", &public])?;
        Ok(secret)
    }

    /// Makes a key pair that nobody trusts. Returns the secret half.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new_key(&self, name: &str) -> anyhow::Result<PathBuf> {
        let secret = self.folder.join("keys").join(name);
        self.ebb([OsStr::new("key"), "new".as_ref(), "--out".as_ref(), secret.as_os_str()])?;
        Ok(secret)
    }

    /// Registers a machine with one disk, zeros so far. Returns the disk's file.
    ///
    /// # Errors
    /// When boss refuses.
    pub fn add_node(&self, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("machines");
        fs::create_dir_all(&folder)?;
        let disk = folder.join(format!("{name}.img"));
        File::create(&disk).and_then(|file| file.set_len(bytes)).with_context(|| format!("make {}", disk.display()))?;
        fs::write(format!("{}.serial", disk.display()), format!("SERIAL-OF-{name}\n"))?;
        let place = format!("sda={}", disk.display());
        self.ebb(["node", "add", name, "--disk", &place])?;
        Ok(disk)
    }

    /// Runs `ebb`.
    ///
    /// # Errors
    /// When it does not succeed; what it said is part of the error.
    pub fn ebb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
        tools::output(self.program("ebb").args(arguments))
    }

    /// Runs `ebb`, which may fail.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn try_ebb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
        self.program("ebb").args(arguments).output().context("start ebb")
    }

    /// Runs `boss`.
    ///
    /// # Errors
    /// When it does not succeed; what it said is part of the error.
    pub fn boss(&self, arguments: &[&str]) -> anyhow::Result<String> {
        tools::output(self.program("boss").args(arguments))
    }

    /// Runs `ebb` while `look` is called again and again with the experiment as boss shows it.
    ///
    /// # Errors
    /// When `ebb` does not succeed, or `look` fails.
    pub fn ebb_watched(
        &self,
        arguments: &[&str],
        experiment: &ExperimentName,
        mut look: impl FnMut(&ExperimentView) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut command = self.program("ebb");
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("start ebb")?;
        let running = Arc::new(Mutex::new(None));
        let waiter = std::thread::spawn({
            let running = Arc::clone(&running);
            move || {
                let output = child.wait_with_output();
                *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
            }
        });
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let output = loop {
            if let Some(output) = running.lock().unwrap_or_else(PoisonError::into_inner).take() {
                break output.context("wait for ebb")?;
            }
            ensure!(Instant::now() < deadline, "{} does not end", tools::shown(&command));
            match self.experiment(experiment) {
                Ok(view) => look(&view)?,
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // It put its answer down just now, so it ends.
        drop(waiter.join());
        if !output.status.success() {
            bail!("{} ended with {}: {}", tools::shown(&command), output.status, text(&output.stderr));
        }
        look(&self.experiment(experiment)?)
    }

    /// Returns an experiment as boss shows it.
    ///
    /// # Errors
    /// When boss does not answer.
    pub fn experiment(&self, name: &ExperimentName) -> Result<ExperimentView, ClientError> {
        self.runtime.block_on(self.client()?.experiment(name))
    }

    /// Asks for something to be done with an experiment.
    ///
    /// # Errors
    /// When boss refuses, or does not answer: then it may have been asked all the same.
    pub fn act(&self, name: &ExperimentName, action: ExperimentAction) -> Result<JobView, ClientError> {
        self.runtime.block_on(self.client()?.act(name, action))
    }

    /// Lets what is held of an experiment go on.
    ///
    /// # Errors
    /// When boss refuses, or does not answer: then it may go on all the same.
    pub fn retry(&self, name: &ExperimentName) -> Result<JobView, ClientError> {
        self.runtime.block_on(self.client()?.retry(name, &RetryHeld::default()))
    }

    /// Returns what was saved of an experiment.
    ///
    /// # Errors
    /// When boss does not answer.
    pub fn points(&self, name: &ExperimentName) -> Result<Vec<SwapPointView>, ClientError> {
        self.runtime.block_on(self.client()?.points(name))
    }

    /// Returns a machine as boss shows it.
    ///
    /// # Errors
    /// When boss does not answer.
    pub fn node(&self, name: &Name) -> Result<NodeView, ClientError> {
        self.runtime.block_on(self.client()?.node(name))
    }

    /// Returns a job as boss shows it.
    ///
    /// # Errors
    /// When boss does not answer.
    pub fn job(&self, job: boss_api::ids::JobId) -> Result<JobView, ClientError> {
        self.runtime.block_on(self.client()?.job(job, Duration::ZERO))
    }

    fn client(&self) -> Result<&UserClient, ClientError> {
        self.client
            .as_ref()
            .ok_or_else(|| ClientError::Address { url: self.url(), reason: "nobody is signed in".into() })
    }

    /// Returns the file of the first version of one of the site's own images.
    pub fn image_file(&self, image: &str) -> PathBuf {
        self.state().join("proj/system/images").join(image).join("1.zdi")
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not so in time, or looking fails for good.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let log = tail(&self.folder.join("boss.log"));
                bail!("waited {} s for {what}; boss's log ends:\n{log}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // In order, so that nothing is written while it goes: boss first, then what it started, by the cleanup.
        if let Some(mut child) = self.boss.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Returns the folder of the built programs: ours, or the one above, where cargo puts the programs of tests.
///
/// # Errors
/// When `boss` is not there.
pub fn programs() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find our own program")?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.into_iter().find(|folder| folder.join("boss").is_file());
    found.map(Path::to_path_buf).with_context(|| {
        format!("boss is not built: it is not beside {}; run `cargo build --workspace --bins`", own.display())
    })
}

/// Returns a loopback address that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// Returns the mark of a site in this folder. It is always the same, so what an earlier run in it left behind is found again.
pub fn mark_of(folder: &Path) -> String {
    use sha2::Digest as _;
    hex::encode(&sha2::Sha256::digest(folder.as_os_str().as_encoded_bytes())[..16])
}

/// Returns the end of a log.
pub fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = text(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
