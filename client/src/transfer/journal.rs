//! The journal of a transfer: an append-only file of records, each durable before what it announces is done.
//!
//! The layout is in `docs/formats/journal.md`. One process at a time has a journal open for writing. A record that a
//! crash cut off is as if it had never been written; a record that is damaged in the middle makes the journal unreadable,
//! because nobody knows what came after it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;
use sigs::ByteLen;

use super::record::Record;

mod layout;

use layout::{HEADER, Scan, encode, scan};

/// How long somebody who only looks may have a journal. Who works on it has it for longer.
const PATIENCE: Duration = Duration::from_millis(500);
/// The largest journal that is read: a million files, or some hundred terabytes in chunks.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;

/// A journal that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, created, read or locked.
    #[error("{action} the journal {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The journal.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process works on this transfer.
    #[error("the transfer is being worked on by another process ({path} is locked)")]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// There is one of this name.
    #[error("{path} exists: this transfer was created before")]
    Exists {
        /// The journal.
        path: PathBuf,
    },
    /// It is no journal, or a damaged one.
    #[error("the journal {path} {reason} at byte {offset}; what it describes is left alone")]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An earlier record may not be durable. Nothing more is written in this attempt.
    #[error("the journal {path} could not be made durable before; this attempt is over")]
    Poisoned {
        /// The journal.
        path: PathBuf,
    },
    /// A record is longer than a journal takes: a defect, or a path of unheard-of length.
    #[error("a record of {len} bytes is longer than a journal takes")]
    TooLong {
        /// How long.
        len: ByteLen,
    },
}

/// A journal that is open for writing, and locked.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
    next: u64,
    has_bosses: bool,
    poisoned: bool,
}

