//! Doing a transfer: whatever its journal says was done last, from there to the end.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use sigs::{ByteLen, Digest};

use super::TransferError;
use super::copy::{CopyError, copy, digest_of, digest_on_medium, good_prefix};
use super::journal::{Journal, JournalError, folder_of};
use super::record::{ItemKind, Metadata, Record, Seal};
use super::recover::{Action, Destination, Found, Loss, Source, decide};
use super::source;
use super::state::{Item, Progress, State};

/// The journal and what it adds up to.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) journal: Journal,
    pub(super) state: State,
}

impl Desk {
    /// Makes a record durable, if it fits: one that does not would make the journal unreadable. After an error nothing is
    /// written to the journal any more, so it does not matter that the state is ahead of it.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), TransferError> {
        self.state.apply(record).ok_or_else(|| TransferError::Defect { record: format!("{record:?}") })?;
        Ok(self.journal.append(record)?)
    }
}

/// What the threads of an attempt share.
pub(super) struct Attempt<'a> {
    desk: Mutex<&'a mut Desk>,
    cancel: &'a AtomicBool,
    threads: u16,
    id: uuid::Uuid,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(desk: &'a mut Desk, cancel: &'a AtomicBool) -> Self {
        let (threads, id) = (desk.state.options.threads, desk.state.id);
        Self { desk: Mutex::new(desk), cancel, threads, id }
    }

    /// Does everything that is left to do.
    pub(super) fn run(&self) -> Result<(), TransferError> {
        let count = self.desk().state.items.len();
        // Directories first, parents before what is in them; usable for us whatever their mode will be.
        self.each(count, ItemKind::Directory, |number, item| self.make_directory(number, item))?;
        self.in_threads(count)?;
        self.each(count, ItemKind::Link, |number, item| self.make_link(number, item))?;
        // The last made first, so that a parent keeps the times it is given.
        for number in (0..count).rev() {
            self.finish_directory(number)?;
        }
        let mut desk = self.desk();
        if desk.state.phase == super::Phase::Dispatched {
            desk.record(&Record::Committed)?;
        }
        if desk.state.options.release_sources {
            drop(desk);
            self.release()?;
            desk = self.desk();
        }
        desk.record(&Record::Closed)
    }

    fn desk(&self) -> MutexGuard<'_, &'a mut Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, record: &Record) -> Result<(), TransferError> {
        self.desk().record(record)
    }

    fn item(&self, number: usize) -> Option<Item> {
        self.desk().state.items.get(number).cloned()
    }

    fn each(
        &self,
        count: usize,
        kind: ItemKind,
        work: impl Fn(u32, &Item) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        for number in 0..count {
            let Some(item) = self.item(number).filter(|item| item.kind == kind) else { continue };
            self.check_cancelled()?;
            work(u32::try_from(number).unwrap_or(u32::MAX), &item)?;
        }
        Ok(())
    }

    fn in_threads(&self, count: usize) -> Result<(), TransferError> {
        let next = AtomicUsize::new(0);
        let first_error = Mutex::new(None);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = self.item(number).filter(|_| number < count) else { return };
                if item.kind != ItemKind::File {
                    continue;
                }
                let done = self
                    .check_cancelled()
                    .and_then(|()| self.transfer_file(u32::try_from(number).unwrap_or(u32::MAX), &item));
                if let Err(error) = done {
                    // Nobody begins another file; the others finish theirs, or stop where they are.
                    next.store(count, Ordering::Relaxed);
                    let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for index in 1..self.threads {
                // Where the system gives no thread, there are fewer.
                drop(thread::Builder::new().name(format!("transfer-{index}")).spawn_scoped(scope, work));
            }
            work();
        });
        first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn check_cancelled(&self) -> Result<(), TransferError> {
        if self.cancel.load(Ordering::Relaxed) { Err(TransferError::Cancelled) } else { Ok(()) }
    }

    fn make_directory(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        if matches!(item.progress, Progress::Renamed | Progress::Released) {
            return Ok(());
        }
        let path = item.destination.as_path();
        if item.progress == Progress::Added {
            self.seal(number, item)?;
        }
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_directory(path) => {}
            Err(error) => return Err(failed("create the directory", path)(error)),
        }
        sync_directory(folder_of(path))
    }

    fn finish_directory(&self, number: usize) -> Result<(), TransferError> {
        let Some(item) = self.item(number).filter(|item| item.kind == ItemKind::Directory) else { return Ok(()) };
        let (Progress::Sealed { .. }, Some((_, metadata))) = (&item.progress, &item.sealed) else { return Ok(()) };
        let path = item.destination.as_path();
        let directory = File::open(path).map_err(failed("open the directory", path))?;
        source::apply(&directory, metadata).map_err(failed("set the metadata of", path))?;
        directory.sync_all().map_err(failed("flush", path))?;
        self.record(&Record::Renamed { item: u32::try_from(number).unwrap_or(u32::MAX) })
    }

    fn make_link(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        if matches!(item.progress, Progress::Renamed | Progress::Released) {
            return Ok(());
        }
        let (from, path) = (item.source.as_path(), item.destination.as_path());
        if item.progress == Progress::Added {
            self.seal(number, item)?;
        }
        let target = fs::read_link(from).map_err(failed("read the link", from))?;
        match std::os::unix::fs::symlink(&target, path) {
            Ok(()) => {}
            // An earlier attempt made it.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && fs::read_link(path).is_ok_and(|found| found == target) => {}
            Err(error) => return Err(failed("create the link", path)(error)),
        }
        sync_directory(folder_of(path))?;
        self.record(&Record::Renamed { item: number })
    }

    /// Records what the source is.
    fn seal(&self, number: u32, item: &Item) -> Result<(Seal, Metadata), TransferError> {
        let path = item.source.as_path();
        let seal = source::seal(path).map_err(failed("look at", path))?;
        let metadata = source::metadata(path).map_err(failed("read the metadata of", path))?;
        self.record(&Record::Sealed { item: number, seal, metadata: metadata.clone() })?;
        Ok((seal, metadata))
    }

    fn transfer_file(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        let temporary = self.temporary(number, item);
        let found = look(item, &temporary).map_err(failed("look at", item.destination.as_path()))?;
        match decide(&item.progress, found) {
            Action::Nothing => Ok(()),
            Action::Begin => {
                self.seal(number, item)?;
                self.copy_file(number, &temporary, &[])
            }
            Action::Continue => {
                let Progress::Sealed { chunks } = &item.progress else { return Ok(()) };
                self.copy_file(number, &temporary, chunks)
            }
            Action::StartOver => {
                self.record(&Record::Discarded { item: number })?;
                self.copy_file(number, &temporary, &[])
            }
            Action::Finish => self.finish_file(number, &temporary),
            Action::RecordName => self.name_is_there(number, item),
            Action::RecordNameAndTidy => {
                fs::remove_file(&temporary).map_err(failed("remove", &temporary))?;
                self.name_is_there(number, item)
            }
            Action::Fail(loss) => Err(TransferError::Lost { item: item.source.as_path().to_owned(), loss }),
        }
    }

    fn name_is_there(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        sync_directory(folder_of(item.destination.as_path()))?;
        self.record(&Record::Renamed { item: number })
    }

    /// The name of a file that is not whole: beside its final one, so that a rename is enough.
    fn temporary(&self, number: u32, item: &Item) -> PathBuf {
        folder_of(item.destination.as_path()).join(temporary_name(self.id, number))
    }

    /// Copies what the good chunks of a temporary file lack, and finishes it.
    fn copy_file(&self, number: u32, temporary: &Path, chunks: &[Digest]) -> Result<(), TransferError> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(Item { source: from, sealed: Some((seal, _)), .. }) = self.item(place) else { return Ok(()) };
        let from = from.as_path();
        let open_source = OpenOptions::new().read(true).custom_flags(no_follow()).open(from);
        let mut source_file = open_source.map_err(failed("open", from))?;
        let mut target = OpenOptions::new();
        target.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
        let mut target = target.open(temporary).map_err(failed("open", temporary))?;
        let check_seal = |file: &File| {
            let found = file.metadata().map(|found| source::seal_of(&found)).map_err(failed("look at", from))?;
            let loss = Loss::SourceChanged;
            if found == seal { Ok(()) } else { Err(TransferError::Lost { item: from.to_owned(), loss }) }
        };
        check_seal(&source_file)?;
        let (good, start) = good_prefix(&mut target, chunks).map_err(failed("read back", temporary))?;
        // What is there must be of this source, not only of this journal.
        let (same, _) = good_prefix(&mut source_file, &chunks[..good]).map_err(failed("read", from))?;
        if same != good {
            return Err(TransferError::Lost { item: from.to_owned(), loss: Loss::SourceChanged });
        }
        reserve(&target, seal.size).map_err(failed("make room for", temporary))?;
        let done = copy(&mut source_file, &mut target, chunks[..good].to_vec(), start, self.cancel, |first, fresh| {
            self.record(&Record::Chunks { item: number, first, digests: fresh.to_vec() })
        });
        let done = done.map_err(|error| match error {
            CopyError::Read(source) => failed("read", from)(source),
            CopyError::Write(source) => failed("write", temporary)(source),
            CopyError::Record(error) => error,
        })?;
        self.check_cancelled()?;
        check_seal(&source_file)?;
        // The name of the temporary file is durable before anything says that its content is.
        sync_directory(folder_of(temporary))?;
        self.record(&Record::DataComplete { item: number, digest: digest_of(&done) })?;
        self.finish_file(number, temporary)
    }

    /// Reads a temporary file back, gives it metadata and name.
    fn finish_file(&self, number: u32, temporary: &Path) -> Result<(), TransferError> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(item) = self.item(place) else { return Ok(()) };
        let (digest, Some((seal, metadata))) = (digest_in(&item.progress), &item.sealed) else { return Ok(()) };
        let mut open = OpenOptions::new();
        let opened = open.read(true).write(true).custom_flags(no_follow()).open(temporary);
        let mut file = opened.map_err(failed("open", temporary))?;
        let (found, len) = digest_on_medium(&mut file).map_err(failed("read back", temporary))?;
        if Some(found) != digest || len != seal.size {
            // It is not what was sent. The next attempt begins again.
            self.record(&Record::Discarded { item: number })?;
            return Err(TransferError::WrongContent { path: temporary.to_owned() });
        }
        if matches!(item.progress, Progress::DataComplete { .. }) {
            self.record(&Record::Verified { item: number })?;
        }
        if !matches!(item.progress, Progress::Finalizing { .. }) {
            self.record(&Record::Finalizing { item: number })?;
        }
        source::apply(&file, metadata).map_err(failed("set the metadata of", temporary))?;
        file.sync_all().map_err(failed("flush", temporary))?;
        let destination = item.destination.as_path();
        renameat_with(CWD, temporary, CWD, destination, RenameFlags::NOREPLACE).map_err(|error| match error {
            Errno::EXIST => TransferError::Lost { item: destination.to_owned(), loss: Loss::InTheWay },
            other => failed("give its name to", destination)(other.into()),
        })?;
        self.name_is_there(number, &item)
    }

    /// Removes the sources, once the journal itself says that everything arrived.
    fn release(&self) -> Result<(), TransferError> {
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
            let Some(item) = self.item(number).filter(|item| item.progress == Progress::Renamed) else { continue };
            let Some((seal, _)) = item.sealed else { continue };
            let path = item.source.as_path();
            match source::seal(path) {
                Ok(found) if is_still(&names, item.kind, seal, found) => {
                    remove(path, item.kind).map_err(failed("remove", path))?;
                    sync_directory(folder_of(path))?;
                }
                Ok(_) => {
                    return Err(TransferError::Lost { item: path.to_owned(), loss: Loss::SourceChanged });
                }
                // An attempt before this one removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("look at", path)(error)),
            }
            self.record(&Record::SourceReleased { item: u32::try_from(number).unwrap_or(u32::MAX) })?;
        }
        Ok(())
    }
}

