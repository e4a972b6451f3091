//! `node-agent`: runs in the memory file system of a node, does what boss orders, and trusts nothing it can check.
//!
//! - [`boot`]: what it begins with
//! - [`permit`]: the only way to a disk opened for writing
//! - [`memory`]: the highest term and epoch that were heard
//! - [`provenance`]: whose images are believed
//! - [`room`]: no room in the work folder
//!
//! boss repeats an order until its end is reported. So each order is known by its id and attempt, and one that runs or
//! ended in this boot is not begun again. `stale` about an attempt ends that attempt; `stale` in answer to a poll ends
//! the agent. It never ends because boss is away.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use boss_api::ErrorCode;
use boss_api::agent::{
    CaptureOrder, Failure, FailureClass, FoundDisk, MAX_POLL_MS, PROTOCOL, Poll, Register, SwapCommand, Task,
    WriteOrder,
};
use boss_api::client::{AgentClient, ClientError, TermMemory};
use boss_api::ids::{CaptureId, JobId, WriteId};
use boss_api::names::Name;
use sigs::seal::TrustedKeys;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub mod boot;
mod capturing;
mod child;
mod depot;
mod engine;
pub mod memory;
pub mod permit;
pub mod provenance;
pub mod room;
mod writing;

pub use child::{STOP_AT_EOF, TOKEN_FILE};

use self::boot::{Boot, BootError, Secret};
use self::depot::Depot;
use self::memory::Memory;
use self::permit::Identity;
use self::room::NoRoom;
use crate::disk::{IdentifyError, identify};
use crate::exit::chain;
use crate::retry::{Backoff, persist};

/// How long an order that was seen already rests before boss is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest reason that boss keeps.
const MAX_REASON: usize = 2000;

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// boss said that this boot is over.
    Stale,
    /// boss switched the machine off.
    PowerOff,
    /// It was asked to by a signal.
    Asked,
}

/// Why an agent could not begin, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Unusable boot parameters.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk that cannot be identified.
    #[error("identify disk {disk}")]
    Disk {
        /// Which.
        disk: Name,
        /// Why.
        #[source]
        source: IdentifyError,
    },
    /// The work folder cannot be used.
    #[error("use the work folder {folder}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The work folder has no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// boss refused this agent for good.
    #[error("boss refuses this agent")]
    Refused(#[source] ClientError),
    /// What earlier agents heard cannot be read or kept.
    #[error("remember the highest term in {path}; remove it only if no other boss rules over this machine")]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// boss gave this machine an epoch that is over.
    #[error("boss says that this machine is in epoch {said}, and it was in epoch {heard} before: nothing is done")]
    OldEpoch {
        /// What boss says.
        said: u64,
        /// The highest that was heard.
        heard: u64,
    },
}

/// How one order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkEnd {
    /// boss knows how.
    Reported,
    /// Stopped by us; boss is told nothing.
    Stopped,
    /// This attempt is over; whether the boot is, too, the next poll says.
    Superseded,
}

/// What all work needs.
#[derive(Debug)]
struct Machine {
    identity: Identity,
    memory: Arc<Memory>,
    boss_url: String,
    client: AgentClient,
    secret: Secret,
    boss_keys: TrustedKeys,
    base_keys: TrustedKeys,
    disks: BTreeMap<Name, PathBuf>,
    folder: PathBuf,
    depot: Depot,
}

impl Machine {
    /// Tells boss how work ended, until boss knows.
    async fn report<F: Future<Output = Result<(), ClientError>>>(
        &self,
        stop: &CancellationToken,
        what: &str,
        request: impl FnMut() -> F,
    ) -> WorkEnd {
        let told = tokio::select! {
            told = persist(what, None, request) => told,
            () = stop.cancelled() => return WorkEnd::Stopped,
        };
        match told {
            Ok(()) => WorkEnd::Reported,
            Err(error) => {
                // boss has decided otherwise meanwhile; what it wants now, the next order says.
                tracing::error!("{what}: {}", chain(&error));
                WorkEnd::Superseded
            }
        }
    }
}

