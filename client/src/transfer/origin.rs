//! What a file is copied from, opened: a file of this machine, which its seal tells from any other, or an object of a
//! boss, which its digest does.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use boss_api::client::ClientError;
use sigs::{ByteLen, ByteOffset, Digest};

use super::TransferError;
use super::boss::Line;
use super::copy::{Chunks, good_prefix};
use super::place::{Object, Place};
use super::record::Seal;
use super::recover::Loss;
use super::run::{failed, no_follow, unreadable};
use super::source;
use super::state::{Item, Sealed};
use super::stop::Stop;

/// An open source.
pub(super) enum Origin<'a> {
    /// A file that is to have this seal.
    File(File, &'a Path, Seal),
    /// An object of so many bytes.
    Object(&'a Line, &'a Object, ByteLen),
}

impl<'a> Origin<'a> {
    /// Opens the source of an item that was sealed; nothing if it was not.
    pub(super) fn open(item: &'a Item, line: Option<&'a Line>) -> Result<Option<Self>, TransferError> {
        Ok(match (&item.source, &item.sealed) {
            (Place::Path(path), Some(Sealed::Local(seal, _))) => {
                let path = path.as_path();
                let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path);
                Some(Self::File(file.map_err(failed("open", path))?, path, *seal))
            }
            (Place::Object(object), Some(Sealed::Object(size))) => {
                Some(Self::Object(line_to(line, &item.source)?, object, *size))
            }
            _ => None,
        })
    }

    /// Makes sure that it is what was sealed.
    pub(super) fn check(&self) -> Result<(), TransferError> {
        match self {
            Self::File(file, path, seal) => {
                let found = file.metadata().map(|found| source::seal_of(&found)).map_err(failed("look at", path))?;
                if found == *seal { Ok(()) } else { Err(changed(path)) }
            }
            Self::Object(..) => Ok(()),
        }
    }

    /// Makes sure that it begins with what was copied of it. Of an object that is seen at the end, by its digest: to fetch
    /// it once more would cost as much as to begin again.
    pub(super) fn begins_with(
        &mut self,
        chunks: &[Digest],
        end: ByteLen,
        stop: &Stop<'_>,
    ) -> Result<(), TransferError> {
        match self {
            Self::File(file, path, _) => {
                let same = good_prefix(file, chunks, stop).map_err(unreadable("read", path))?;
                if same == (chunks.len(), end) { Ok(()) } else { Err(changed(path)) }
            }
            Self::Object(..) => Ok(()),
        }
    }

    /// Returns the chunks from a place on.
    pub(super) fn chunks(&mut self, start: ByteLen) -> Result<Chunks<'_>, TransferError> {
        Ok(match self {
            Self::File(file, path, _) => {
                file.seek(SeekFrom::Start(start.get())).map_err(failed("read", path))?;
                Chunks::File(file)
            }
            Self::Object(line, object, size) => {
                Chunks::Object(line, object.digest, *size, ByteOffset::new(start.get()))
            }
        })
    }
}

pub(super) fn changed(path: &Path) -> TransferError {
    TransferError::Lost { item: path.into(), loss: Loss::SourceChanged }
}

/// Returns the line to the boss that has or gets something.
pub(super) fn line_to<'a>(line: Option<&'a Line>, place: &Place) -> Result<&'a Line, TransferError> {
    let line = line.filter(|line| place.boss() == Some(line.address()));
    line.ok_or_else(|| TransferError::NoBoss { place: place.clone() })
}

/// Turns an error of reading a source into that of the transfer.
pub(super) fn unread(item: &Item) -> impl Fn(io::Error) -> TransferError {
    failed("read", item.source.path().unwrap_or(Path::new("")))
}

/// Turns what a boss said about something into an error of the transfer.
pub(super) fn refused(action: &'static str, place: &Place) -> impl Fn(Box<ClientError>) -> TransferError {
    move |source| TransferError::Boss { action, place: place.clone(), source }
}
