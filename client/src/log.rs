//! What programs that run unattended say: one line for each thing that happened, on stderr.

use tracing_subscriber::EnvFilter;

/// Begins to log; `EBB_LOG` says how much, as in `debug` or `client=debug,info`.
pub fn begin() {
    let filter = EnvFilter::try_from_env("EBB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call changes nothing, which tests rely on.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
