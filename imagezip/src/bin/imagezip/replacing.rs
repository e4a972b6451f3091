//! Whether a file that is there may be replaced by a new one.

use std::path::Path;

use clap::Args;
use imagezip::package::{Draft, Existing, ImageFile, PackageError};

use crate::exit::Usage;

/// The option of every command that makes a file. Nothing is replaced unless it is given.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Replacing {
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

impl Replacing {
    /// Begins a file; nothing is left of it unless it is published.
    pub(crate) fn draft(self, path: &Path) -> anyhow::Result<Draft> {
        Draft::begin(path, self.existing()).map_err(refused)
    }

    /// Begins an image; nothing is left of it unless it is finished.
    pub(crate) fn image(self, path: &Path) -> anyhow::Result<ImageFile> {
        ImageFile::begin(path, self.existing()).map_err(refused)
    }

    const fn existing(self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }
}

/// Says what to do about a name that is taken.
pub(crate) fn refused(error: PackageError) -> anyhow::Error {
    match error {
        PackageError::Exists { path } => {
            let path = path.display();
            Usage(format!("{path} exists and is left as it is: name another file, or replace it with --force")).into()
        }
        other => other.into(),
    }
}
