//! `ebb xfer add`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use sigs::Digest;

use super::view::View;
use super::{Desk, Which, exit_of};
use crate::ebb::session::Session;
use crate::exit::{Code, Exit, io_exit};
use crate::transfer::Transfer;
use crate::transfer::place::{Address, Object};
use crate::transfer::record::ItemKind;

/// What begins the name of something that boss has.
const BOSS: &[u8] = b"boss:";

/// What is copied where, as `cp` understands it.
#[derive(Clone, Debug, Args)]
pub(super) struct Places {
    /// What is copied, and last where to: into a directory that is there, else under that name. `boss:sha256:DIGEST` is an
    /// object that boss has, and `boss:` as the destination its store; a file with such a name is `./boss:...`
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "DESTINATION"])]
    paths: Vec<PathBuf>,
    /// DESTINATION is the name of the copy, even when it is a directory that is there
    #[arg(short = 'T', long)]
    exact: bool,
}

impl Places {
    /// Adds them to a transfer.
    pub(super) fn add_to(&self, transfer: &mut Transfer, session: &Session) -> Result<(), Exit> {
        let boss = || session.reach().map(|(server, _)| Address::new(&server));
        let Some((destination, sources)) = self.paths.split_last() else { return Ok(()) };
        let sources = sources.iter().map(|path| Source::of(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = destination.as_os_str().as_bytes().strip_prefix(BOSS) {
            if !name.is_empty() {
                return Err(Exit::new(Code::Usage, format!("{} names nothing", destination.display()))
                    .next("what boss gets is named by its digest: write boss: alone, or ./boss:... for a file"));
            }
            for source in sources {
                let Source::Path(path) = source else {
                    return Err(Exit::new(Code::Usage, "from boss to boss nothing is copied: it has it"));
                };
                transfer.add_upload(&path, boss()?).map_err(|error| exit_of(&error))?;
            }
            return Ok(());
        }
        for (source, destination) in self.pairs(transfer, destination, sources)? {
            let added = match source {
                Source::Path(source) => transfer.add(&source, &destination),
                Source::Object(digest) => transfer.add_object(Object { boss: boss()?, digest }, &destination),
            };
            added.map_err(|error| exit_of(&error))?;
        }
        Ok(())
    }

    fn pairs(
        &self,
        transfer: &Transfer,
        destination: &Path,
        sources: Vec<Source>,
    ) -> Result<Vec<(Source, PathBuf)>, Exit> {
        let several = sources.len() > 1;
        if self.exact && several {
            return Err(Exit::new(Code::Usage, "--exact names one copy, and there are several sources"));
        }
        let slash = destination.as_os_str().as_bytes().ends_with(b"/");
        let missing = |folder: &Path| {
            Exit::new(Code::NotFound, format!("{} is no directory", folder.display())).next("make it first")
        };
        if !self.exact && (several || slash || destination.is_dir()) {
            if !is_directory(transfer, destination) {
                return Err(missing(destination));
            }
            let named = |source: Source| {
                let path = destination.join(source.name()?);
                Ok((source, path))
            };
            return sources.into_iter().map(named).collect();
        }
        let whole = std::path::absolute(destination);
        let whole = whole.map_err(|error| io_exit(format!("find {}", destination.display()), &error))?;
        match whole.parent() {
            Some(folder) if !is_directory(transfer, folder) => Err(missing(folder)),
            _ => Ok(sources.into_iter().map(|source| (source, destination.to_owned())).collect()),
        }
    }
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// Something of this machine.
    Path(PathBuf),
    /// An object that boss has.
    Object(Digest),
}

impl Source {
    fn of(path: &Path) -> Result<Self, Exit> {
        let Some(what) = path.as_os_str().as_bytes().strip_prefix(BOSS) else {
            return Ok(Self::Path(path.to_owned()));
        };
        let digest = str::from_utf8(what).ok().and_then(|what| what.strip_prefix("sha256:")?.parse().ok());
        digest.map(Self::Object).ok_or_else(|| {
            Exit::new(Code::Usage, format!("{} is no object of boss", path.display())).next(
                "write boss:sha256: and the 64 digits that `ebb image show` and `ebb exp points` say, or ./boss:... for a file",
            )
        })
    }

    /// Returns the name that a copy gets in a directory.
    fn name(&self) -> Result<OsString, Exit> {
        match self {
            Self::Path(path) => name_of(path),
            Self::Object(digest) => Ok(digest.to_string().into()),
        }
    }
}

/// Returns true for a directory that is there, or will be by then.
fn is_directory(transfer: &Transfer, path: &Path) -> bool {
    let Ok(whole) = std::path::absolute(path) else { return false };
    let to_be = || {
        let mut items = transfer.state().items.iter();
        items.any(|item| item.kind == ItemKind::Directory && item.destination.path() == Some(&whole))
    };
    path.is_dir() || to_be()
}

fn name_of(source: &Path) -> Result<OsString, Exit> {
    if let Some(name) = source.file_name() {
        return Ok(name.to_owned());
    }
    // Such as `.` or `..`.
    let failed = |error: std::io::Error| io_exit(format!("find {}", source.display()), &error);
    let whole = source.canonicalize().map_err(failed)?;
    whole.file_name().map(ToOwned::to_owned).ok_or_else(|| {
        Exit::new(Code::Usage, format!("{} has no name that a copy could get", source.display()))
            .next("give the copy a name with --exact")
    })
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    places: Places,
}

impl Add {
    pub(super) fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let id = self.which.id;
        let mut transfer = desk.shelf.transfer(id).map_err(|error| exit_of(&error))?;
        self.places.add_to(&mut transfer, &desk.context.session)?;
        drop(transfer);
        let seen = desk.shelf.look(id).map_err(|error| exit_of(&error))?;
        desk.context.output.data(&View::of(&seen), View::content)
    }
}