impl Journal {
    /// Creates a journal with its first record. Both and its name are durable afterwards.
    ///
    /// # Errors
    /// [`JournalError::Exists`]; this call leaves nothing under the name after an error.
    pub fn create(path: &Path, first: &Record) -> Result<Self, JournalError> {
        let failed = |action| move |source| JournalError::File { action, path: path.to_owned(), source };
        let folder = folder_of(path);
        // It gets its name when it is whole: an empty journal could not be told from a damaged one.
        let draft = tempfile::Builder::new().prefix(".journal-").suffix(".partial").tempfile_in(folder);
        let draft = draft.map_err(failed("create"))?;
        let body = encode(0, first).map_err(|len| JournalError::TooLong { len })?;
        let bytes = [&HEADER[..], &body].concat();
        draft.as_file().write_all_at(&bytes, 0).map_err(failed("write"))?;
        draft.as_file().sync_all().map_err(failed("flush"))?;
        // Before it has a name, so that nobody else comes first.
        lock(draft.as_file(), path)?;
        let file = draft.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => JournalError::Exists { path: path.to_owned() },
            _ => failed("name")(error.error),
        })?;
        if let Err(source) = File::open(folder).and_then(|folder| folder.sync_all()) {
            // Whether it would be there after a crash is not known. The first error is the one to tell.
            drop(std::fs::remove_file(path));
            return Err(failed("make the name durable of")(source));
        }
        let end = ByteLen::of(&bytes).get();
        Ok(Self { file, path: path.to_owned(), end, next: 1, has_bosses: true, poisoned: false })
    }

    /// Opens a journal to go on with it, and returns what it says. What a crash cut off is cut off, and what a failed flush
    /// left in memory only is not believed.
    ///
    /// # Errors
    /// [`JournalError::Locked`] while another process has it; [`JournalError::Corrupt`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let failed = |action| move |source| JournalError::File { action, path: path.to_owned(), source };
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(failed("open"))?;
        lock(&file, path)?;
        if !is_named(&file, path) {
            // Whoever had the lock before removed it.
            return Err(failed("open")(io::ErrorKind::NotFound.into()));
        }
        file.sync_data().and_then(|()| Ok(fadvise(&file, 0, None, Advice::DontNeed)?)).map_err(failed("flush"))?;
        let Scan { has_bosses, records, end, .. } = read(&file, path)?;
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        if file.metadata().map_err(failed("look at"))?.len() != end {
            file.set_len(end).and_then(|()| file.sync_all()).map_err(failed("cut"))?;
        }
        let next = u64::try_from(records.len()).unwrap_or(u64::MAX);
        Ok((Self { file, path: path.to_owned(), end, next, has_bosses, poisoned: false }, records))
    }

    /// Reads what a journal says at the moment, whoever works on it.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`].
    pub fn peek(path: &Path) -> Result<Vec<Record>, JournalError> {
        let failed = |action| move |source| JournalError::File { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(failed("open"))?;
        read(&file, path).map(|found| found.records)
    }

    /// Looks at a journal without a claim to it, whatever it is like and whoever works on it.
    ///
    /// # Errors
    /// [`JournalError::File`] when there is none, or it cannot be read at all.
    pub fn glance(path: &Path) -> Result<Glance, JournalError> {
        let failed = |action| move |source| JournalError::File { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(failed("open"))?;
        // While we have this, nobody begins to work on it.
        let busy = match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => false,
            Err(Errno::WOULDBLOCK) => true,
            Err(error) => return Err(failed("lock")(error.into())),
        };
        let bytes = content(&file, path)?;
        let found = scan(&bytes);
        let rest = ByteLen::of(bytes.get(found.end..).unwrap_or_default());
        let damage = found.damage.map(|reason| corrupt(path, found.end, reason));
        Ok(Glance { records: found.records, rest, damage, busy })
    }

    /// Adds a record and makes it durable.
    ///
    /// # Errors
    /// [`JournalError`]; after it every further call ends with [`JournalError::Poisoned`].
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        // Whoever asked is ahead of what is written here unless all goes well.
        self.poisoned = true;
        let bytes = encode(self.next, record).map_err(|len| JournalError::TooLong { len })?;
        let written = self.file.write_all_at(&bytes, self.end).and_then(|()| self.file.sync_data());
        // After a failure it is not known whether the record is there, and another flush would not tell.
        written.map_err(|source| JournalError::File { action: "write", path: self.path.clone(), source })?;
        self.end = self.end.saturating_add(ByteLen::of(&bytes).get());
        self.next = self.next.saturating_add(1);
        self.poisoned = false;
        Ok(())
    }

    /// Reads back from the file what it says.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`].
    pub fn read_back(&self) -> Result<Vec<Record>, JournalError> {
        read(&self.file, &self.path).map(|found| found.records)
    }

    /// Returns whether it is of a version that has items of a boss. In one that has none, nobody may put any: who made it
    /// would take it for damaged.
    pub const fn has_bosses(&self) -> bool {
        self.has_bosses
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a look at a journal shows.
#[derive(Debug)]
pub struct Glance {
    /// What it says, up to its end or the first damage.
    pub records: Vec<Record>,
    /// What follows the last record: the rest of one that a crash cut off, or of one that is being written.
    pub rest: ByteLen,
    /// What is wrong with it.
    pub damage: Option<JournalError>,
    /// Whether somebody works on it.
    pub busy: bool,
}

/// Takes a journal for this process. Somebody who only looks at it is waited for.
fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    let begin = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Err(Errno::WOULDBLOCK) => return Err(JournalError::Locked { path: path.to_owned() }),
            Err(other) => {
                return Err(JournalError::File { action: "lock", path: path.to_owned(), source: other.into() });
            }
        }
    }
}

