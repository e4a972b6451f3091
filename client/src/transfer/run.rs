//! Doing a transfer: whatever its journal says was done last, from there to the end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sigs::{ByteLen, Digest};

use super::TransferError;
use super::boss::Line;
use super::copy::{CopyError, copy, digest_of, digest_on_medium, good_prefix, read_through};
use super::journal::{Journal, JournalError, folder_of};
use super::limit::Pace;
use super::object::Whole;
use super::origin::{Origin, refused, unread};
use super::record::{ItemKind, Options, Record};
use super::recover::{Action, Destination, Found, Loss, Source, decide};
use super::room;
use super::source;
use super::state::{Item, Progress, Sealed, State};
use super::stop::{Stop, Stopped};

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
    pub(super) stop: Stop<'a>,
    pub(super) pace: Pace,
    pub(super) line: Option<&'a Line>,
    options: Options,
    id: uuid::Uuid,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(desk: &'a mut Desk, line: Option<&'a Line>, stop: &'a AtomicBool) -> Self {
        let (options, id) = (desk.state.options, desk.state.id);
        let stop = Stop::new(stop, desk.journal.path(), desk.state.attempt);
        Self { desk: Mutex::new(desk), stop, pace: Pace::new(options.limit), line, options, id }
    }

    /// Does everything that is left to do.
    pub(super) fn run(&self) -> Result<(), TransferError> {
        let count = self.desk().state.items.len();
        self.measure(count)?;
        room::admit_all(&self.desk().state)?;
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
        if self.options.release_sources {
            drop(desk);
            self.release()?;
            desk = self.desk();
        }
        desk.record(&Record::Closed)
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, &'a mut Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, record: &Record) -> Result<(), TransferError> {
        self.desk().record(record)
    }

    pub(super) fn item(&self, number: usize) -> Option<Item> {
        self.desk().state.items.get(number).cloned()
    }

    pub(super) fn each(
        &self,
        count: usize,
        kind: ItemKind,
        work: impl Fn(u32, &Item) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        for number in 0..count {
            let Some(item) = self.item(number).filter(|item| item.kind == kind) else { continue };
            self.stop.check()?;
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
                let begun = self.stop.check().map_err(TransferError::from);
                let done = begun.and_then(|()| self.transfer_file(u32::try_from(number).unwrap_or(u32::MAX), &item));
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
            for index in 1..self.options.threads {
                // Where the system gives no thread, there are fewer.
                drop(thread::Builder::new().name(format!("transfer-{index}")).spawn_scoped(scope, work));
            }
            work();
        });
        first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn make_directory(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        if item.arrived() {
            return Ok(());
        }
        let Some(path) = item.destination.path() else { return Ok(()) };
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
        let (Progress::Sealed { .. }, Some(Sealed::Local(_, metadata))) = (&item.progress, &item.sealed) else {
            return Ok(());
        };
        let Some(path) = item.destination.path() else { return Ok(()) };
        let directory = File::open(path).map_err(failed("open the directory", path))?;
        source::apply(&directory, metadata).map_err(failed("set the metadata of", path))?;
        directory.sync_all().map_err(failed("flush", path))?;
        self.record(&Record::Renamed { item: u32::try_from(number).unwrap_or(u32::MAX) })
    }

    fn make_link(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        if item.arrived() {
            return Ok(());
        }
        let (Some(from), Some(path)) = (item.source.path(), item.destination.path()) else { return Ok(()) };
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

    /// Records what a source on this machine is. Objects were measured before anything else was done.
    pub(super) fn seal(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        let Some(path) = item.source.path() else { return Ok(()) };
        let seal = source::seal(path).map_err(failed("look at", path))?;
        let metadata = source::metadata(path).map_err(failed("read the metadata of", path))?;
        self.record(&Record::Sealed { item: number, seal, metadata })
    }

    fn transfer_file(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        let found = look(item, (self.id, number), &self.stop)?;
        let Some(temporary) = item.temporary(self.id, number) else {
            return self.send_file(number, item, decide(&item.progress, found));
        };
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
                // Where nothing was copied there is nothing to take back.
                if item.progress != (Progress::Sealed { chunks: Vec::new() }) {
                    self.record(&Record::Discarded { item: number })?;
                }
                self.copy_file(number, &temporary, &[])
            }
            Action::Finish => self.finish_file(number, &temporary),
            Action::RecordName => self.name_is_there(number, item),
            Action::RecordNameAndTidy => {
                fs::remove_file(&temporary).map_err(failed("remove", &temporary))?;
                self.name_is_there(number, item)
            }
            Action::Fail(loss) => Err(TransferError::Lost { item: loss.place(item), loss }),
        }
    }

    fn name_is_there(&self, number: u32, item: &Item) -> Result<(), TransferError> {
        item.destination.path().map_or(Ok(()), |path| sync_directory(folder_of(path)))?;
        self.record(&Record::Renamed { item: number })
    }

    /// Copies what the good chunks of a temporary file lack, and finishes it.
    fn copy_file(&self, number: u32, temporary: &Path, chunks: &[Digest]) -> Result<(), TransferError> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(item) = self.item(place) else { return Ok(()) };
        let Some(mut origin) = Origin::open(&item, self.line)? else { return Ok(()) };
        let size = item.sealed.as_ref().map_or(ByteLen::ZERO, Sealed::size);
        let mut target = OpenOptions::new();
        target.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
        let mut target = target.open(temporary).map_err(failed("open", temporary))?;
        origin.check()?;
        let read_back = good_prefix(&mut target, chunks, &self.stop).map_err(unreadable("read back", temporary))?;
        let (good, start) = read_back;
        // What is there must be of this source, not only of this journal.
        origin.begins_with(&chunks[..good], start, &self.stop)?;
        // First what is not believed goes: cutting it later would give the room back.
        target.set_len(start.get()).map_err(failed("cut", temporary))?;
        room::take(&target, temporary, size, start, self.options.reserve)?;
        let (chunks, means) = (chunks[..good].to_vec(), (&self.pace, &self.stop));
        let done = copy(origin.chunks(start)?, &target, chunks, start, means, |first, fresh| {
            self.record(&Record::Chunks { item: number, first, digests: fresh.to_vec() })
        });
        let done = done.map_err(|error| match error {
            CopyError::Read(source) => unread(&item)(source),
            CopyError::Boss(error) => refused("fetch", &item.source)(error),
            CopyError::Write(source) => failed("write", temporary)(source),
            CopyError::Record(error) => error,
            CopyError::Stopped => TransferError::Stopped,
        })?;
        origin.check()?;
        // The name of the temporary file is durable before anything says that its content is.
        sync_directory(folder_of(temporary))?;
        self.record(&Record::DataComplete { item: number, digest: digest_of(&done) })?;
        self.finish_file(number, temporary)
    }

    /// Reads a temporary file back, gives it metadata and name.
    fn finish_file(&self, number: u32, temporary: &Path) -> Result<(), TransferError> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(item) = self.item(place) else { return Ok(()) };
        let (digest, Some(sealed)) = (digest_in(&item.progress), &item.sealed) else { return Ok(()) };
        let Some(destination) = item.destination.path() else { return Ok(()) };
        let mut file = open_complete(temporary).map_err(failed("open", temporary))?;
        let mut whole = Whole::of(&item);
        let found = read_through(&mut file, &self.stop, |chunk| whole.add(chunk));
        let found = found.map_err(unreadable("read back", temporary))?;
        if digest.map(|digest| (digest, sealed.size())) != Some(found) {
            // It is not what was sent. The next attempt begins again.
            self.record(&Record::Discarded { item: number })?;
            return Err(TransferError::WrongContent { path: temporary.to_owned() });
        }
        if !whole.arrived() {
            // It is what was sent, and that was something else: nobody needs it, or the room it takes. Where it cannot be
            // emptied the next attempt does that; the error to tell is the other one.
            self.record(&Record::Discarded { item: number })?;
            drop(OpenOptions::new().write(true).truncate(true).custom_flags(no_follow()).open(temporary));
            return Err(TransferError::WrongObject { place: item.source });
        }
        if matches!(item.progress, Progress::DataComplete { .. }) {
            self.record(&Record::Verified { item: number })?;
        }
        if !matches!(item.progress, Progress::Finalizing { .. }) {
            self.record(&Record::Finalizing { item: number })?;
        }
        // An object has nothing besides its content: the file stays its owner's alone.
        if let Sealed::Local(_, metadata) = sealed {
            source::apply(&file, metadata).map_err(failed("set the metadata of", temporary))?;
        }
        file.sync_all().map_err(failed("flush", temporary))?;
        renameat_with(CWD, temporary, CWD, destination, RenameFlags::NOREPLACE).map_err(|error| match error {
            Errno::EXIST => TransferError::Lost { item: destination.into(), loss: Loss::InTheWay },
            other => failed("give its name to", destination)(other.into()),
        })?;
        self.name_is_there(number, &item)
    }
}

