//! `imagezip export`: an image into a plain disk image.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use imagezip::io::Disk;
use imagezip::package::Draft;
use imagezip::restore::{FreePolicy, RestoreOptions, restore};

use crate::exit::Usage;
use crate::open;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The image; of a delta image its base first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write
    #[arg(long, value_name = "OUT")]
    to: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The bytes of the disk, with holes
    Raw,
    /// For virtual machines; not in this version
    Qcow2,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.format {
        Format::Raw => {}
        Format::Qcow2 => {
            let text = "qcow2 is not written by this version; export --format raw and convert that";
            return Err(Usage(text.to_owned()).into());
        }
    }
    open::distinct(&arguments.to, &arguments.images)?;
    let chain = open::chain(session, &arguments.images)?;
    let draft = Draft::create(&arguments.to)?;
    draft.set_len(chain.geometry().disk_bytes)?;
    let target = Disk::open_for_writing(draft.temporary_path())?;
    let options = RestoreOptions { fresh: true, threads: session.threads(), ..RestoreOptions::new(FreePolicy::Zero) };
    let report = session.watched(|| restore(&chain, &target, &options, session.control()));
    let report = report.with_context(|| format!("export to {}", arguments.to.display()))?;
    drop(target);
    session.check_interrupted()?;
    draft.publish()?;
    session.print(&report, &format!("root {}\nidentical: read back and proved", report.root))
}
