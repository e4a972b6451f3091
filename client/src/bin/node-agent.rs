//! `node-agent`: runs in the memory file system of a node and does what boss orders.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use client::agent::boot::Boot;
use client::agent::{self, AgentError, Ended};
use client::exit::{Code, Exit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Do what boss orders on this node
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// File of boot parameters that boss wrote; removed once it is read
    #[arg(long, value_name = "FILE")]
    boot_parameters: PathBuf,
    /// Folder for what is fetched from boss
    #[arg(long, value_name = "DIR")]
    work_dir: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    client::log::begin();
    let result = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Exit::new(Code::Failed, format!("start the runtime: {error}"))),
    };
    match result {
        Ok(ended) => {
            tracing::info!(?ended, "the agent ends");
            ExitCode::SUCCESS
        }
        Err(exit) => exit.report("node-agent"),
    }
}

async fn run(cli: Cli) -> Result<Ended, Exit> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let listen = signal(kind).map_err(|error| Exit::new(Code::Failed, format!("listen for signals: {error}")))?;
        tokio::spawn(stop_at(listen, stop.clone()));
    }
    let boot = Boot::take(&cli.boot_parameters).map_err(|error| Exit::because(Code::Usage, &error))?;
    agent::run(boot, &cli.work_dir, &stop).await.map_err(|error| match &error {
        AgentError::Refused(refusal) => Exit::new(Code::of(refusal), client::exit::chain(&error)),
        AgentError::NoRoom(_) => Exit::because(Code::NoSpace, &error),
        AgentError::OldEpoch { .. } => Exit::because(Code::WrongState, &error),
        AgentError::Boot(_) | AgentError::Disk { .. } | AgentError::Folder { .. } | AgentError::Memory { .. } => {
            Exit::because(Code::Usage, &error)
        }
    })
}

async fn stop_at(mut signal: tokio::signal::unix::Signal, stop: CancellationToken) {
    signal.recv().await;
    stop.cancel();
}