fn failure(class: FailureClass, reason: &str) -> Failure {
    Failure { class, reason: reason.chars().take(MAX_REASON).collect() }
}

/// Names an order, without its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Order {
    Capture(CaptureId),
    Write(WriteId),
}

/// What is known of an order in this boot.
#[derive(Debug)]
struct Known {
    attempt: u32,
    running: bool,
    stop: CancellationToken,
}

/// Runs an agent until its boot is over or `stop` fires.
///
/// # Errors
/// [`AgentError`].
pub async fn run(boot: Boot, work_dir: &Path, stop: &CancellationToken) -> Result<Ended, AgentError> {
    let folder = work_folder(work_dir)?;
    let secret = Secret::make()?;
    let memory = Arc::new(Memory::open(work_dir)?);
    let client = AgentClient::new(&boot.boss_url, secret.expose(), Arc::clone(&memory) as Arc<dyn TermMemory>)
        .map_err(AgentError::Refused)?;
    let epoch = tokio::select! {
        registered = register(&boot, &client, &secret) => match registered {
            Ok(epoch) => epoch,
            Err(AgentError::Refused(error)) if error.is_stale() => return Ok(Ended::Stale),
            Err(error) => return Err(error),
        },
        () = stop.cancelled() => return Ok(Ended::Asked),
    };
    let used = |source| AgentError::Folder { folder: work_dir.to_owned(), source };
    failpoints::hit("agent.registered").map_err(used)?;
    memory.hear_epoch(epoch)?;
    tracing::info!(node = %boot.node, term = memory.term(), epoch, "registered");
    let machine = Machine {
        identity: Identity { node: boot.node, epoch },
        memory,
        boss_url: boot.boss_url,
        client: client.clone(),
        secret,
        boss_keys: boot.boss_keys,
        base_keys: boot.base_keys,
        disks: boot.disks,
        folder: folder.path().to_owned(),
        depot: Depot::new(folder.path().to_owned(), client),
    };
    let mut agent = Agent { machine: Arc::new(machine), known: HashMap::new(), work: JoinSet::new() };
    let ended = agent.serve(stop).await;
    agent.stop_work().await;
    ended
}