/// How many of the sources each file is: by device and inode.
type Names = HashMap<(u64, u64), usize>;

fn names_of(items: &[Item]) -> Names {
    let mut names = Names::new();
    for (seal, _) in items.iter().filter_map(|item| item.sealed.as_ref()) {
        *names.entry((seal.device, seal.inode)).or_default() += 1;
    }
    names
}

/// Returns true when a source is what was transferred. That other sources were removed shows in a directory that held
/// them, and in another name of a file that had several.
fn is_still(names: &Names, kind: ItemKind, seal: Seal, found: Seal) -> bool {
    let file = (seal.device, seal.inode);
    let several = names.get(&file).is_some_and(|names| *names > 1);
    match kind {
        ItemKind::Directory => file == (found.device, found.inode),
        ItemKind::File | ItemKind::Link if several => found == Seal { changed: found.changed, ..seal },
        ItemKind::File | ItemKind::Link => found == seal,
    }
}

/// Returns the name of the temporary file of an item.
pub(super) fn temporary_name(id: uuid::Uuid, number: u32) -> String {
    format!(".ebb-{id}-{number}.partial")
}

fn digest_in(progress: &Progress) -> Option<Digest> {
    match progress {
        Progress::DataComplete { digest } | Progress::Verified { digest } | Progress::Finalizing { digest } => {
            Some(*digest)
        }
        Progress::Added | Progress::Sealed { .. } | Progress::Renamed | Progress::Released => None,
    }
}

