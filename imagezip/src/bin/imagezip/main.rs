//! `imagezip`: hash, create, restore and verify disk images.
//!
//! Thin: parses arguments, opens files, calls the library, prints. Data goes to stdout, talk to stderr.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod create;
mod exit;
mod export;
mod hash;
mod info;
mod map;
mod open;
mod progress;
mod restore;
mod session;
mod verify;

use session::{Common, Session};

/// Save, compare, restore and verify disks, block by block
#[derive(Debug, Parser)]
#[command(name = "imagezip", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hash a disk into a signature
    Hash(hash::Arguments),
    /// Save a disk, or what differs from its bases, as an image
    Create(create::Arguments),
    /// Write the state in an image to a disk or a file
    Restore(restore::Arguments),
    /// Check an image, by itself or against a disk
    Verify(verify::Arguments),
    /// Show what an image or a signature is
    Info(info::Arguments),
    /// Show what is allocated on a disk, and why
    Map(map::Arguments),
    /// Turn an image into a plain disk image
    Export(export::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; a reader that left early is none either.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = Session::new(&arguments.common).and_then(|session| match arguments.command {
        Command::Hash(arguments) => hash::run(&session, &arguments),
        Command::Create(arguments) => create::run(&session, &arguments),
        Command::Restore(arguments) => restore::run(&session, &arguments),
        Command::Verify(arguments) => verify::run(&session, &arguments),
        Command::Info(arguments) => info::run(&session, &arguments),
        Command::Map(arguments) => map::run(&session, &arguments),
        Command::Export(arguments) => export::run(&session, &arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
