//! `imagezip map`: what is allocated on a disk, and why.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use imagezip::alloc::Treatment;
use imagezip::io::{Disk, ReadAt as _};

use crate::open;
use crate::session::{Session, human};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A disk, or a file that holds one
    source: PathBuf,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let disk = Disk::open(&arguments.source)?;
    let part = open::part(&disk, &arguments.source, arguments.partition)?;
    let (layout, survey) = open::layout(session, &part, &arguments.source, false)?;
    let mut text = format!(
        "{} of {} allocated, in {} ranges; sectors of {} bytes\n",
        human(layout.allocated_bytes().get()),
        human(part.len().get()),
        survey.allocated.len(),
        survey.sector_size
    );
    for partition in &survey.partitions {
        let how = match &partition.treatment {
            Treatment::Proven { .. } => "free space proven".to_owned(),
            Treatment::Whole { reason } => format!("whole: {reason}"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "partition {} at {}: {} ({}), {} of {} allocated, {how}",
            partition.number,
            partition.range.start,
            partition.content,
            partition.kind,
            human(partition.allocated.get()),
            human(partition.range.len.get())
        );
    }
    session.print(&survey, &text)
}