/// Finds out what is on disk of an item.
pub(super) fn look(item: &Item, temporary: &Path) -> io::Result<Found> {
    let source = match (source::seal(item.source.as_path()), &item.sealed) {
        (Ok(found), Some((seal, _))) if found != *seal => Source::Changed,
        (Ok(_), _) => Source::Same,
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Source::Gone,
        (Err(error), _) => return Err(error),
    };
    let exists = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let path = item.destination.as_path();
    let destination = match exists(path)? {
        None => Destination::Absent,
        Some(found) if found.is_file() && digest_in(&item.progress).is_some() => {
            let (digest, _) = digest_on_medium(&mut File::open(path)?)?;
            if Some(digest) == digest_in(&item.progress) { Destination::Ours } else { Destination::Foreign }
        }
        Some(_) => Destination::Foreign,
    };
    Ok(Found { source, temporary: exists(temporary)?.is_some(), destination })
}

fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Asks for the room of a file before its first byte is written.
fn reserve(file: &File, len: ByteLen) -> io::Result<()> {
    if len.is_zero() {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, len.get()) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn remove(path: &Path, kind: ItemKind) -> io::Result<()> {
    if kind == ItemKind::Directory { fs::remove_dir(path) } else { fs::remove_file(path) }
}

fn sync_directory(path: &Path) -> Result<(), TransferError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("flush the directory", path))
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> TransferError {
    move |source| TransferError::Io { action, path: path.to_owned(), source }
}

impl From<JournalError> for TransferError {
    fn from(error: JournalError) -> Self {
        Self::Journal(Box::new(error))
    }
}
