//! `ebb`: what people ask of boss on the command line. One command in each file.
//!
//! Data goes to stdout, talk to stderr; the exit codes are in [`crate::exit`].

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

mod exp;
mod image;
mod job;
mod key;
mod login;
mod logout;
mod node;
mod output;
mod password;
mod session;
mod setting;
mod watch;
mod whoami;
mod xfer;

pub use output::Format;
use output::Output;
use session::Session;

/// Swap experiments in and out, and look at what was saved
#[derive(Debug, Parser)]
#[command(name = "ebb", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
struct Global {
    /// Print for people or for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, help_heading = "Everywhere")]
    format: Format,
    /// Address of boss, such as http://127.0.0.1:4700
    #[arg(long, global = true, value_name = "URL", env = "EBB_SERVER", help_heading = "Everywhere")]
    server: Option<String>,
    /// File of the token that `ebb login` gets
    #[arg(long, global = true, value_name = "FILE", env = "EBB_TOKEN_FILE", help_heading = "Everywhere")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in and keep a token
    Login(login::Login),
    /// Give the token back
    Logout,
    /// Show who is signed in
    Whoami,
    /// Experiments: create, swap in and out, look at what was saved
    #[command(subcommand)]
    Exp(exp::Exp),
    /// Base images: create, seal, register, retire
    #[command(subcommand)]
    Image(image::Image),
    /// Machines: register, load, look at
    #[command(subcommand)]
    Node(node::Node),
    /// Settings of the site
    #[command(subcommand)]
    Setting(setting::Setting),
    /// Jobs: show, wait for the end
    #[command(subcommand)]
    Job(job::Job),
    /// Keys that seal base images
    #[command(subcommand)]
    Key(key::Key),
    /// Copy files and directories such that a crash costs time and nothing else
    Xfer(xfer::Xfer),
}

/// What every command needs.
#[derive(Debug)]
struct Context {
    output: Output,
    session: Session,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Exit`] with the code and the sentence to end with.
    pub async fn run(self) -> Result<(), Exit> {
        let Global { format, server, token_file } = self.global;
        let context = Context { output: Output::new(format), session: Session::new(server, token_file) };
        match self.command {
            Command::Login(login) => login.run(&context).await,
            Command::Logout => logout::run(&context).await,
            Command::Whoami => whoami::run(&context).await,
            Command::Exp(exp) => exp.run(&context).await,
            Command::Image(image) => image.run(&context).await,
            Command::Node(node) => node.run(&context).await,
            Command::Setting(setting) => setting.run(&context).await,
            Command::Job(job) => job.run(&context).await,
            Command::Key(key) => key.run(&context),
            Command::Xfer(xfer) => xfer.run(&context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
