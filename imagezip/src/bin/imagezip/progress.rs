//! Showing progress on stderr from a thread of its own.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use imagezip::control::{Phase, Progress, Snapshot};

use crate::session::human;

/// How progress looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Bar,
    Plain,
    Json,
}

/// Shows progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Reporter {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    pub(crate) fn start(style: Style, progress: Arc<Progress>) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let pause = match style {
            Style::Bar => Duration::from_millis(200),
            Style::Plain => Duration::from_secs(10),
            Style::Json => Duration::from_secs(1),
        };
        let builder = thread::Builder::new().name("progress".to_owned());
        let show = move || {
            let mut shown = false;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                shown = true;
                show(style, &progress.snapshot());
            }
            if style == Style::Json {
                self::show(style, &progress.snapshot());
            }
            if style == Style::Bar && shown {
                put("\r\x1b[K");
            }
        };
        // Without a thread there is no progress to see, and nothing else is lost.
        Self { stop: Some(stop), thread: builder.spawn(show).ok() }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn show(style: Style, now: &Snapshot) {
    let percent =
        (u128::from(now.done_bytes.get()) * 100).checked_div(u128::from(now.total_bytes.get())).unwrap_or(100);
    let phase = match now.phase {
        Phase::Scan => "scanned",
        Phase::Check => "checked",
        Phase::Write => "written",
        Phase::ReadBack => "read back",
    };
    let mut line = format!(
        "{percent:3}% {phase} {} of {}, {} changed, {} stored",
        human(now.done_bytes.get()),
        human(now.total_bytes.get()),
        human(now.changed_bytes.get()),
        human(now.stored_bytes.get())
    );
    match style {
        Style::Bar => line.insert_str(0, "\r\x1b[K"),
        Style::Plain => line.push('\n'),
        Style::Json => {
            line = serde_json::to_string(now).unwrap_or_default();
            line.push('\n');
        }
    }
    put(&line);
}

fn put(text: &str) {
    let mut out = io::stderr().lock();
    // Nobody may be there to see it.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
