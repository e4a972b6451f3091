//! Running the swap command: its progress from stdout, the last of what it said from stderr, and its end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use boss_api::agent::CaptureProgress;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a program gets to end when asked, before it is killed. boss's own patience with an agent is longer.
const GRACE: Duration = Duration::from_secs(2);
/// The longest line that is understood.
const MAX_LINE: usize = 4096;
/// How much of what it said is kept for the reason of a failure.
const KEPT_LINES: usize = 12;

/// The environment variable that names the file of the secret.
pub const TOKEN_FILE: &str = "EBB_TOKEN_FILE";
/// Set for a program that has to end when its stdin does: the agent is gone then.
pub const STOP_AT_EOF: &str = "EBB_STOP_AT_EOF";

/// Finds the program of the swap command: an absolute path, or a bare name beside our own program.
pub(super) fn find(program: &str) -> Result<PathBuf, String> {
    let path = Path::new(program);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    if program.is_empty() || program.contains('/') {
        return Err(format!("the swap command {program:?} is neither an absolute path nor a bare name"));
    }
    let own = std::env::current_exe().map_err(|error| format!("find the agent's own program: {error}"))?;
    Ok(own.parent().unwrap_or(Path::new("/")).join(program))
}

/// How a program ended, and the last it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) said: String,
    /// It was ended by us.
    pub(super) stopped: bool,
}

/// Starts a program and stays with it until it ended. Its progress goes to `progress`.
pub(super) async fn run(
    mut command: Command,
    progress: &watch::Sender<CaptureProgress>,
    stop: &CancellationToken,
) -> std::io::Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    // Kept open: its end tells the program that we are gone, however we went.
    let _stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut said = VecDeque::new();
    let output = async {
        let understand = |line: &str| {
            if let Ok(now) = serde_json::from_str::<CaptureProgress>(line) {
                progress.send_replace(now);
            }
        };
        let keep = |line: &str| {
            tracing::info!(target: "swap_command", "{line}");
            if said.len() == KEPT_LINES {
                said.pop_front();
            }
            said.push_back(line.to_owned());
        };
        tokio::join!(lines(stdout, understand), lines(stderr, keep));
    };
    let (status, stopped) = {
        let mut output = std::pin::pin!(output);
        let ended = async {
            // Both: a program is over when it ended and all it said was heard.
            let (status, ()) = tokio::join!(wait(&mut child, stop), &mut output);
            status
        };
        ended.await?
    };
    let said = said.into_iter().collect::<Vec<_>>().join(" / ");
    Ok(Ended { status, said, stopped })
}

async fn wait(child: &mut Child, stop: &CancellationToken) -> std::io::Result<(ExitStatus, bool)> {
    tokio::select! {
        status = child.wait() => return Ok((status?, false)),
        () = stop.cancelled() => {}
    }
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already is what is wanted.
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => Ok((status?, true)),
        Err(_) => {
            child.kill().await?;
            Ok((child.wait().await?, true))
        }
    }
}

/// Gives each line to `take`; what is too long for one is cut, and what is not UTF-8 is replaced.
async fn lines(source: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&str)) {
    let Some(mut source) = source else { return };
    let mut piece = [0; 4096];
    let mut line = Vec::new();
    loop {
        // A pipe that fails has nothing more to say.
        let read = source.read(&mut piece).await.unwrap_or(0);
        for byte in &piece[..read] {
            match byte {
                b'\n' => take(&String::from_utf8_lossy(&std::mem::take(&mut line))),
                byte if line.len() < MAX_LINE => line.push(*byte),
                _ => {}
            }
        }
        if read == 0 {
            break;
        }
    }
    if !line.is_empty() {
        take(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_absolute_or_beside_us() {
        assert_eq!(find("/usr/bin/true").unwrap(), Path::new("/usr/bin/true"));
        let beside = find("create-swapimage").unwrap();
        assert_eq!(beside.parent(), std::env::current_exe().unwrap().parent());
        for bad in ["", "../x", "a/b"] {
            assert!(find(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn lines_are_cut_where_they_end() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("a\n\n{long}\nlast");
        let mut seen = Vec::new();
        lines(Some(text.as_bytes()), |line| seen.push(line.len())).await;
        assert_eq!(seen, [1, 0, MAX_LINE, 4]);
    }
}
