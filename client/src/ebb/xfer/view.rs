//! A transfer as it is shown.

use serde::Serialize;
use sigs::Digest;
use uuid::Uuid;

use super::Desk;
use crate::ebb::output::{size, word};
use crate::exit::{Code, Exit};
use crate::transfer::place::{Address, Place};
use crate::transfer::room::Reserve;
use crate::transfer::state::{Item, Progress};
use crate::transfer::watch::{Seen, Tally};
use crate::transfer::{Class, Options, Standing};

/// What programs get of a transfer.
#[derive(Debug, Serialize)]
pub(super) struct View {
    id: Uuid,
    #[serde(flatten)]
    standing: Standing,
    attempt: u32,
    #[serde(flatten)]
    tally: Tally,
    options: Options,
    /// The first thing that was added, and where it goes, as `ebb xfer add` takes them; names of files that are no text are
    /// shown as near as can be.
    source: Option<String>,
    destination: Option<String>,
    /// The address of the boss that it is with, if it is with one.
    boss: Option<String>,
    /// What boss got.
    stored: Vec<Stored>,
}

/// A file that is an object of boss now.
#[derive(Debug, Serialize)]
struct Stored {
    source: String,
    digest: Digest,
}

impl View {
    pub(super) fn of(seen: &Seen) -> Self {
        let state = &seen.state;
        let first = state.items.first();
        let mut places = state.items.iter().flat_map(|item| [&item.source, &item.destination]);
        Self {
            id: state.id,
            standing: seen.standing.clone(),
            attempt: state.attempt,
            tally: Tally::of(state),
            options: state.options,
            source: first.map(|item| given(&item.source)),
            destination: first.map(|item| given(&item.destination)),
            boss: places.find_map(Place::boss).map(Address::to_string),
            stored: state.items.iter().filter_map(stored).collect(),
        }
    }

    /// Returns the columns of a list.
    pub(super) fn row(&self) -> [String; 5] {
        let dash = || "-".to_owned();
        [
            self.id.to_string(),
            name_of(&self.standing),
            self.amount(),
            self.source.clone().unwrap_or_else(dash),
            self.destination.clone().unwrap_or_else(dash),
        ]
    }

    /// Returns what was added so far.
    pub(super) fn content(&self) -> String {
        format!("{}: {} items, {}", self.id, self.tally.items, size(self.tally.bytes))
    }

    fn amount(&self) -> String {
        format!("{} of {}", size(self.tally.bytes_done), size(self.tally.bytes))
    }
}

/// Returns a place as it is given to `ebb xfer add`.
fn given(place: &Place) -> String {
    match place {
        Place::Path(path) => path.as_path().display().to_string(),
        Place::Object(object) => format!("boss:sha256:{}", object.digest),
        Place::Store(_) => "boss:".to_owned(),
    }
}

fn stored(item: &Item) -> Option<Stored> {
    let Progress::Stored { digest } = item.progress else { return None };
    Some(Stored { source: given(&item.source), digest })
}

/// Returns a transfer for people.
pub(super) fn describe(view: &View) -> String {
    let Options { threads, release_sources, limit, reserve } = view.options;
    let mut text = format!("{}: {}", view.id, name_of(&view.standing));
    if let Standing::Failed { detail, .. } = &view.standing {
        text.push_str(&format!(": {detail}"));
    }
    let Tally { items, items_done, .. } = view.tally;
    text.push_str(&format!("\n{}, {items_done} of {items} items, attempt {}\n", view.amount(), view.attempt));
    if let (Some(source), Some(destination)) = (&view.source, &view.destination) {
        let more = if items > 1 { " and what else was added" } else { "" };
        text.push_str(&format!("{source} to {destination}{more}\n"));
    }
    if let Some(boss) = &view.boss {
        text.push_str(&format!("with boss at {boss}\n"));
    }
    for Stored { source, digest } in &view.stored {
        text.push_str(&format!("{source} is boss:sha256:{digest}\n"));
    }
    let kind = if threads == 1 { "sync".to_owned() } else { format!("threaded, {threads} files at a time") };
    text.push_str(&kind);
    if let Some(limit) = limit {
        text.push_str(&format!(", at most {} a second", size(limit.bytes().get())));
    }
    match reserve {
        None => {}
        Some(Reserve::Bytes(bytes)) => text.push_str(&format!(", leaves {} free", size(bytes.get()))),
        Some(Reserve::Percent(percent)) => text.push_str(&format!(", leaves {}% free", u8::from(percent))),
    }
    if release_sources {
        text.push_str(", removes the sources");
    }
    if let Some(next) = next(view.id, &view.standing) {
        text.push_str(&format!("\nnext: {next}"));
    }
    text
}

/// Returns how a transfer stands, in one word.
pub(super) fn name_of(standing: &Standing) -> String {
    let value = serde_json::to_value(standing).unwrap_or_default();
    word(value.get("standing"))
}

/// Returns what to do next about a transfer.
pub(super) fn next(id: Uuid, standing: &Standing) -> Option<String> {
    Some(match standing {
        Standing::Created => {
            format!("add with `ebb xfer add {id} SOURCE DESTINATION`, begin with `ebb xfer dispatch {id}`")
        }
        Standing::Running => format!("`ebb xfer wait {id}` waits for its end"),
        Standing::Stopped | Standing::CutOff => format!("`ebb xfer resume {id}` goes on with it"),
        Standing::Failed { .. } => {
            format!(
                "do something about the cause, then `ebb xfer resume {id}`; `ebb xfer fsck {id}` says what that would do"
            )
        }
        Standing::Cancelling => format!("`ebb xfer cancel {id}` finishes that"),
        Standing::Done | Standing::Cancelled => format!("`ebb xfer free {id}` removes its journal"),
    })
}

impl Desk<'_> {
    /// Prints how a transfer stands; anything but success is an error with the reason.
    pub(super) fn verdict(&self, seen: &Seen) -> Result<(), Exit> {
        let view = View::of(seen);
        let (id, standing) = (view.id, view.standing.clone());
        self.context.output.data(&view, describe)?;
        let code = match &standing {
            Standing::Done => return Ok(()),
            Standing::Running => Code::TimedOut,
            Standing::Created | Standing::Stopped | Standing::CutOff | Standing::Cancelled | Standing::Cancelling => {
                Code::WrongState
            }
            Standing::Failed { class, .. } => Class::of_name(class).map_or(Code::Failed, Class::code),
        };
        let text = match &standing {
            Standing::Running => format!("transfer {id} is being worked on"),
            Standing::Created => format!("transfer {id} was not dispatched"),
            Standing::Failed { detail, .. } => format!("transfer {id} failed: {detail}"),
            other => format!("transfer {id} is {}", name_of(other)),
        };
        let exit = Exit::new(code, text);
        Err(match next(id, &standing) {
            Some(next) => exit.next(next),
            None => exit,
        })
    }
}