fn digest_in(progress: &Progress) -> Option<Digest> {
    match progress {
        Progress::DataComplete { digest } | Progress::Verified { digest } | Progress::Finalizing { digest } => {
            Some(*digest)
        }
        Progress::Added
        | Progress::Sealed { .. }
        | Progress::Renamed { .. }
        | Progress::Stored { .. }
        | Progress::Released => None,
    }
}

/// Finds out what is on disk of an item.
pub(super) fn look(item: &Item, (id, number): (uuid::Uuid, u32), stop: &Stop<'_>) -> Result<Found, TransferError> {
    let source = match item.source.path() {
        None => Source::Same,
        Some(from) => match (source::seal(from), item.seal()) {
            (Ok(found), Some(seal)) if found != *seal => Source::Changed,
            (Ok(_), _) => Source::Same,
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Source::Gone,
            (Err(error), _) => return Err(failed("look at", from)(error)),
        },
    };
    let (Some(path), Some(temporary)) = (item.destination.path(), item.temporary(id, number)) else {
        return Ok(Found { source, temporary: false, destination: Destination::Absent });
    };
    let exists = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
    };
    let destination = match exists(path)? {
        None => Destination::Absent,
        Some(found) if found.is_file() && digest_in(&item.progress).is_some() => {
            let mut file = File::open(path).map_err(failed("open", path))?;
            let (digest, _) = digest_on_medium(&mut file, stop).map_err(unreadable("read back", path))?;
            if Some(digest) == digest_in(&item.progress) { Destination::Ours } else { Destination::Foreign }
        }
        Some(_) => Destination::Foreign,
    };
    Ok(Found { source, temporary: exists(&temporary)?.is_some(), destination })
}

/// Opens a temporary file that may have its final mode by now, which may keep even us out.
fn open_complete(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).custom_flags(no_follow()).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && fs::symlink_metadata(path)?.is_file() => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            open()
        }
        opened => opened,
    }
}

pub(super) fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

pub(super) fn sync_directory(path: &Path) -> Result<(), TransferError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("flush the directory", path))
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> TransferError {
    move |source| TransferError::Io { action, path: path.to_owned(), source }
}

pub(super) fn unreadable(action: &'static str, path: &Path) -> impl Fn(CopyError) -> TransferError {
    move |error| match error {
        CopyError::Read(source) | CopyError::Write(source) => failed(action, path)(source),
        CopyError::Record(never) => match never {},
        // No boss is asked for what is on this machine.
        CopyError::Boss(error) => TransferError::Defect { record: error.to_string() },
        CopyError::Stopped => TransferError::Stopped,
    }
}

impl From<Stopped> for TransferError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<JournalError> for TransferError {
    fn from(error: JournalError) -> Self {
        Self::Journal(Box::new(error))
    }
}
