//! `imagezip map`: what is allocated on a disk, and why.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use imagezip::alloc::{Treatment, VolumeReport};
use imagezip::io::{Disk, ReadAt as _};

use crate::open::{self, Looking};
use crate::session::{Session, human};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A disk, or a file that holds one
    source: PathBuf,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Do not ask partclone about file systems that count only with its word, such as NTFS: they are data then
    #[arg(long)]
    no_partclone: bool,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let disk = Disk::open(&arguments.source)?;
    let part = open::part(&disk, &arguments.source, arguments.partition)?;
    let looking = Looking { partclone: !arguments.no_partclone, ..Looking::default() };
    let (layout, survey) = open::layout(session, &part, &arguments.source, looking)?;
    let mut text = format!(
        "{} of {} allocated, in {} ranges; sectors of {} bytes\n",
        human(layout.allocated_bytes().get()),
        human(part.len().get()),
        survey.allocated.len(),
        survey.sector_size
    );
    for partition in &survey.partitions {
        let how = how(&partition.treatment);
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
        if let Treatment::Proven { evidence } = &partition.treatment {
            evidence.volumes().iter().for_each(|found| text.push_str(&volume(found)));
        }
    }
    session.print(&survey, &text)
}

/// Returns the line for a logical volume.
pub(crate) fn volume(found: &VolumeReport) -> String {
    let (allocated, len) = (human(found.allocated.get()), human(found.len.get()));
    let how = how(&found.treatment);
    format!("  volume {}: {}, {allocated} of {len} allocated, {how}\n", found.name, found.content)
}

fn how(treatment: &Treatment) -> String {
    match treatment {
        Treatment::Proven { evidence } => evidence.to_string(),
        Treatment::Whole { reason } => format!("whole: {reason}"),
    }
}
