//! `ebb xfer list`

use serde::Serialize;
use uuid::Uuid;

use super::view::View;
use super::{Desk, exit_of};
use crate::ebb::output::table;
use crate::exit::{Exit, chain};

/// The columns.
pub(super) const HEADING: [&str; 5] = ["ID", "STANDING", "BYTES", "SOURCE", "DESTINATION"];

#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Known(Box<View>),
    Unreadable { id: Uuid, standing: &'static str, reason: String },
}

impl Line {
    fn row(&self) -> [String; 5] {
        match self {
            Self::Known(view) => view.row(),
            Self::Unreadable { id, standing, reason } => {
                [id.to_string(), (*standing).to_owned(), "-".to_owned(), reason.clone(), String::new()]
            }
        }
    }
}

pub(super) fn run(desk: &Desk<'_>) -> Result<(), Exit> {
    let listed = desk.shelf.list().map_err(|error| exit_of(&error))?;
    let line = |listed: crate::transfer::shelf::Listed| match listed.seen {
        Ok(seen) => Line::Known(Box::new(View::of(&seen))),
        Err(error) => Line::Unreadable { id: listed.id, standing: "unreadable", reason: chain(&error) },
    };
    let lines: Vec<_> = listed.into_iter().map(line).collect();
    desk.context.output.data(&lines, |lines| {
        if lines.is_empty() { String::new() } else { table(HEADING, lines.iter().map(Line::row).collect()) }
    })?;
    if lines.is_empty() {
        desk.context.output.say("no transfers; `ebb xfer copy` or `ebb xfer create` begins one");
    }
    if lines.iter().any(|line| matches!(line, Line::Unreadable { .. })) {
        desk.context.output.say("`ebb xfer fsck` says what to do about what is unreadable");
    }
    Ok(())
}
