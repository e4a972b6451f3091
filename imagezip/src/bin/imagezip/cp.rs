//! `imagezip cp`: a file or a folder out of an image.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use imagezip::files::{CopyOptions, Kind, copy_file, copy_tree, shown};

use crate::exit::Usage;
use crate::inside::{self, Inside};
use crate::open;
use crate::session::{Session, human};

#[derive(Debug, Args)]
#[command(after_help = "\
Permissions and times are kept, owners and set-id bits are not. Symbolic links in a folder are copied as they are.
A copy of a folder that ends early leaves what is complete and says so; a file is copied whole or not at all:

  imagezip cp base.zdi --path /etc/fstab --to .
  imagezip cp base.zdi today.zdi --partition 2 --path /home/ann -r --to ann")]
pub(crate) struct Arguments {
    #[command(flatten)]
    inside: Inside,
    /// What to copy
    #[arg(long, value_name = "PATH")]
    path: OsString,
    /// Where to; inside of it when it is a folder that is there
    #[arg(long, value_name = "TARGET")]
    to: PathBuf,
    /// Copy a folder with everything below it
    #[arg(short = 'r', long)]
    recursive: bool,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let path = inside::bytes(&arguments.path);
    let options = CopyOptions { force: arguments.force };
    let report = inside::with(session, &arguments.inside, |volume| {
        let found = volume.find(path, session.control())?;
        let to = target(arguments, &found.path);
        open::distinct(&to, arguments.inside.images())?;
        let context = || format!("copy {} to {}", shown(path), shown(to.as_os_str().as_bytes()));
        let mut say = |text: &str| session.say(text);
        match (found.node.kind(), arguments.recursive) {
            (Kind::File, _) => copy_file(volume, &found.node, &to, options, session.control()).with_context(context),
            (Kind::Folder, true) => {
                copy_tree(volume, &found, &to, options, session.control(), &mut say).with_context(context)
            }
            (Kind::Folder, false) => Err(Usage(format!("{} is a folder: copy it with -r", shown(path))).into()),
            (kind, _) => Err(Usage(format!("{} is {kind}: only files and folders are copied", shown(path))).into()),
        }
    })?;
    let mut text = format!("{} files with {}", report.files, human(report.bytes.get()));
    if arguments.recursive {
        text.push_str(&format!(", {} folders, {} symbolic links", report.folders, report.links));
    }
    session.print(&report, &text)?;
    match report.failed {
        0 => Ok(()),
        failed => anyhow::bail!("{failed} files or folders could not be copied, as said above"),
    }
}

/// Returns where the copy goes: a folder that is there takes it under its own name.
fn target(arguments: &Arguments, found: &[u8]) -> PathBuf {
    let last = |path: &[u8]| path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).map(<[u8]>::to_vec);
    // A symbolic link has the name that was asked for.
    let asked = last(inside::bytes(&arguments.path)).filter(|name| name != b"." && name != b"..");
    match asked.or_else(|| last(found)) {
        Some(name) if arguments.to.is_dir() => arguments.to.join(OsStr::from_bytes(&name)),
        _ => arguments.to.clone(),
    }
}
