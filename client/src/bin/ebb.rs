//! `ebb`: what people ask of boss on the command line.

use std::process::ExitCode;

use clap::Parser as _;
use client::ebb::Cli;
use client::exit::{Code, Exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(Exit::new(Code::Failed, format!("start the runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report("ebb"),
    }
}
