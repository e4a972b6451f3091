//! Saving a disk: frozen, compared with its bases by the swap command, whose progress is passed on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boss_api::agent::{CaptureOrder, CaptureProgress, FailureClass, SwapCommand};
use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::process::Command;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::depot::FetchError;
use super::room::NoRoom;
use super::{Machine, WorkEnd, child};
use crate::disk::{IdentifyError, identify};
use crate::exit::{Code, chain};

/// How often progress is passed on at most.
const REPORT: Duration = Duration::from_millis(500);
/// How long a program that was killed may leave open whether we are being killed, too.
const TOGETHER: Duration = Duration::from_millis(300);

/// Why a disk was not saved.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error("this machine has no disk {0}")]
    NoDisk(boss_api::names::Name),
    #[error("identify the disk")]
    Identify(#[from] IdentifyError),
    #[error("disk {disk} has the {what} {found}, ordered is {ordered}")]
    Other { disk: boss_api::names::Name, what: &'static str, found: String, ordered: String },
    #[error("freeze {path}: it is mounted or used by another program")]
    Freeze {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("fetch the signature of a base")]
    Fetch(#[source] FetchError),
    #[error("prepare the swap command: {0}")]
    Command(String),
    #[error("leave the agent's secret for the swap command in {folder}")]
    Token {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("leave the agent's secret for the swap command")]
    NoRoom(#[source] NoRoom),
    #[error("run the swap command {program}")]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the swap command {how}: {said}")]
    Ended { class: FailureClass, how: String, said: String },
    #[error("stopped on request")]
    Cancelled,
}

impl CaptureError {
    const fn class(&self) -> FailureClass {
        match self {
            Self::NoDisk(_)
            | Self::Identify(_)
            | Self::Other { .. }
            | Self::Command(_)
            | Self::Token { .. }
            | Self::Run { .. } => FailureClass::Machine,
            Self::Fetch(error) => error.class(),
            Self::NoRoom(_) | Self::Freeze { .. } | Self::Cancelled => FailureClass::Transient,
            Self::Ended { class, .. } => *class,
        }
    }
}

/// Carries out an order. Success is reported by the program itself, when boss has all of it.
pub(super) async fn run(
    machine: &Machine,
    command: &SwapCommand,
    order: &CaptureOrder,
    stop: &CancellationToken,
) -> WorkEnd {
    let (capture, attempt) = (order.capture, order.attempt);
    match carry_out(machine, command, order, stop).await {
        Ok(end) => {
            tracing::info!(%capture, attempt, disk = %order.disk, ?end, "the swap command ended");
            end
        }
        Err(error) if stop.is_cancelled() || matches!(error, CaptureError::Cancelled) => {
            tracing::warn!(%capture, attempt, "stopped; {}", chain(&error));
            WorkEnd::Stopped
        }
        Err(CaptureError::Fetch(error)) if error.is_stale() => WorkEnd::Superseded,
        Err(error) => {
            let failure = super::failure(error.class(), &chain(&error));
            tracing::error!(%capture, attempt, disk = %order.disk, class = ?failure.class, "{}", failure.reason);
            let report = || machine.client.capture_failed(capture, attempt, &failure);
            machine.report(stop, "report a failed capture", report).await
        }
    }
}

async fn carry_out(
    machine: &Machine,
    command: &SwapCommand,
    order: &CaptureOrder,
    stop: &CancellationToken,
) -> Result<WorkEnd, CaptureError> {
    let path = machine.disks.get(&order.disk).ok_or_else(|| CaptureError::NoDisk(order.disk.clone()))?;
    // Held until the program ended.
    let _frozen = freeze(path)?;
    let found = identify(&order.disk, path)?;
    expect(order, "serial", &found.serial, &order.serial)?;
    expect(order, "size", &found.bytes, &order.bytes)?;
    let mut bases = Vec::new();
    for base in &order.bases {
        let path = tokio::select! {
            path = machine.depot.fetch(&base.sig) => path.map_err(CaptureError::Fetch)?,
            () = stop.cancelled() => return Err(CaptureError::Cancelled),
        };
        bases.push((path, base.root));
    }
    let program = child::find(&command.program).map_err(CaptureError::Command)?;
    let token = token_file(machine, order).map_err(|source| no_token(&machine.folder, source))?;
    failpoints::hit("agent.capture.before-command").map_err(|source| no_token(&machine.folder, source))?;
    let mut process = Command::new(&program);
    process.arg("--boss-url").arg(&machine.boss_url);
    process.arg("--capture").arg(order.capture.to_string());
    process.arg("--attempt").arg(order.attempt.to_string());
    process.arg("--disk").arg(path);
    process.arg("--serial").arg(&order.serial);
    process.arg("--bytes").arg(order.bytes.to_string());
    for (path, root) in &bases {
        process.arg("--base").arg(path).arg("--base-root").arg(root.to_string());
    }
    process.arg("--level").arg(command.zstd_level.to_string());
    process.env(child::TOKEN_FILE, token.path()).env(child::STOP_AT_EOF, "1");
    let stop_here = stop.child_token();
    let (sender, receiver) = watch::channel(CaptureProgress::default());
    let ended = {
        let reporting = pass_on(machine, order, receiver, &stop_here);
        tokio::select! {
            ended = child::run(process, &sender, &stop_here) => ended,
            never = reporting => match never {},
        }
    };
    let ended = ended.and_then(|ended| failpoints::hit("agent.capture.command-ended").map(|()| ended));
    let ended = ended.map_err(|source| CaptureError::Run { program, source })?;
    if ended.stopped {
        return if stop.is_cancelled() { Err(CaptureError::Cancelled) } else { Ok(WorkEnd::Superseded) };
    }
    judge(&ended, stop).await
}

fn expect<T: PartialEq + std::fmt::Display>(
    order: &CaptureOrder,
    what: &'static str,
    found: &T,
    ordered: &T,
) -> Result<(), CaptureError> {
    if found == ordered {
        return Ok(());
    }
    let (found, ordered) = (found.to_string(), ordered.to_string());
    Err(CaptureError::Other { disk: order.disk.clone(), what, found, ordered })
}

/// Makes sure that nobody else uses a disk, as long as the answer is held: a device is claimed, which fails when it or
/// a part of it is mounted; a regular file is locked, which keeps out the programs that ask.
fn freeze(path: &Path) -> Result<File, CaptureError> {
    let failed = |source| CaptureError::Freeze { path: path.to_owned(), source };
    let device = std::fs::metadata(path).map_err(failed)?.file_type().is_block_device();
    let flags = if device { OFlags::EXCL } else { OFlags::empty() };
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !device {
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
    }
    Ok(file)
}

/// Writes the secret where only the program finds it; removed when the answer is dropped.
fn token_file(machine: &Machine, order: &CaptureOrder) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(&format!("token-{}-", order.capture))
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(&machine.folder)?;
    file.write_all(machine.secret.expose().as_bytes())?;
    Ok(file)
}

fn no_token(folder: &Path, source: io::Error) -> CaptureError {
    match NoRoom::of(folder, source) {
        Ok(full) => CaptureError::NoRoom(full),
        Err(source) => CaptureError::Token { folder: folder.to_owned(), source },
    }
}

/// Passes progress on, each time only the newest. Stops the program when this attempt is over.
async fn pass_on(
    machine: &Machine,
    order: &CaptureOrder,
    mut news: watch::Receiver<CaptureProgress>,
    stop: &CancellationToken,
) -> std::convert::Infallible {
    while news.changed().await.is_ok() {
        let now = *news.borrow_and_update();
        match machine.client.capture_progress(order.capture, order.attempt, &now).await {
            Ok(()) => {}
            Err(error) if error.is_stale() => {
                stop.cancel();
                break;
            }
            // The next report says more than this one would have.
            Err(error) => tracing::debug!("report progress: {}", chain(&error)),
        }
        tokio::time::sleep(REPORT).await;
    }
    std::future::pending().await
}

/// Decides what the end of the program means.
async fn judge(ended: &child::Ended, stop: &CancellationToken) -> Result<WorkEnd, CaptureError> {
    let number = ended.status.code();
    let is = |code: Code| number == Some(i32::from(code.number()));
    if ended.status.success() {
        return Ok(WorkEnd::Reported);
    }
    if is(Code::WrongState) {
        return Ok(WorkEnd::Superseded);
    }
    if ended.status.signal().is_some() {
        // A machine that is switched off loses program and agent together; then nobody reports.
        let _ = tokio::time::timeout(TOGETHER, stop.cancelled()).await;
    }
    let class = if is(Code::Verification) {
        FailureClass::Corruption
    } else if is(Code::NoSpace) || is(Code::Unreachable) || is(Code::TimedOut) || number.is_none() {
        FailureClass::Transient
    } else {
        FailureClass::Machine
    };
    let how = match (number, ended.status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let said = if ended.said.is_empty() { "it said nothing".to_owned() } else { ended.said.clone() };
    Err(CaptureError::Ended { class, how, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_work_folder_is_no_broken_machine() {
        let folder = Path::new("/run/agent/boot-1");
        let full = no_token(folder, io::ErrorKind::StorageFull.into());
        assert_eq!(full.class(), FailureClass::Transient);
        let said = chain(&full);
        assert!(said.contains("/run/agent/boot-1 is full"), "{said}");
        let denied = no_token(folder, io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.class(), FailureClass::Machine);
        let said = chain(&denied);
        assert!(said.ends_with("in /run/agent/boot-1: permission denied"), "{said}");
    }
}
