//! The journal of a transfer: an append-only file of records, each durable before what it announces is done.
//!
//! The layout is in `docs/formats/journal.md`. One process at a time has a journal open for writing. A record that a
//! crash cut off is as if it had never been written; a record that is damaged in the middle makes the journal unreadable,
//! because nobody knows what came after it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sigs::ByteLen;

use super::record::Record;

/// What a journal begins with: magic, version 1, zeros.
const HEADER: [u8; 16] = *b"EBBXFER\n\x01\0\0\0\0\0\0\0";
/// Length, checksum and number of a record.
const FRAME_BYTES: usize = 16;
/// The longest body of a record: that of many chunks.
pub(super) const MAX_BODY_BYTES: usize = 64 << 10;
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
        let body = encode(0, first)?;
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
        Ok(Self { file, path: path.to_owned(), end: ByteLen::of(&bytes).get(), next: 1, poisoned: false })
    }

    /// Opens a journal to go on with it, and returns what it says. What a crash cut off is cut off.
    ///
    /// # Errors
    /// [`JournalError::Locked`] while another process has it; [`JournalError::Corrupt`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let failed = |action| move |source| JournalError::File { action, path: path.to_owned(), source };
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(failed("open"))?;
        lock(&file, path)?;
        let (records, end) = read(&file, path)?;
        if file.metadata().map_err(failed("look at"))?.len() != end {
            file.set_len(end).and_then(|()| file.sync_all()).map_err(failed("cut"))?;
        }
        let next = u64::try_from(records.len()).unwrap_or(u64::MAX);
        Ok((Self { file, path: path.to_owned(), end, next, poisoned: false }, records))
    }

    /// Reads what a journal says at the moment, whoever works on it.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`].
    pub fn peek(path: &Path) -> Result<Vec<Record>, JournalError> {
        let failed = |action| move |source| JournalError::File { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(failed("open"))?;
        read(&file, path).map(|(records, _)| records)
    }

    /// Adds a record and makes it durable.
    ///
    /// # Errors
    /// [`JournalError`]; after it every further call ends with [`JournalError::Poisoned`].
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        let bytes = encode(self.next, record)?;
        let written = self.file.write_all_at(&bytes, self.end).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Whether the record is there is not known, and another flush would not tell.
            self.poisoned = true;
            return Err(JournalError::File { action: "write", path: self.path.clone(), source });
        }
        self.end = self.end.saturating_add(ByteLen::of(&bytes).get());
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// Reads back from the file what it says.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`].
    pub fn read_back(&self) -> Result<Vec<Record>, JournalError> {
        read(&self.file, &self.path).map(|(records, _)| records)
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => JournalError::Locked { path: path.to_owned() },
        other => JournalError::File { action: "lock", path: path.to_owned(), source: other.into() },
    })
}

