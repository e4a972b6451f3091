//! What is expected of a program when a system call of it fails: it says so, and does not flush again what could not be
//! flushed.

use anyhow::{bail, ensure};

use super::strace::Call;
use super::syscalls::Ended;

/// Checks that an error was told and not glossed over.
///
/// # Errors
/// With what is wrong.
pub fn check(error: &str, ended: &Ended) -> anyhow::Result<()> {
    ensure!(!ended.killed(), "it was killed by it");
    let injected = |call: &Call| call.result.contains("INJECTED");
    let Some(at) = ended.calls.iter().position(injected) else {
        ensure!(ended.output.status.success(), "nothing went wrong, and it failed: {}", ended.said());
        return Ok(());
    };
    let (failed, later) = (&ended.calls[at], &ended.calls[at + 1..]);
    let flush = |call: &Call| matches!(call.name.as_str(), "fsync" | "fdatasync");
    if flush(failed) {
        let again = later.iter().any(|call| flush(call) && call.descriptor() == failed.descriptor());
        ensure!(!again, "{} was flushed again after that failed", failed.file().unwrap_or("a file"));
        ensure!(
            !ended.output.status.success(),
            "a flush of {} failed, and it succeeded",
            failed.file().unwrap_or("a file")
        );
    }
    // Each thread has such a call, and the one that had to say what happened may have been kept from it.
    if ended.output.status.success() || ended.calls.iter().any(|call| injected(call) && call.is_talk()) {
        return Ok(());
    }
    let said = ended.said();
    let (words, code) = match error {
        "EIO" => ("Input/output error", 1),
        "ENOSPC" => ("No space left on device", 8),
        other => bail!("no words for {other}"),
    };
    ensure!(said.contains(words), "it does not say {words:?}: {said}");
    ensure!(ended.output.status.code() == Some(code), "it ended with {} and not {code}: {said}", ended.output.status);
    Ok(())
}
