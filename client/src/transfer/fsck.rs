//! What is wrong in a directory of journals, and what the next attempt of each transfer would do.
//!
//! Nothing that anybody may need is touched: what a repair removes is told by its name to be nobody's, or belongs to a
//! transfer that is over.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use uuid::Uuid;

use super::journal::Journal;
use super::place::Place;
use super::record::ItemKind;
use super::recover::{Action, Loss, decide};
use super::run::{failed, look};
use super::shelf::id_of;
use super::state::{Item, Phase, State};
use super::stop::Stop;
use super::{Shelf, Standing, TransferError};

/// Something that somebody may want to do something about.
#[derive(Debug)]
pub enum Finding {
    /// A journal that cannot be understood. What it describes is left alone.
    Unreadable {
        /// Whose.
        id: Uuid,
        /// What is wrong with it.
        reason: TransferError,
        /// What there is under temporary names, as far as the journal can be read.
        temporaries: Vec<PathBuf>,
    },
    /// A transfer that is not over and that nobody works on.
    Unfinished {
        /// Which.
        id: Uuid,
        /// How it stands.
        standing: Standing,
        /// What the next attempt does, and with how many items.
        plan: BTreeMap<&'static str, usize>,
    },
    /// A transfer of which something cannot be finished as things are.
    Stuck {
        /// Which.
        id: Uuid,
        /// How it stands.
        standing: Standing,
        /// What, and why.
        losses: Vec<(Place, Loss)>,
    },
    /// A file that nobody needs.
    Leftover {
        /// Which.
        path: PathBuf,
    },
    /// A file that does not belong here.
    Foreign {
        /// Which.
        path: PathBuf,
    },
}

impl Finding {
    /// Returns which transfer it is about.
    pub const fn transfer(&self) -> Option<Uuid> {
        match self {
            Self::Unreadable { id, .. } | Self::Unfinished { id, .. } | Self::Stuck { id, .. } => Some(*id),
            Self::Leftover { .. } | Self::Foreign { .. } => None,
        }
    }
}

impl Shelf {
    /// Looks at everything in the directory. Transfers that somebody works on, and those that are over, are well.
    ///
    /// # Errors
    /// [`TransferError::Io`] when the directory cannot be read; [`TransferError::Stopped`] when `stop` becomes true.
    pub fn fsck(&self, stop: &AtomicBool) -> Result<Vec<Finding>, TransferError> {
        let unlisted = |error| failed("list", self.folder())(error);
        let names = fs::read_dir(self.folder()).map_err(unlisted)?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>().map_err(unlisted)?;
        names.sort();
        let mut findings = Vec::new();
        for name in names {
            let path = self.folder().join(&name);
            match (id_of(&name), is_ours(&name)) {
                (Some(id), _) => findings.extend(self.examine(id, stop)?),
                // It was there when the directory was read, and its journal may not have been.
                (None, Some(Some(id))) if self.path(id).exists() => {}
                (None, Some(_)) => findings.push(Finding::Leftover { path }),
                (None, None) => findings.push(Finding::Foreign { path }),
            }
        }
        Ok(findings)
    }

    /// Removes leftovers, and cuts off what a crash left at the end of journals.
    ///
    /// # Errors
    /// [`TransferError::Io`] for the first thing that cannot be removed.
    pub fn repair(&self, findings: &[Finding]) -> Result<(), TransferError> {
        for finding in findings {
            match finding {
                Finding::Leftover { path } => match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", path)(error)),
                    Ok(()) | Err(_) => {}
                },
                Finding::Unfinished { id, .. } | Finding::Stuck { id, .. } => drop(self.transfer(*id)?),
                Finding::Unreadable { .. } | Finding::Foreign { .. } => {}
            }
        }
        Ok(())
    }

    fn examine(&self, id: Uuid, stop: &AtomicBool) -> Result<Vec<Finding>, TransferError> {
        let unreadable = |reason, temporaries| vec![Finding::Unreadable { id, reason, temporaries }];
        let found = match Journal::glance(&self.path(id)) {
            Ok(found) => found,
            Err(error) => return Ok(unreadable(error.into(), Vec::new())),
        };
        let state = State::of(&found.records).map_err(|source| TransferError::Impossible { id, source });
        let state = match (found.damage, state) {
            (None, Ok(_)) if found.busy => return Ok(Vec::new()),
            (None, Ok(state)) => state,
            (None, Err(reason)) => return Ok(unreadable(reason, Vec::new())),
            // Up to the damage it may say what there is.
            (Some(damage), state) => {
                return Ok(unreadable(damage.into(), state.map_or_else(|_| Vec::new(), |state| temporaries(&state))));
            }
        };
        if state.phase == Phase::Closed {
            return Ok(temporaries(&state).into_iter().map(|path| Finding::Leftover { path }).collect());
        }
        let standing = Standing::of(&state, false);
        let (mut plan, mut losses) = (BTreeMap::new(), Vec::new());
        for (number, item) in (0..).zip(&state.items) {
            match foresee(item, (id, number), &Stop::by(stop))? {
                Action::Fail(loss) => losses.push((loss.place(item), loss)),
                action => *plan.entry(word(action)).or_default() += 1,
            }
        }
        let stuck = !losses.is_empty() && !matches!(standing, Standing::Cancelling);
        Ok(vec![if stuck {
            Finding::Stuck { id, standing, losses }
        } else {
            Finding::Unfinished { id, standing, plan }
        }])
    }
}

/// Returns what the next attempt would do with an item.
fn foresee(item: &Item, (id, number): (Uuid, u32), stop: &Stop<'_>) -> Result<Action, TransferError> {
    if item.kind == ItemKind::File {
        return Ok(decide(&item.progress, look(item, (id, number), stop)?));
    }
    let (false, Some(source), Some(destination)) = (item.arrived(), item.source.path(), item.destination.path()) else {
        return Ok(Action::Nothing);
    };
    let at = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
    };
    let fits = match (at(destination)?, item.kind) {
        (None, _) => true,
        (Some(found), ItemKind::Link) => {
            found.is_symlink() && fs::read_link(destination).ok() == fs::read_link(source).ok()
        }
        (Some(found), ItemKind::Directory | ItemKind::File) => found.is_dir(),
    };
    Ok(match (fits, at(source)?) {
        (false, _) => Action::Fail(Loss::InTheWay),
        (true, None) => Action::Fail(Loss::SourceGone),
        (true, Some(_)) => Action::Begin,
    })
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Begin => "begun",
        Action::Continue => "gone on with",
        Action::StartOver => "begun again",
        Action::Finish => "read back and named",
        Action::RecordName | Action::RecordNameAndTidy => "noted: it has its name",
        Action::Nothing => "there",
        Action::Fail(_) => "not possible",
    }
}

/// Returns what a transfer has under temporary names.
fn temporaries(state: &State) -> Vec<PathBuf> {
    let all = (0..).zip(&state.items);
    let paths = all.filter_map(|(number, item)| item.temporary(state.id, number));
    paths.filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Returns whether a file that is no journal is one of ours; if so, the transfer it belongs to, unless it is a draft.
fn is_ours(name: &OsStr) -> Option<Option<Uuid>> {
    let name = name.to_str()?;
    let draft = [".journal-", ".stop-"].iter().any(|prefix| name.starts_with(prefix)) && name.ends_with(".partial");
    if draft {
        return Some(None);
    }
    let id = name.strip_suffix(".stop").or_else(|| name.strip_suffix(".log"))?;
    id.parse().ok().map(Some)
}
