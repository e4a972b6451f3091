//! What all commands share: where output goes, how progress is shown, how the program is stopped.

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use imagezip::control::{Control, Progress, default_threads};
use serde::Serialize;

use crate::exit::Interrupted;
use crate::progress::{Reporter, Style};

/// Options of all commands.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    json: bool,
    /// How to show progress on stderr
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "HOW")]
    progress: ProgressMode,
    /// How many worker threads [default: one for each core, twice as many with --direct]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProgressMode {
    /// A bar on a terminal, plain lines elsewhere
    Auto,
    /// One line that is overwritten
    Bar,
    /// A line every few seconds
    Plain,
    /// A JSON object a second
    Json,
    /// Nothing
    None,
}

/// The signals that end a run.
const STOPPING: [i32; 3] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// More threads than any machine has cores.
const MOST_THREADS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// A run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    json: bool,
    style: Option<Style>,
    threads: Option<NonZeroUsize>,
    progress: Arc<Progress>,
    cancel: Arc<AtomicBool>,
}

impl Session {
    pub(crate) fn new(common: &Common) -> anyhow::Result<Self> {
        let cancel = Arc::new(AtomicBool::new(false));
        for signal in STOPPING {
            signal_hook::flag::register(signal, Arc::clone(&cancel)).context("listen for signals")?;
        }
        let style = match common.progress {
            ProgressMode::Auto if io::stderr().is_terminal() => Some(Style::Bar),
            ProgressMode::Bar => Some(Style::Bar),
            ProgressMode::Auto | ProgressMode::Plain => Some(Style::Plain),
            ProgressMode::Json => Some(Style::Json),
            ProgressMode::None => None,
        };
        let threads = common.threads.map(|threads| threads.min(MOST_THREADS));
        Ok(Self { json: common.json, style, threads, progress: Arc::new(Progress::default()), cancel })
    }

    /// Returns true if the result is to be one JSON object.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn threads(&self) -> NonZeroUsize {
        self.threads.unwrap_or_else(|| default_threads().min(MOST_THREADS))
    }

    /// Returns how many threads read a disk. Past the page cache nobody reads ahead: while one waits for the medium
    /// another works on what it has.
    pub(crate) fn readers(&self, direct: bool) -> NonZeroUsize {
        let threads = self.threads();
        match self.threads {
            None if direct => threads.saturating_add(threads.get()).min(MOST_THREADS),
            _ => threads,
        }
    }

    /// Returns how the library is watched and stopped.
    pub(crate) fn control(&self) -> Control<'_> {
        Control { progress: &self.progress, cancel: &self.cancel }
    }

    /// Shows progress while `work` runs.
    pub(crate) fn watched<T>(&self, work: impl FnOnce() -> T) -> T {
        let reporter = self.style.map(|style| Reporter::start(style, Arc::clone(&self.progress)));
        let result = work();
        drop(reporter);
        result
    }

    /// Ends the run when a signal asked for that; called before something becomes final.
    pub(crate) fn check_interrupted(&self) -> Result<(), Interrupted> {
        if self.cancel.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Returns what can be read from once a signal asks to stop, for a run that waits; signals before this call do not
    /// show there.
    pub(crate) fn stop_signal(&self) -> anyhow::Result<UnixStream> {
        let context = "listen for signals";
        let (stop, signalled) = UnixStream::pair().context(context)?;
        for signal in STOPPING {
            let signalled = signalled.try_clone().context(context)?;
            signal_hook::low_level::pipe::register(signal, signalled).context(context)?;
        }
        Ok(stop)
    }

    /// Says something to the person who watches.
    pub(crate) fn say(&self, text: &str) {
        // A closed stderr is no reason to stop.
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Prints the result: `object` with `--json`, otherwise `text`.
    pub(crate) fn print(&self, object: &impl Serialize, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let line = if self.json { json(object)? } else { text.to_owned() };
        out.write_all(line.trim_end().as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())?;
        Ok(())
    }
}

/// Writes JSON in which nothing can command a terminal: JSON itself lets DEL and the controls behind it through.
pub(crate) fn json(object: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(object).context("encode the result")?;
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{7f}'..='\u{9f}' => safe.push_str(&format!("\\u{:04x}", u32::from(letter))),
            plain => safe.push(plain),
        }
    }
    Ok(safe)
}

/// Writes a number of bytes for people.
pub(crate) fn human(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}
