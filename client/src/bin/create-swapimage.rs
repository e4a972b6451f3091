//! `create-swapimage`: saves one disk, to boss for a capture or by hand into a file.

use std::process::ExitCode;

use clap::Parser as _;
use client::exit::{Code, Exit};
use client::swapimage::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    client::log::begin();
    let result = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(cli.run());
            // A thread that reads stdin for the end of the agent cannot be stopped, and need not be.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Exit::new(Code::Failed, format!("start the runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report("create-swapimage"),
    }
}
