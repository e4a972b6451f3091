//! `ebb xfer stop`

use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use super::view::{View, describe};
use super::{Desk, exit_of};
use crate::ebb::output::table;
use crate::exit::{Code, Exit};
use crate::transfer::Standing;
use crate::transfer::watch::Seen;

/// How long whoever works on a transfer may take to notice: a chunk, or a flush of what it wrote.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Patience {
    /// How many seconds to wait for whoever works on it; the request stays
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// The transfers
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<Uuid>,
    /// All that somebody works on
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Stop {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let ids = if self.all { running(desk)? } else { self.ids };
        let mut views = Vec::new();
        for id in ids {
            let seen = desk.stop(id, self.patience).await?;
            views.push(View::of(&seen));
        }
        desk.context.output.data(&views, |views| match views.as_slice() {
            [view] => describe(view),
            views => table(super::list::HEADING, views.iter().map(View::row).collect()),
        })
    }
}

fn running(desk: &Desk<'_>) -> Result<Vec<Uuid>, Exit> {
    let all = desk.shelf.list().map_err(|error| exit_of(&error))?;
    let runs = |seen: &Seen| seen.standing == Standing::Running;
    Ok(all.into_iter().filter(|listed| listed.seen.as_ref().is_ok_and(runs)).map(|listed| listed.id).collect())
}

impl Desk<'_> {
    /// Has whoever works on a transfer stop, and waits for that.
    pub(super) async fn stop(&self, id: Uuid, patience: Patience) -> Result<Seen, Exit> {
        let (shelf, time) = (self.shelf.clone(), Duration::from_secs(patience.timeout));
        let seen = self.on_a_thread(move |enough| shelf.stop(id, Some(time), enough), || {}).await?;
        let seen = seen.map_err(|error| exit_of(&error))?;
        if seen.standing == Standing::Running {
            let seconds = patience.timeout;
            return Err(Exit::new(Code::TimedOut, format!("transfer {id} did not stop within {seconds} s"))
                .next("it stops as soon as it notices; its medium may be slow"));
        }
        Ok(seen)
    }
}