fn encode(number: u64, record: &Record) -> Result<Vec<u8>, JournalError> {
    // Paths are written as bytes, so that nothing in a record can fail to be JSON.
    let body = serde_json::to_vec(record).unwrap_or_default();
    let too_long = || JournalError::TooLong { len: ByteLen::of(&body) };
    if body.is_empty() || body.len() > MAX_BODY_BYTES {
        return Err(too_long());
    }
    let len = u32::try_from(body.len()).map_err(|_| too_long())?;
    let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
    bytes.extend(len.to_le_bytes());
    bytes.extend(checksum(len, number, &body).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

fn checksum(len: u32, number: u64, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Returns the records, and where the last whole one ends.
fn read(file: &File, path: &Path) -> Result<(Vec<Record>, u64), JournalError> {
    let failed = |source| JournalError::File { action: "read", path: path.to_owned(), source };
    let corrupt = |offset: usize, reason: String| JournalError::Corrupt {
        path: path.to_owned(),
        offset: u64::try_from(offset).unwrap_or(u64::MAX),
        reason,
    };
    let len = file.metadata().map_err(failed)?.len();
    let size = usize::try_from(len).ok().filter(|_| len <= MAX_JOURNAL_BYTES);
    let size = size.ok_or_else(|| corrupt(0, format!("has {len} bytes, more than any journal")))?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    if bytes.get(..HEADER.len()) != Some(&HEADER) {
        return Err(corrupt(0, "is no journal of a transfer, or of a version that is not known here".to_owned()));
    }
    let (mut records, mut at) = (Vec::new(), HEADER.len());
    while at < bytes.len() {
        let number = u64::try_from(records.len()).unwrap_or(u64::MAX);
        match parse(&bytes[at..], number) {
            Ok((record, used)) => {
                records.push(record);
                at += used;
            }
            Err(Bad::Torn) => break,
            Err(Bad::Damaged(reason)) => return Err(corrupt(at, reason)),
        }
    }
    if records.is_empty() {
        return Err(corrupt(at, "has no first record".to_owned()));
    }
    Ok((records, u64::try_from(at).unwrap_or(u64::MAX)))
}

/// Why bytes are not a record.
enum Bad {
    /// A crash may have left them: nothing behind them is a record.
    Torn,
    /// A record follows them, or their checksum is right and they make no sense.
    Damaged(String),
}

fn parse(bytes: &[u8], number: u64) -> Result<(Record, usize), Bad> {
    let Some((found, body)) = whole_record(bytes) else {
        // A damaged length leads anywhere, so it is not asked where this record would end.
        let followed = (1..bytes.len()).any(|at| whole_record(&bytes[at..]).is_some());
        return Err(if followed { Bad::Damaged("has a damaged record".to_owned()) } else { Bad::Torn });
    };
    if found != number {
        return Err(Bad::Damaged(format!("has record {found} where record {number} belongs")));
    }
    let record = serde_json::from_slice(body);
    let record = record.map_err(|error| Bad::Damaged(format!("has a record that is not understood ({error})")))?;
    Ok((record, FRAME_BYTES + body.len()))
}

/// Returns number and body of the record that bytes begin with, if its checksum is right.
fn whole_record(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (frame, rest) = bytes.split_at_checked(FRAME_BYTES)?;
    let (words, _) = frame.as_chunks::<4>();
    let (len, crc) = (u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]));
    let number = u64::from_le_bytes(frame.as_chunks::<8>().0[1]);
    let size = usize::try_from(len).ok().filter(|len| (1..=MAX_BODY_BYTES).contains(len))?;
    let body = rest.get(..size)?;
    (checksum(len, number, body) == crc).then_some((number, body))
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
        for record in &records[1..] {
            journal.append(record).unwrap();
        }
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
        let mut journal = Journal { file: full, path: PathBuf::from("/dev/full"), end: 0, next: 0, poisoned: false };
        let error = journal.append(&Record::Closed).unwrap_err();
        assert!(matches!(&error, JournalError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull));
        assert!(matches!(journal.append(&Record::Closed).unwrap_err(), JournalError::Poisoned { .. }));
    }

    /// Made by another program (Python's `zlib` and `json`) from the layout in `docs/formats/journal.md`.
    const GOLDEN: &[u8] = include_bytes!("../../../docs/formats/golden/transfer.journal");

    #[test]
    fn the_golden_journal_is_understood_and_written_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (golden, ours) = (folder.path().join("golden.journal"), folder.path().join("ours.journal"));
        std::fs::write(&golden, GOLDEN).unwrap();
        let records = Journal::peek(&golden).unwrap();
        assert_eq!(records.len(), 15);
        let state = crate::transfer::State::of(&records).unwrap();
        assert_eq!((state.phase, state.attempt), (crate::transfer::Phase::Closed, 2));
        let mut journal = Journal::create(&ours, &records[0]).unwrap();
        records[1..].iter().for_each(|record| journal.append(record).unwrap());
        assert!(std::fs::read(&ours).unwrap() == GOLDEN);
    }
}
