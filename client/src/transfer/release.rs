//! Removing the sources of a transfer, once everything arrived.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sigs::Digest;

use super::TransferError;
use super::copy::digest_on_medium;
use super::journal::folder_of;
use super::record::{ItemKind, Record, Seal};
use super::recover::Loss;
use super::run::{Attempt, failed, no_follow, sync_directory, unreadable};
use super::source;
use super::state::{Item, Progress};

impl Attempt<'_> {
    /// Removes the sources, once the journal itself says that everything arrived.
    pub(super) fn release(&self) -> Result<(), TransferError> {
        let records = self.desk().journal.read_back()?;
        if !records.contains(&Record::Committed) {
            return Err(TransferError::Defect { record: "committed cannot be read back".to_owned() });
        }
        let (count, names) = {
            let desk = self.desk();
            (desk.state.items.len(), names_of(&desk.state.items))
        };
        // Directories after what is in them.
        for number in (0..count).rev() {
            let Some(item) = self.item(number) else { continue };
            let (Progress::Renamed { digest }, Some(seal)) = (&item.progress, item.seal()) else { continue };
            let Some(path) = item.source.path() else { continue };
            self.stop.check()?;
            match source::seal(path) {
                Ok(found) => {
                    if !self.is_still(&names, (&item, path), (*seal, *digest), found)? {
                        return Err(TransferError::Lost { item: path.into(), loss: Loss::SourceChanged });
                    }
                    remove(path, item.kind).map_err(failed("remove", path))?;
                    sync_directory(folder_of(path))?;
                }
                // An attempt before this one removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("look at", path)(error)),
            }
            self.record(&Record::SourceReleased { item: u32::try_from(number).unwrap_or(u32::MAX) })?;
        }
        Ok(())
    }

    /// Returns true when a source is what was transferred. That other sources were removed shows in a directory that held
    /// them, and in another name of a file that had several: of such a file the content decides.
    fn is_still(
        &self,
        names: &Names,
        (item, path): (&Item, &Path),
        (seal, digest): (Seal, Option<Digest>),
        found: Seal,
    ) -> Result<bool, TransferError> {
        let file = (seal.device, seal.inode);
        if item.kind == ItemKind::Directory {
            return Ok(file == (found.device, found.inode));
        }
        let several = names.get(&file).is_some_and(|names| *names > 1);
        if found == seal || !several || found != (Seal { changed: found.changed, ..seal }) {
            return Ok(found == seal);
        }
        let Some(digest) = digest else { return Ok(true) };
        let opened = OpenOptions::new().read(true).custom_flags(no_follow()).open(path);
        let mut file = opened.map_err(failed("open", path))?;
        let now = digest_on_medium(&mut file, &self.stop).map_err(unreadable("read", path))?;
        Ok(now == (digest, seal.size))
    }
}

/// How many of the sources each file is: by device and inode.
type Names = HashMap<(u64, u64), usize>;

fn names_of(items: &[Item]) -> Names {
    let mut names = Names::new();
    for seal in items.iter().filter_map(Item::seal) {
        *names.entry((seal.device, seal.inode)).or_default() += 1;
    }
    names
}

fn remove(path: &Path, kind: ItemKind) -> io::Result<()> {
    if kind == ItemKind::Directory { fs::remove_dir(path) } else { fs::remove_file(path) }
}
