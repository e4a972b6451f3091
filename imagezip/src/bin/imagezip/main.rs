//! `imagezip`: hash, create, restore and verify disk images.
//!
//! Thin: parses arguments, opens files, calls the library, prints. Data goes to stdout, talk to stderr.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cat;
mod cp;
mod create;
mod diff;
mod exit;
mod export;
mod hash;
mod import;
mod incomplete;
mod info;
mod inside;
mod ls;
mod map;
mod open;
mod output;
mod progress;
mod rebase;
mod replacing;
mod restore;
mod rewrite;
mod serve;
mod session;
mod squash;
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
    /// List files in an image
    Ls(ls::Arguments),
    /// Write a file in an image to stdout
    Cat(cat::Arguments),
    /// Copy a file or a folder out of an image
    Cp(cp::Arguments),
    /// Turn an image into a plain disk image
    Export(export::Arguments),
    /// Save a disk image of another program as an image
    Import(import::Arguments),
    /// Make the delta image from one state to another
    Diff(diff::Arguments),
    /// Make one full image of a delta image and its bases
    Squash(squash::Arguments),
    /// Make a delta image against another base
    Rebase(rebase::Arguments),
    /// Serve the state in an image as a read-only disk, over NBD
    Serve(serve::Arguments),
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
        Command::Ls(arguments) => ls::run(&session, &arguments),
        Command::Cat(arguments) => cat::run(&session, &arguments),
        Command::Cp(arguments) => cp::run(&session, &arguments),
        Command::Export(arguments) => export::run(&session, &arguments),
        Command::Import(arguments) => import::run(&session, &arguments),
        Command::Diff(arguments) => diff::run(&session, &arguments),
        Command::Squash(arguments) => squash::run(&session, &arguments),
        Command::Rebase(arguments) => rebase::run(&session, &arguments),
        Command::Serve(arguments) => serve::run(&session, &arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
