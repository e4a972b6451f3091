//! What programs that run unattended say: one line for each thing that happened, on stderr.

use tracing_subscriber::EnvFilter;

/// Begins to log; `EBB_LOG` says how much, as in `debug` or `client=debug,info`.
pub fn begin() {
    let filter = EnvFilter::try_from_env("EBB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call changes nothing, which tests rely on. That a line cannot be written is told nobody: on a full file
    // system telling it would be a panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let _ = log.with_ansi(false).try_init();
}
