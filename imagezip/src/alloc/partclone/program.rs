//! Running a program that may hang, die or print without end.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::map::{self, Map};
use super::{Partclone, PartcloneDoubt};

/// How often it is looked whether the caller wants to stop.
const GLANCE: Duration = Duration::from_millis(20);
/// A line of `losetup`.
const MOST_WORDS: u64 = 4096;
/// How long `losetup` may take. It is not interrupted: what it attaches would stay behind.
const MOMENT: Duration = Duration::from_secs(60);

/// Has partclone print the map of a device.
pub(super) fn map(program: &Path, device: &Path, partclone: &Partclone<'_>) -> Result<Map, PartcloneDoubt> {
    let mut command = Command::new(program);
    command.args(["--domain", "--quiet", "--logfile", "/dev/null", "--output", "-", "--source"]).arg(device);
    Ok(run(command, partclone.patience, Some(partclone.cancel), map::read)??)
}

/// Returns the one line that a program prints.
pub(super) fn line(command: Command) -> Result<String, PartcloneDoubt> {
    run(command, MOMENT, None, |output| {
        let mut text = String::new();
        // Output that cannot be read is no line, which the caller sees.
        let read = output.take(MOST_WORDS).read_to_string(&mut text);
        read.map_or_else(|_| String::new(), |_| text.trim_end().to_owned())
    })
}

/// Runs a program to its end, and reads what it prints while it runs. It has no input and none of our environment.
fn run<T: Send + 'static>(
    mut command: Command,
    patience: Duration,
    cancel: Option<&AtomicBool>,
    read: impl FnOnce(ChildStdout) -> T + Send + 'static,
) -> Result<T, PartcloneDoubt> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let start = |error: std::io::Error| PartcloneDoubt::Start { program: program.clone(), reason: error.to_string() };
    let started = Instant::now();
    command.env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(command.spawn().map_err(start)?);
    let Some(output) = running.0.stdout.take() else {
        return Err(start(std::io::ErrorKind::BrokenPipe.into()));
    };
    // The thread is not waited for: somebody the program left behind might hold the other end of the pipe.
    let (sender, receiver) = sync_channel(1);
    let reader = thread::Builder::new().name("partclone map".to_owned());
    reader.spawn(move || drop(sender.send(read(output)))).map_err(start)?;
    let check = || {
        if cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(PartcloneDoubt::Cancelled);
        }
        if started.elapsed() > patience {
            return Err(PartcloneDoubt::Slow { program: program.clone(), seconds: patience.as_secs() });
        }
        Ok(())
    };
    let found = loop {
        match receiver.recv_timeout(GLANCE) {
            Ok(found) => break Some(found),
            Err(RecvTimeoutError::Timeout) => check()?,
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    // A reader that has seen enough closes the pipe; a program that goes on writing dies of it.
    let status = loop {
        match running.0.try_wait().map_err(start)? {
            Some(status) => break status,
            None => check()?,
        }
        thread::sleep(GLANCE);
    };
    match found {
        Some(found) if status.success() => Ok(found),
        _ => Err(PartcloneDoubt::Failed { program, status: status.to_string() }),
    }
}

/// A program with all it started; killed when it is not needed any more.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Once it was waited for, its number may belong to somebody else.
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}
