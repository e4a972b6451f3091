//! For a capture: the image goes to boss, frame by frame while the disk is read.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use boss_api::agent::CaptureProgress;
use boss_api::client::{AgentClient, ClientError};
use boss_api::names::Name;
use sigs::ByteLen;
use tokio::sync::oneshot;

use super::send::{Attempt, PATIENCE, queue};
use super::{Order, Shared, Source, engine_broke, open, spawn_engine};
use crate::agent::memory::Memory;
use crate::disk::identify;
use crate::exit::{Code, Exit, io_exit};
use crate::retry::persist;

/// How often progress is printed.
const PRINT: Duration = Duration::from_millis(250);
/// The longest secret.
const MAX_SECRET_BYTES: u64 = 1024;

pub(super) async fn run(source: Source, url: &str, order: Order) -> Result<(), Exit> {
    let (attempt, serial, bytes) = understand(url, order)?;
    let opened = open(&source)?;
    check_disk(&source.disk, &serial, bytes, opened.len())?;
    let parent = parent_gone()?;
    tokio::select! {
        result = save(source, opened, &attempt) => result,
        _ = parent => Err(Exit::new(Code::Interrupted, "the agent is gone, nothing more is sent")),
    }
}

fn understand(url: &str, order: Order) -> Result<(Attempt, String, u64), Exit> {
    let Order { capture, attempt, serial, bytes, token_file } = order;
    // clap asks for all of them together with --boss-url.
    let missing =
        || Exit::new(Code::Usage, "--boss-url needs --capture, --attempt, --serial, --bytes and a token file");
    let secret = read_secret(&token_file.ok_or_else(missing)?)?;
    let client = AgentClient::new(url, &secret, Arc::new(Memory::of_this_program()))?;
    let attempt = Attempt { client, capture: capture.ok_or_else(missing)?, attempt: attempt.ok_or_else(missing)? };
    Ok((attempt, serial.ok_or_else(missing)?, bytes.ok_or_else(missing)?))
}

fn read_secret(path: &Path) -> Result<String, Exit> {
    let failed = |error: &io::Error| io_exit(format!("read the secret from {}", path.display()), error);
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    file.take(MAX_SECRET_BYTES).read_to_string(&mut text).map_err(|error| failed(&error))?;
    Ok(text.trim().to_owned())
}

fn check_disk(path: &Path, serial: &str, bytes: u64, opened: ByteLen) -> Result<(), Exit> {
    let name = Name::new("disk").map_err(Exit::from)?;
    let found = identify(&name, path).map_err(|error| Exit::because(Code::Failed, &error))?;
    if found.serial != serial || found.bytes.get() != bytes || opened != found.bytes {
        return Err(Exit::new(
            Code::Failed,
            format!(
                "{} has the serial {} and {} bytes, ordered is {serial} with {bytes} bytes: it is another disk",
                path.display(),
                found.serial,
                found.bytes
            ),
        ));
    }
    Ok(())
}

/// Ends when the agent that started this program is gone; never when nobody asked for that.
fn parent_gone() -> Result<impl Future<Output = ()>, Exit> {
    let (sender, receiver) = oneshot::channel::<()>();
    let watched = std::env::var_os(crate::agent::STOP_AT_EOF).is_some();
    if watched {
        let watch = move || {
            // Nothing is ever sent; whatever ends this reading, there is no agent behind it any more.
            drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
            // Nobody waits any more only when the program is ending.
            let _ = sender.send(());
        };
        let thread = std::thread::Builder::new().name("parent".to_owned()).spawn(watch);
        thread.map_err(|error| io_exit("start a thread", &error))?;
    }
    Ok(async move {
        if !watched || receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

async fn save(source: Source, opened: super::Opened, attempt: &Attempt) -> Result<(), Exit> {
    let Attempt { client, capture, attempt: number } = attempt;
    failpoints::hit("swapimage.opened").map_err(|error| io_exit("begin the capture", &error))?;
    persist("begin the capture", Some(PATIENCE), || client.begin_capture(*capture, *number)).await?;
    failpoints::hit("swapimage.begun").map_err(|error| io_exit("begin the capture", &error))?;
    let shared = Arc::new(Shared::default());
    let sent = AtomicU64::new(0);
    let (sink, frames) = queue();
    let engine = spawn_engine(opened, source, sink, &shared)?;
    let captured = {
        let scanning = async {
            let (captured, sink) = engine.await.map_err(|_| engine_broke())?;
            // Closes the queue: everything was handed over.
            drop(sink);
            captured
        };
        let sending = async {
            let delivered = attempt.send_all(frames, &sent).await;
            if delivered.is_err() {
                // Reading on would be in vain.
                shared.cancel.store(true, Ordering::Relaxed);
            }
            delivered
        };
        let both = async { tokio::join!(scanning, sending) };
        let (captured, delivered) = with_progress(&shared, &sent, both).await;
        // When sending failed the engine failed, too, because of it: the cause is what counts.
        delivered.map_err(|error: ClientError| refused(attempt, error))?;
        captured?
    };
    // The last numbers are sent from here, so that boss has them before the end: what is printed may come too late.
    let last = progress_of(&shared, &sent);
    let tell = || client.capture_progress(*capture, *number, &last);
    persist("report progress", Some(PATIENCE), tell).await.map_err(|error| refused(attempt, error))?;
    failpoints::hit("swapimage.sent").map_err(|error| io_exit("finish the capture", &error))?;
    let wire = captured.contents.to_wire();
    let finish = || client.finish_capture(*capture, *number, wire.clone());
    persist("finish the capture", Some(PATIENCE), finish).await.map_err(|error| refused(attempt, error))?;
    failpoints::hit("swapimage.finished").map_err(|error| io_exit("finish the capture", &error))
}

fn refused(attempt: &Attempt, error: ClientError) -> Exit {
    tracing::error!(capture = %attempt.capture, attempt = attempt.attempt, "boss does not take the capture");
    Exit::from(error)
}

async fn with_progress<T>(shared: &Shared, sent: &AtomicU64, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(PRINT) => print(shared, sent),
        }
    }
}

fn progress_of(shared: &Shared, sent: &AtomicU64) -> CaptureProgress {
    let now = shared.progress.snapshot();
    CaptureProgress {
        scanned_bytes: now.done_bytes.get(),
        total_bytes: now.total_bytes.get(),
        changed_bytes: now.changed_bytes.get(),
        sent_bytes: sent.load(Ordering::Relaxed),
    }
}

/// Prints progress for the agent. It may be gone, and a watcher may be, too: the work goes on.
fn print(shared: &Shared, sent: &AtomicU64) {
    if let Ok(line) = serde_json::to_string(&progress_of(shared, sent)) {
        let mut stdout = io::stdout().lock();
        drop(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
    }
}
