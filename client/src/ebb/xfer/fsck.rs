//! `ebb xfer fsck`

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::view::{name_of, next};
use super::{Desk, exit_of};
use crate::exit::{Code, Exit, chain};
use crate::transfer::Standing;
use crate::transfer::fsck::Finding;

#[derive(Debug, Args)]
pub(super) struct Fsck {
    /// The transfers; all, and what else lies among the journals, if not said
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    /// Remove what nobody needs, and cut off what a crash left at the end of journals
    #[arg(long)]
    fix: bool,
}

/// A finding as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    transfer: Option<Uuid>,
    finding: &'static str,
    what: String,
    next: String,
}

impl Fsck {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let shelf = desk.shelf.clone();
        let found = desk.on_a_thread(move |stop| shelf.fsck(stop), || {}).await?;
        let mut found = found.map_err(|error| exit_of(&error))?;
        if !self.ids.is_empty() {
            for id in &self.ids {
                // One that is not there is an error; one that cannot be read is a finding.
                if !desk.shelf.has(*id) {
                    return Err(Exit::new(
                        Code::NotFound,
                        format!("there is no transfer {id} in {}", desk.shelf.folder().display()),
                    ));
                }
            }
            found.retain(|finding| finding.transfer().is_some_and(|id| self.ids.contains(&id)));
        }
        let shown: Vec<_> = found.iter().map(show).collect();
        desk.context.output.data(&shown, |shown| shown.iter().map(line).collect())?;
        if self.fix {
            desk.shelf.repair(&found).map_err(|error| exit_of(&error))?;
        }
        let count = |test: fn(&Finding) -> bool| found.iter().filter(|finding| test(finding)).count();
        let unreadable = count(|finding| matches!(finding, Finding::Unreadable { .. }));
        let stuck = count(|finding| matches!(finding, Finding::Stuck { .. }));
        match (unreadable, stuck) {
            (0, 0) => {
                if found.is_empty() {
                    desk.context.output.say("all is well");
                }
                Ok(())
            }
            (0, stuck) => {
                Err(Exit::new(Code::Failed, format!("{stuck} of the transfers cannot be finished as things are")))
            }
            (unreadable, _) => {
                Err(Exit::new(Code::Verification, format!("{unreadable} of the journals cannot be understood")))
            }
        }
    }
}

fn line(shown: &Shown) -> String {
    format!("{}: {}\n  next: {}\n", shown.finding, shown.what, shown.next)
}

fn show(finding: &Finding) -> Shown {
    let transfer = finding.transfer();
    let advice = |id: Uuid, standing: &Standing| next(id, standing).unwrap_or_default();
    match finding {
        Finding::Unreadable { id, reason, temporaries } => {
            let mut what = format!("transfer {id}: {}", chain(reason));
            if !temporaries.is_empty() {
                let paths: Vec<_> = temporaries.iter().map(|path| path.display().to_string()).collect();
                what.push_str(&format!("; not whole, and not needed by anybody else: {}", paths.join(", ")));
            }
            let next = format!("look at its destination, then `ebb xfer forget {id}` and copy again");
            Shown { transfer, finding: "unreadable", what, next }
        }
        Finding::Unfinished { id, standing, plan } => {
            let plan: Vec<_> = plan.iter().map(|(word, count)| format!("{count} {word}")).collect();
            let what = format!("transfer {id} is {}; the next attempt: {}", name_of(standing), plan.join(", "));
            Shown { transfer, finding: "unfinished", what, next: advice(*id, standing) }
        }
        Finding::Stuck { id, standing, losses } => {
            let losses: Vec<_> = losses.iter().map(|(place, loss)| format!("{place} {loss}")).collect();
            let what = format!("transfer {id} is {}: {}", name_of(standing), losses.join("; "));
            let next =
                format!("put that right, then `ebb xfer resume {id}`; or give it up with `ebb xfer cancel {id}`");
            Shown { transfer, finding: "stuck", what, next }
        }
        Finding::Leftover { path } => {
            let what = format!("{} is needed by nobody", path.display());
            Shown { transfer, finding: "leftover", what, next: "`ebb xfer fsck --fix` removes it".to_owned() }
        }
        Finding::Foreign { path } => {
            let what = format!("{} is not of a transfer", path.display());
            Shown { transfer, finding: "foreign", what, next: "nothing; it is left alone".to_owned() }
        }
    }
}