/// Makes a folder for this boot, and removes what earlier boots left: nothing of theirs is of use.
fn work_folder(work_dir: &Path) -> Result<tempfile::TempDir, AgentError> {
    const PREFIX: &str = "boot-";
    let make = || {
        std::fs::create_dir_all(work_dir)?;
        for entry in std::fs::read_dir(work_dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        tempfile::Builder::new().prefix(PREFIX).tempdir_in(work_dir)
    };
    make().map_err(|source| match NoRoom::of(work_dir, source) {
        Ok(full) => full.into(),
        Err(source) => AgentError::Folder { folder: work_dir.to_owned(), source },
    })
}

/// Registers, for as long as boss is away. Returns the epoch.
async fn register(boot: &Boot, client: &AgentClient, secret: &Secret) -> Result<u64, AgentError> {
    let mut disks: Vec<FoundDisk> = Vec::new();
    for (name, path) in &boot.disks {
        let found = identify(name, path).map_err(|source| AgentError::Disk { disk: name.clone(), source })?;
        disks.push(found);
    }
    let register =
        Register { protocol: PROTOCOL, boot_token: boot.token.expose().to_owned(), secret_hash: secret.hash(), disks };
    let registered = persist("register", None, || client.register(&register)).await;
    registered.map(|registered| registered.epoch).map_err(AgentError::Refused)
}

/// The agent at work.
struct Agent {
    machine: Arc<Machine>,
    known: HashMap<Order, Known>,
    work: JoinSet<(Order, u32, WorkEnd)>,
}

impl Agent {
    /// Asks boss what to do and does it. Asking goes on while work runs: that is the heartbeat.
    async fn serve(&mut self, stop: &CancellationToken) -> Result<Ended, AgentError> {
        let mut backoff = Backoff::default();
        let machine = Arc::clone(&self.machine);
        loop {
            let poll = Poll { wait_ms: MAX_POLL_MS };
            let asked = tokio::select! {
                asked = machine.client.poll(&poll) => asked,
                Some(ended) = self.work.join_next() => {
                    self.note(ended);
                    continue;
                }
                () = stop.cancelled() => return Ok(Ended::Asked),
            };
            let pause = match asked {
                Ok(task) => {
                    backoff.reset();
                    match self.take(task) {
                        Taken::Begun => Duration::ZERO,
                        Taken::NothingNew => PAUSE,
                        Taken::PowerOff => return Ok(Ended::PowerOff),
                    }
                }
                Err(error) if error.is_stale() => return Ok(Ended::Stale),
                Err(error) if is_final(&error) => return Err(AgentError::Refused(error)),
                Err(error) => {
                    tracing::warn!("ask boss what to do: {}", chain(&error));
                    backoff.step()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(ended) = self.work.join_next() => self.note(ended),
                () = stop.cancelled() => return Ok(Ended::Asked),
            }
        }
    }

    /// Begins what is new in a task.
    fn take(&mut self, task: Task) -> Taken {
        let mut begun = false;
        match task {
            Task::Idle => return Taken::Begun,
            Task::PowerOff => return Taken::PowerOff,
            Task::Capture { job: _, command, orders } => {
                for order in orders {
                    begun |= self.begin_capture(&command, order);
                }
            }
            Task::Write { job, orders } => {
                for order in orders {
                    begun |= self.begin_write(job, order);
                }
            }
        }
        if begun { Taken::Begun } else { Taken::NothingNew }
    }

    fn begin_capture(&mut self, command: &SwapCommand, order: CaptureOrder) -> bool {
        let (id, attempt) = (Order::Capture(order.capture), order.attempt);
        let Some(stop) = self.admit(id, attempt) else { return false };
        let (machine, command) = (Arc::clone(&self.machine), command.clone());
        self.work.spawn(async move { (id, attempt, capturing::run(&machine, &command, &order, &stop).await) });
        true
    }

    fn begin_write(&mut self, job: JobId, order: WriteOrder) -> bool {
        let (id, attempt) = (Order::Write(order.write), order.attempt);
        let Some(stop) = self.admit(id, attempt) else { return false };
        let machine = Arc::clone(&self.machine);
        self.work.spawn(async move { (id, attempt, writing::run(&machine, job, &order, &stop).await) });
        true
    }

    /// Decides whether an order is to be begun now. An older attempt that still runs is stopped, and the new one
    /// begins when boss repeats it after that end.
    fn admit(&mut self, id: Order, attempt: u32) -> Option<CancellationToken> {
        if let Some(known) = self.known.get(&id) {
            if known.attempt >= attempt {
                return None;
            }
            if known.running {
                known.stop.cancel();
                return None;
            }
        }
        tracing::info!(order = ?id, attempt, "begin");
        let stop = CancellationToken::new();
        self.known.insert(id, Known { attempt, running: true, stop: stop.clone() });
        Some(stop)
    }

    fn note(&mut self, ended: Result<(Order, u32, WorkEnd), tokio::task::JoinError>) {
        match ended {
            Ok((id, attempt, end)) => {
                tracing::debug!(order = ?id, attempt, ?end, "ended");
                if let Some(known) = self.known.get_mut(&id).filter(|known| known.attempt == attempt) {
                    known.running = false;
                }
            }
            // A defect. The order stays known as running, so that it is not begun a second time.
            Err(error) => tracing::error!("a task of the agent broke: {error}"),
        }
    }

    /// Stops everything and waits for its end: nobody leaves a disk while it is written.
    async fn stop_work(&mut self) {
        self.known.values().for_each(|known| known.stop.cancel());
        while self.work.join_next().await.is_some() {}
    }
}

enum Taken {
    Begun,
    NothingNew,
    PowerOff,
}

/// Returns whether boss will never accept this agent again.
fn is_final(error: &ClientError) -> bool {
    matches!(error.code(), Some(ErrorCode::NotSignedIn | ErrorCode::NotAllowed))
}
