//! `create-swapimage`: saves one disk, either to boss for a capture or, by hand, into a file.
//!
//! One pass over the disk. The engine runs on a thread of its own and hands frames over through a short queue, so that
//! memory does not grow while boss is slow or away; the pass then waits, and goes on when boss is back.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use boss_api::ids::CaptureId;
use clap::{Args, Parser};
use imagezip::capture::{Base, CaptureError, CaptureOptions, Captured, FrameSink, capture};
use imagezip::control::{Control, Progress, default_threads};
use imagezip::io::{Disk, ReadAt as _};
use sigs::{BlockSize, ByteLen, FileSource, Root, Signature, SignatureError};

use crate::exit::{Code, Exit, chain, io_exit};
use crate::imaging::{doubts, layout_of};

mod send;
mod to_boss;
mod to_file;

/// Save what differs on a disk from its bases
///
/// With --boss-url the image goes to boss for a capture, and progress to stdout as JSON lines. With --out it becomes a
/// file.
#[derive(Debug, Parser)]
#[command(name = "create-swapimage", version)]
pub struct Cli {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    order: Order,
}

/// What is saved, and how.
#[derive(Clone, Debug, Args)]
struct Source {
    /// The disk: a device or a regular file
    #[arg(long, value_name = "PATH")]
    disk: PathBuf,
    /// Signature of what the disk was loaded from; may be repeated. Without one everything is saved
    #[arg(long = "base", value_name = "SIG")]
    bases: Vec<PathBuf>,
    /// The root that the signature at the same place must have
    #[arg(long = "base-root", value_name = "ROOT")]
    base_roots: Vec<Root>,
    /// The zstd level
    #[arg(long, value_name = "N", default_value_t = CaptureOptions::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// How many threads; one for each core if not said
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Where boss listens for agents
    #[arg(long, value_name = "URL", requires_all = ["capture", "attempt", "serial", "bytes", "token_file"])]
    boss_url: Option<String>,
    /// A file for the image
    #[arg(long, value_name = "FILE.zdi")]
    out: Option<PathBuf>,
}

/// What boss ordered.
#[derive(Debug, Args)]
struct Order {
    /// The capture this is for
    #[arg(long, value_name = "ID")]
    capture: Option<CaptureId>,
    /// Its attempt
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// The serial number that the disk must have
    #[arg(long)]
    serial: Option<String>,
    /// The size that the disk must have
    #[arg(long)]
    bytes: Option<u64>,
    /// File of the agent's secret
    #[arg(long, value_name = "FILE", env = crate::agent::TOKEN_FILE)]
    token_file: Option<PathBuf>,
}

impl Cli {
    /// Saves the disk.
    ///
    /// # Errors
    /// [`Exit`] with the code and the sentence to end with.
    pub async fn run(self) -> Result<(), Exit> {
        match (self.target.boss_url, self.target.out) {
            (Some(url), _) => to_boss::run(self.source, &url, self.order).await,
            (None, Some(out)) => to_file::run(self.source, &out).await,
            (None, None) => Err(Exit::new(Code::Usage, "neither --boss-url nor --out says where the image goes")),
        }
    }
}

/// Counters and the flag to stop, shared with the thread of the engine.
#[derive(Debug, Default)]
struct Shared {
    progress: Progress,
    cancel: AtomicBool,
}

/// Checks the arguments and opens what is read.
fn open(source: &Source) -> Result<Opened, Exit> {
    if !source.base_roots.is_empty() && source.base_roots.len() != source.bases.len() {
        return Err(Exit::new(Code::Usage, "give either no --base-root or one for each --base"));
    }
    let disk = Disk::open(&source.disk).map_err(|error| Exit::because(Code::Failed, &error))?;
    let mut bases = Vec::new();
    for (index, path) in source.bases.iter().enumerate() {
        let file = FileSource::open(path).map_err(|error| io_exit(format!("open {}", path.display()), &error))?;
        let opened = match source.base_roots.get(index) {
            Some(root) => Signature::open_trusted(file, *root),
            None => Signature::open(file),
        };
        bases.push(opened.map_err(|error| bad_signature(&path.display(), &error))?);
    }
    Ok(Opened { disk, bases })
}

fn bad_signature(which: &dyn std::fmt::Display, error: &SignatureError) -> Exit {
    Exit::new(Code::Verification, format!("the signature {which} is refused: {}", chain(error)))
        .next("it is damaged or belongs to another image; nothing was saved")
}

/// A disk and the signatures it is compared with.
#[derive(Debug)]
struct Opened {
    disk: Disk,
    bases: Vec<Signature<FileSource>>,
}

impl Opened {
    fn len(&self) -> ByteLen {
        self.disk.len()
    }

    /// Runs the engine, on the calling thread.
    fn capture(&self, source: &Source, frames: &mut dyn FrameSink, shared: &Shared) -> Result<Captured, Exit> {
        let layout = layout_of(&self.disk, &source.disk, &shared.cancel);
        let layout = layout.map_err(|error| Exit::because(Code::Failed, &error))?;
        doubts(&layout).iter().for_each(|doubt| tracing::warn!("{doubt}"));
        let bases: Vec<&dyn Base> = self.bases.iter().map(|base| base as &dyn Base).collect();
        let threads = source.threads.unwrap_or_else(default_threads);
        // The block size is that of the bases; they were made for this disk.
        let block_size = self.bases.first().map_or(BlockSize::DEFAULT, |base| base.geometry().block_size);
        let options =
            CaptureOptions { bases: &bases, block_size, level: source.level, threads, ..CaptureOptions::default() };
        let control = Control { progress: &shared.progress, cancel: &shared.cancel };
        capture(&self.disk, &layout, &options, frames, None, control).map_err(|error| capture_exit(source, &error))
    }
}

fn capture_exit(source: &Source, error: &CaptureError) -> Exit {
    let text = format!("save {}: {}", source.disk.display(), chain(error));
    let code = match error {
        CaptureError::Base { .. } => Code::Verification,
        CaptureError::BlockSize { .. } | CaptureError::Bases { .. } => Code::Usage,
        CaptureError::Sink(error)
            if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
        {
            Code::NoSpace
        }
        CaptureError::Cancelled => Code::Interrupted,
        CaptureError::Read { .. }
        | CaptureError::Layout { .. }
        | CaptureError::Compress(_)
        | CaptureError::Sink(_)
        | CaptureError::Signature(_)
        | CaptureError::TooLarge { .. }
        | CaptureError::Thread(_) => Code::Failed,
    };
    Exit::new(code, text)
}

/// The answer of the engine, and the sink it filled.
type Engine<S> = tokio::sync::oneshot::Receiver<(Result<Captured, Exit>, S)>;

/// Runs the engine on a thread of its own; the answer comes through the channel.
fn spawn_engine<S: FrameSink + 'static>(
    opened: Opened,
    source: Source,
    mut sink: S,
    shared: &Arc<Shared>,
) -> Result<Engine<S>, Exit> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let shared = Arc::clone(shared);
    let work = move || {
        let captured = opened.capture(&source, &mut sink, &shared);
        // The receiver is gone only when the program is ending.
        drop(sender.send((captured, sink)));
    };
    let thread = std::thread::Builder::new().name("capture".to_owned()).spawn(work);
    thread.map_err(|error| io_exit("start a thread", &error))?;
    Ok(receiver)
}

fn engine_broke() -> Exit {
    Exit::new(Code::Failed, "the engine ended without an answer, which is a defect")
}
