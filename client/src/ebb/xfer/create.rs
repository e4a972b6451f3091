//! `ebb xfer create`

use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::amount::{rate, reserve};
use super::{Desk, exit_of};
use crate::exit::{Code, Exit};
use crate::transfer::Options;
use crate::transfer::limit::Rate;
use crate::transfer::room::Reserve;

/// The most files that are copied at once unless somebody says otherwise.
const MAX_THREADS: u16 = 16;

/// How files are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One after the other
    Sync,
    /// Several at a time
    Threaded,
}

/// How a transfer is done; it never changes afterwards.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct How {
    /// How files are copied
    #[arg(long, value_enum, default_value_t = Kind::Threaded)]
    kind: Kind,
    /// How many files at a time, for --kind threaded; one for each core up to 16 if not said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Remove the sources, once everything arrived
    #[arg(long)]
    release_sources: bool,
    /// Copy at most so many bytes a second, such as 50M
    #[arg(long, value_name = "BYTES", value_parser = rate, env = "EBB_XFER_LIMIT")]
    limit: Option<Rate>,
    /// Leave so much of the file system free that is copied to, such as 10G or 5%
    #[arg(long, value_name = "BYTES|PERCENT", value_parser = reserve, env = "EBB_XFER_RESERVE")]
    reserve: Option<Reserve>,
}

impl How {
    pub(super) fn options(self) -> Result<Options, Exit> {
        let threads = match (self.kind, self.threads) {
            (Kind::Sync, None | Some(1)) => 1,
            (Kind::Sync, Some(_)) => {
                return Err(Exit::new(Code::Usage, "--threads is for --kind threaded: sync copies one file at a time"));
            }
            (Kind::Threaded, Some(threads)) => threads,
            (Kind::Threaded, None) => {
                let cores = available_parallelism().map_or(1, std::num::NonZero::get);
                u16::try_from(cores).unwrap_or(MAX_THREADS).clamp(2, MAX_THREADS)
            }
        };
        let Self { release_sources, limit, reserve, .. } = self;
        Ok(Options { threads, release_sources, limit, reserve })
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    how: How,
}

#[derive(Serialize)]
struct Created {
    id: Uuid,
}

impl Create {
    pub(super) fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let transfer = desk.shelf.create(self.how.options()?).map_err(|error| exit_of(&error))?;
        let created = Created { id: transfer.state().id };
        desk.context.output.data(&created, |created| created.id.to_string())
    }
}
