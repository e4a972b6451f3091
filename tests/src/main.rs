//! `ebb-tests`: what the Makefile calls.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use ebb_tests::{bench, cleanup, demo, pg, processes, suite, talk, tools, torture};

/// Run the demo, the tests, the benchmark and the torture of Ebb
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Do the main job once on real disks, and have it judged by programs that are not ours
    Demo(demo::Options),
    /// Run every test of the workspace on a private PostgreSQL, and say what ran and what was skipped
    Test(suite::Options),
    /// Measure, and compare with limits measured in the same run
    Bench(bench::Options),
    /// Have everything go wrong that can, and see that nothing is lost
    Torture(torture::Options),
    /// Use a private PostgreSQL
    Pg {
        #[command(subcommand)]
        command: PgAction,
    },
    /// Install the Debian packages that tests need and are missing, or say which
    Tools,
}

#[derive(Debug, Subcommand)]
enum PgAction {
    /// Run a command with DATABASE_URL and EBB_DATABASE_URL set, and stop the server after it
    Run {
        /// Where the server may keep its things
        #[arg(long, default_value = "target/pg")]
        home: PathBuf,
        /// Apply the migrations in this folder first
        #[arg(long)]
        schema: Option<PathBuf>,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Action::Demo(options) => demo::main(&options),
        Action::Test(options) => suite::run(&options).map(u8::from),
        Action::Bench(options) => {
            tools::install_missing(&[]).and_then(|()| bench::run(&options)).map(|met| u8::from(!met))
        }
        Action::Torture(options) => {
            tools::install_missing(&tools::TESTED_WITH).and_then(|()| torture::run(&options)).map(|ok| u8::from(!ok))
        }
        Action::Pg { command: PgAction::Run { home, schema, command } } => {
            run_with_database(&home, schema.as_deref(), &command)
        }
        Action::Tools => tools::install_missing(&tools::TESTED_WITH).map(|()| 0),
    };
    let code = code.unwrap_or_else(|error| {
        talk::say(format!("error: {error:#}"));
        if error.is::<tools::Missing>() { 2 } else { 1 }
    });
    cleanup::finish(code)
}

fn run_with_database(home: &Path, schema: Option<&Path>, command: &[String]) -> anyhow::Result<u8> {
    let server = pg::Server::start(home, &pg::Options::default())?;
    if let Some(folder) = schema {
        server.apply(folder)?;
    }
    let [program, arguments @ ..] = command else { anyhow::bail!("no command") };
    let url = server.url("ebb");
    let mut command = Command::new(program);
    command.args(arguments).env("DATABASE_URL", &url).env("EBB_DATABASE_URL", &url);
    let status = processes::run_to_end(&mut command, |_| Ok(())).with_context(|| format!("start {program}"))?;
    drop(server);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