/// Returns whether a path still names an open file.
fn is_named(file: &File, path: &Path) -> bool {
    let place = |found: std::fs::Metadata| (found.dev(), found.ino());
    let (open, named) = (file.metadata().map(place), std::fs::symlink_metadata(path).map(place));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

/// Returns what a journal says that is not damaged.
fn read(file: &File, path: &Path) -> Result<Scan, JournalError> {
    let mut found = scan(&content(file, path)?);
    match found.damage.take() {
        Some(reason) => Err(corrupt(path, found.end, reason)),
        None => Ok(found),
    }
}

fn content(file: &File, path: &Path) -> Result<Vec<u8>, JournalError> {
    let failed = |source| JournalError::File { action: "read", path: path.to_owned(), source };
    let len = file.metadata().map_err(failed)?.len();
    let size = usize::try_from(len).ok().filter(|_| len <= MAX_JOURNAL_BYTES);
    let size = size.ok_or_else(|| corrupt(path, 0, format!("has {len} bytes, more than any journal")))?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}

fn corrupt(path: &Path, offset: usize, reason: String) -> JournalError {
    JournalError::Corrupt { path: path.to_owned(), offset: u64::try_from(offset).unwrap_or(u64::MAX), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::Dispatched { attempt: 1 },
            Record::Failed { item: Some(3), class: "transient".to_owned(), detail: "on purpose".to_owned() },
            Record::Resumed { attempt: 2 },
        ]
    }

    fn write(path: &Path) -> Vec<u8> {
        let records = records();
        let mut journal = Journal::create(path, &records[0]).unwrap();
        records[1..].iter().for_each(|record| journal.append(record).unwrap());
        std::fs::read(path).unwrap()
    }

    #[test]
    fn cut_at_any_byte_it_is_a_shorter_journal_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.journal");
        let whole = write(&path);
        let mut most = 0;
        for len in HEADER.len()..whole.len() {
            // As it is after a crash: cut, or with zeros where the rest was to be.
            for zeros in [0, whole.len() - len] {
                let mut cut = whole[..len].to_vec();
                cut.resize(len + zeros, 0);
                std::fs::write(&path, &cut).unwrap();
                match Journal::open(&path) {
                    Ok((mut journal, found)) => {
                        assert!(found[..] == records()[..found.len()], "{len}");
                        assert!(found.len() >= most && found.len() < 3);
                        most = found.len();
                        journal.append(&Record::Closed).unwrap();
                        assert_eq!(*journal.read_back().unwrap().last().unwrap(), Record::Closed);
                    }
                    // Without a first record it says nothing.
                    Err(error) => assert!(most == 0 && matches!(error, JournalError::Corrupt { .. }), "{len}: {error}"),
                }
            }
        }
        assert_eq!(most, 2);
    }

    #[test]
    fn a_flipped_bit_is_never_another_story() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.journal");
        let whole = write(&path);
        for place in 0..whole.len() {
            let mut bad = whole.clone();
            bad[place] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            match Journal::peek(&path) {
                // Only the last record may go unnoticed: it looks like one that a crash cut off.
                Ok(found) => assert!(found[..] == records()[..2], "{place}: {found:?}"),
                Err(error) => assert!(matches!(error, JournalError::Corrupt { .. }), "{place}: {error}"),
            }
        }
    }

    #[test]
    fn one_process_writes_and_others_may_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.journal");
        let journal = Journal::create(&path, &Record::Closed).unwrap();
        assert!(matches!(Journal::open(&path).unwrap_err(), JournalError::Locked { .. }));
        assert!(matches!(Journal::create(&path, &Record::Closed).unwrap_err(), JournalError::Exists { .. }));
        assert_eq!(Journal::peek(&path).unwrap(), [Record::Closed]);
        drop(journal);
        assert!(Journal::open(&path).is_ok());
    }

    #[test]
    fn a_record_that_may_be_lost_is_the_last_one_that_is_tried() {
        // Every write to this device fails as on a full disk.
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let path = PathBuf::from("/dev/full");
        let mut journal = Journal { file: full, path, end: 0, next: 0, has_bosses: true, poisoned: false };
        let error = journal.append(&Record::Closed).unwrap_err();
        assert!(matches!(&error, JournalError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull));
        assert!(matches!(journal.append(&Record::Closed).unwrap_err(), JournalError::Poisoned { .. }));
    }

    /// Made by another program (Python's `zlib` and `json`) from the layout in `docs/formats/journal.md`: how many records
    /// each has, and how many attempts they tell of.
    const GOLDEN: [(&[u8], usize, u32); 2] = [
        (include_bytes!("../../../docs/formats/golden/transfer.journal"), 25, 3),
        (include_bytes!("../../../docs/formats/golden/v2-transfer.journal"), 22, 2),
    ];

    #[test]
    fn golden_journals_are_understood_and_written_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for (number, (bytes, count, attempts)) in GOLDEN.into_iter().enumerate() {
            let path = |name: &str| folder.path().join(format!("{name}-{number}.journal"));
            let (golden, ours) = (path("golden"), path("ours"));
            std::fs::write(&golden, bytes).unwrap();
            let records = Journal::peek(&golden).unwrap();
            assert_eq!(records.len(), count);
            let state = crate::transfer::State::of(&records).unwrap();
            assert_eq!((state.phase, state.attempt), (crate::transfer::Phase::Closed, attempts));
            let mut journal = Journal::create(&ours, &records[0]).unwrap();
            records[1..].iter().for_each(|record| journal.append(record).unwrap());
            let written = std::fs::read(&ours).unwrap();
            assert!(written[HEADER.len()..] == bytes[HEADER.len()..]);
            assert!(written[..HEADER.len()] == HEADER);
        }
    }
}
