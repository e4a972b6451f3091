//! What has arrived, of captures and of objects that people upload: the verified cache that makes what was interrupted
//! cost a re-read, never a re-send.
//!
//! `<name>.zdi` holds the frames in the order they came, `<name>.index` says where each lies. After a restart a
//! frame counts only if the bytes at its place still have its digest, so neither file needs a flush per frame and a
//! torn end is simply not there. Each is read back when somebody asks for it, so that nobody waits for all of them. A finished upload becomes the image, or the object, in place when every frame of it is
//! used, and of an object in order. The name is that of the capture, or the digest of the object.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sigs::zdi::{Contents, MAX_FRAME_STORED_BYTES};
use sigs::{ByteLen, ByteOffset, Digest};

use super::arrival::{Arrival, Whole};
use super::local::{ASIDE, make_private_dir, set_aside, sync_dir};
use super::whole::digest_on_medium;
use super::{Gate, ImageStore, Put, Room, StoreError};

const INDEX_RECORD: usize = 44;
/// How much room is taken ahead of the frames of one arrival.
const AHEAD: ByteLen = ByteLen::new(16 << 20);

/// What is arriving.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    aside: PathBuf,
    room: Arc<Room>,
    gate: Arc<Gate>,
    /// Whoever does anything with the files of one thing holds its slot. Nothing in it: it was not looked at yet what is
    /// there.
    open: Mutex<HashMap<Arrival, Arc<Mutex<Option<Staged>>>>>,
}

/// A name in the staging folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StagedName {
    /// Files of something that arrives.
    Of(Arrival),
    /// A file that we did not make.
    Other(PathBuf),
}

/// A finished image file, flushed, waiting to be taken over by the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: ByteLen,
    /// Which contents it was made from.
    contents: Digest,
    /// Where it lies until it is taken over.
    pub path: PathBuf,
}

#[derive(Debug)]
struct Staged {
    data: File,
    index: File,
    frames: HashMap<Digest, Frame>,
    end: u64,
    /// Up to where the file has room that nobody else can take.
    roomy: u64,
    index_end: u64,
    /// Nothing of it counts, and before anything else its files are removed. After a flush that failed: the kernel may
    /// have dropped what it could not write, and another flush would lie.
    spoiled: bool,
}

/// A frame of the index.
#[derive(Clone, Copy, Debug)]
struct Frame {
    placed: Placed,
    /// Whether its bytes were seen at its place since the files were opened.
    seen: bool,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) offset: u64,
    pub(super) len: u32,
}

impl Staging {
    /// Opens the staging area beside a store, whose room it shares, for the boss that may pass the store's gate.
    ///
    /// # Errors
    /// [`StoreError`] naming the directory.
    pub fn open(state: &Path, room: Arc<Room>, gate: Arc<Gate>) -> Result<Self, StoreError> {
        let (folder, aside) = (state.join("store/staging"), state.join("store").join(ASIDE));
        make_private_dir(&folder).map_err(StoreError::io("make the directory", &folder))?;
        Ok(Self { folder, aside, room, gate, open: Mutex::default() })
    }

    /// Makes room for the first frames of a capture, before anybody reads a disk for nothing.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], [`StoreError::NoSpace`].
    pub fn make_room(&self, name: impl Into<Arrival>) -> Result<(), StoreError> {
        let (name, _entered) = (name.into(), self.gate.enter()?);
        self.with(name, |staged| self.room_for(name, staged, 1))
    }

    /// Asks whether there is room for what did not arrive yet of something that has so many bytes.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`].
    pub fn ask_room(&self, name: impl Into<Arrival>, bytes: ByteLen) -> Result<(), StoreError> {
        let (name, _entered) = (name.into(), self.gate.enter()?);
        self.with_slot(name, |slot| {
            // Who only asks leaves no files of what may be sent in another way, or never.
            let nothing = slot.is_none() && self.files_of(name)?.is_empty();
            let roomy = if nothing { 0 } else { self.opened(name, slot)?.roomy };
            let more = bytes.get().saturating_sub(roomy);
            if more == 0 { Ok(()) } else { self.room.ask(ByteLen::new(more)) }
        })
    }

    /// Makes sure that the next `len` bytes have room of their own.
    fn room_for(&self, name: Arrival, staged: &mut Staged, len: u32) -> Result<(), StoreError> {
        let needed = staged.end.saturating_add(u64::from(len));
        if needed <= staged.roomy {
            return Ok(());
        }
        let (path, from) = (self.path(name, "zdi"), ByteOffset::new(staged.roomy));
        let give = |len: u64| self.room.give(&staged.data, &path, from, ByteLen::new(len));
        let least = needed - staged.roomy;
        let given = least.max(AHEAD.get());
        // A store that is nearly full still takes what fits.
        staged.roomy += match give(given) {
            Ok(()) => given,
            Err(StoreError::NoRoom { .. } | StoreError::NoSpace(_)) if least < given => give(least).map(|()| least)?,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Returns whose files are in the staging folder.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<StagedName>, StoreError> {
        let failed = || StoreError::io("list", &self.folder);
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            let known = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
            names.insert(known.map_or_else(|| StagedName::Other(entry.path()), StagedName::Of));
        }
        Ok(names)
    }

    /// Moves files out of the staging folder without destroying them.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub fn set_aside(&self, name: &StagedName) -> Result<(), StoreError> {
        let _entered = self.gate.enter()?;
        match name {
            StagedName::Other(path) => set_aside(path, &self.aside),
            StagedName::Of(name) => self.with_slot(*name, |slot| {
                *slot = None;
                self.files_of(*name)?.iter().try_for_each(|path| set_aside(path, &self.aside))
            }),
        }
    }

    /// Returns when something last arrived of it, if anything did.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn last_arrived(&self, name: impl Into<Arrival>) -> Result<Option<SystemTime>, StoreError> {
        let times = self.files_of(name.into())?.into_iter().filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        Ok(times.max())
    }

    fn files_of(&self, name: Arrival) -> Result<Vec<PathBuf>, StoreError> {
        let (prefix, failed) = (format!("{name}."), || StoreError::io("list", &self.folder));
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                files.push(entry.path());
            }
        }
        Ok(files)
    }

    fn path(&self, name: Arrival, kind: &str) -> PathBuf {
        self.folder.join(format!("{name}.{kind}"))
    }

    /// Returns where a file may be made that belongs to a capture and goes with it; another place each time, so that one
    /// who hangs does not write into the file of the next.
    pub fn scratch(&self, name: impl Into<Arrival>) -> PathBuf {
        self.path(name.into(), &format!("scratch-{}", uuid::Uuid::now_v7()))
    }

    /// Returns which of these frames have not arrived.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn lacking(&self, name: impl Into<Arrival>, frames: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let _entered = self.gate.enter()?;
        self.with(name.into(), |staged| {
            Ok(frames.iter().filter(|digest| staged.find(**digest).is_none()).copied().collect())
        })
    }

    /// Takes a frame. One that is there already is not stored again.
    ///
    /// # Errors
    /// [`StoreError::WrongDigest`] when the bytes are not the frame, [`StoreError::NoSpace`].
    pub fn put_frame(&self, name: impl Into<Arrival>, digest: Digest, bytes: &[u8]) -> Result<Put, StoreError> {
        let name = name.into();
        let len = u32::try_from(bytes.len()).ok().filter(|len| (1..=MAX_FRAME_STORED_BYTES).contains(len));
        let len = len.ok_or(StoreError::TooLarge { limit: ByteLen::new(MAX_FRAME_STORED_BYTES.into()) })?;
        let found = Digest::of(bytes);
        if found != digest {
            return Err(StoreError::WrongDigest { expected: digest, found });
        }
        let _entered = self.gate.enter()?;
        self.with(name, |staged| self.put_into(name, staged, (digest, len), bytes))
    }

    fn put_into(
        &self,
        name: Arrival,
        staged: &mut Staged,
        (digest, len): (Digest, u32),
        bytes: &[u8],
    ) -> Result<Put, StoreError> {
        if staged.find(digest).is_some() {
            return Ok(Put::Present);
        }
        self.room_for(name, staged, len)?;
        let failed = || StoreError::io("write", &self.path(name, "zdi"));
        failpoints::hit("staging.frame.begin").map_err(failed())?;
        let offset = staged.end;
        staged.data.write_all_at(bytes, offset).map_err(failed())?;
        failpoints::hit("staging.frame.before-index").map_err(failed())?;
        let mut record = [0; INDEX_RECORD];
        record[..32].copy_from_slice(digest.as_bytes());
        record[32..40].copy_from_slice(&offset.to_le_bytes());
        record[40..].copy_from_slice(&len.to_le_bytes());
        let at = staged.index_end;
        staged.index.write_all_at(&record, at).map_err(StoreError::io("write", &self.path(name, "index")))?;
        // Only now: after an error above the same place is written again.
        staged.end += u64::from(len);
        staged.index_end += 44;
        staged.frames.insert(digest, Frame { placed: Placed { offset, len }, seen: true });
        failpoints::hit("staging.frame.stored").map_err(failed())?;
        Ok(Put::Stored)
    }

    /// Makes the image file of a finished upload, or returns `None` when frames are missing: this boss lost them, and
    /// only another attempt can bring them. Repeating it with the same contents gives the same answer.
    ///
    /// # Errors
    /// When the medium fails or is full. After a flush that failed all frames are lacking.
    pub fn finish(&self, name: impl Into<Arrival>, contents: &Contents) -> Result<Option<Finished>, StoreError> {
        self.assemble(name.into(), &Whole::Image(contents))
    }

    /// Makes the file of an object of which all pieces arrived, or returns `None` when some are missing, as
    /// [`Staging::finish`] does.
    ///
    /// # Errors
    /// [`StoreError::WrongDigest`] when these pieces are not the object; then those stay that are what they should be,
    /// and other pieces may be the object. When the medium fails or is full; after a flush that failed all are lacking.
    pub fn finish_object(&self, object: Digest, pieces: &[Digest]) -> Result<Option<Finished>, StoreError> {
        self.assemble(Arrival::Object(object), &Whole::Object(object, pieces))
    }

    fn assemble(&self, name: Arrival, whole: &Whole<'_>) -> Result<Option<Finished>, StoreError> {
        let (_entered, identity) = (self.gate.enter()?, whole.identity());
        self.with_slot(name, |slot| {
            if let Some(finished) = self.finished(name)? {
                // An object that was put together before, handed over, and removed from the store since, is to arrive
                // anew.
                if whole.expected().is_some() && !finished.path.exists() {
                    self.remove(name, slot)?;
                } else if finished.contents == identity {
                    return Ok(Some(finished));
                }
            }
            self.close(name, slot, whole)
        })
    }

    /// Makes the file of what arrived whole, out of reach of whatever still comes.
    fn close(
        &self,
        name: Arrival,
        slot: &mut Option<Staged>,
        whole: &Whole<'_>,
    ) -> Result<Option<Finished>, StoreError> {
        let staged = self.opened(name, slot)?;
        let Some(places) = whole.places(|digest| staged.find(digest)) else { return Ok(None) };
        let used: u64 = places.iter().map(|placed| u64::from(placed.len)).sum();
        let in_place = used + name.preface_len() == staged.end && whole.lies_well(name, &places);
        let path = if in_place { self.path(name, "zdi") } else { self.path(name, "copy") };
        let failed = || StoreError::io("write", &path);
        let file = if in_place {
            let placement: Vec<_> = places.iter().map(|placed| ByteOffset::new(placed.offset)).collect();
            let tail = whole.tail(&placement, ByteOffset::new(staged.end));
            staged.data.write_all_at(&tail, staged.end).map_err(failed())?;
            staged.data.set_len(staged.end + ByteLen::of(&tail).get()).map_err(failed())?;
            // The room that was given ahead went with the length.
            staged.roomy = staged.end;
            staged.data.try_clone().map_err(failed())?
        } else {
            // What is there once may be used often.
            self.room.ask(ByteLen::new(used))?;
            copy_used(&staged.data, name, &places, whole, &path).map_err(failed())?
        };
        if let Err(error) = flush(&file) {
            if let Err(error) = self.remove(name, slot) {
                tracing::error!(%name, "what could not be flushed cannot be removed: {error}");
            }
            return Err(failed()(error));
        }
        // What is cached is what was sent; what counts is what the medium has.
        drop(file);
        let (digest, bytes) = match digest_on_medium(&path) {
            Ok((digest, bytes)) if whole.expected().is_none_or(|expected| expected == digest) => (digest, bytes),
            other => {
                // Every frame is read back before it counts again: if one was damaged, that one is lacking.
                *slot = None;
                if !in_place {
                    remove_if_there(&path)?;
                }
                let (found, _) = other.map_err(StoreError::io("read", &path))?;
                return Err(StoreError::WrongDigest { expected: whole.expected().unwrap_or(found), found });
            }
        };
        // Out of reach of a later attempt: whoever holds the slot next begins another file.
        let image = self.path(name, &format!("image-{digest}"));
        fs::rename(&path, &image).map_err(StoreError::io("name", &image))?;
        *slot = None;
        failpoints::hit("staging.finish.renamed").map_err(failed())?;
        remove_if_there(&self.path(name, "index"))?;
        let finished = Finished { digest, bytes, contents: whole.identity(), path: image };
        self.note(name, &finished)?;
        Ok(Some(finished))
    }

    /// Returns what [`Staging::finish`] made, if it did.
    fn finished(&self, name: Arrival) -> Result<Option<Finished>, StoreError> {
        let path = self.path(name, "finished");
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    fn note(&self, name: Arrival, finished: &Finished) -> Result<(), StoreError> {
        let (path, partial) = (self.path(name, "finished"), self.path(name, "finished-new"));
        let bytes = serde_json::to_vec(finished).map_err(|error| StoreError::Refused(error.to_string()))?;
        let write = || {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&bytes)?;
            failpoints::hit("staging.note.written")?;
            file.sync_all()?;
            failpoints::hit("staging.note.before-rename")?;
            fs::rename(&partial, &path)?;
            failpoints::hit("staging.note.renamed")
        };
        write().map_err(StoreError::io("write", &path))?;
        sync_dir(&self.folder)
    }

    /// Gives a finished file to the store. What is there already under its name, and is damaged, makes way for it.
    ///
    /// # Errors
    /// When it can neither be taken over nor was before; [`StoreError::Missing`] when neither it nor the object is there,
    /// and all of it has to come anew.
    pub async fn hand_over(&self, store: &dyn ImageStore, finished: &Finished) -> Result<(), StoreError> {
        let (digest, path) = (finished.digest, &finished.path);
        let done = store.head(digest).await?.is_some() && !tokio::fs::try_exists(path).await.unwrap_or(true);
        // A boss that died after the hand-over and before anybody knew finds it done.
        if !done {
            store.put_file(digest, path).await?;
        }
        failpoints::hit("staging.handed-over").map_err(StoreError::io("hand over", &finished.path))?;
        Ok(())
    }

    /// Forgets what arrived: it was taken over, or nobody will send more of it.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn discard(&self, name: impl Into<Arrival>) -> Result<(), StoreError> {
        let (name, _entered) = (name.into(), self.gate.enter()?);
        self.with_slot(name, |slot| self.remove(name, slot))
    }

    /// The same if `still` says so, once nobody else works with it.
    ///
    /// # Errors
    /// As [`Staging::discard`].
    pub(crate) fn discard_if(&self, name: impl Into<Arrival>, still: impl FnOnce() -> bool) -> Result<(), StoreError> {
        let (name, _entered) = (name.into(), self.gate.enter()?);
        self.with_slot(name, |slot| if still() { self.remove(name, slot) } else { Ok(()) })
    }

    /// Removes what arrived. If that fails nothing of it counts until it was done after all.
    fn remove(&self, name: Arrival, slot: &mut Option<Staged>) -> Result<(), StoreError> {
        slot.iter_mut().for_each(|staged| staged.spoiled = true);
        self.files_of(name)?.iter().try_for_each(|path| remove_if_there(path))?;
        *slot = None;
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Arrival, Arc<Mutex<Option<Staged>>>>> {
        lock(&self.open)
    }

    /// Does something with what arrived of one thing.
    fn with<T>(&self, name: Arrival, work: impl FnOnce(&mut Staged) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.with_slot(name, |slot| work(self.opened(name, slot)?))
    }

    /// Holds the slot of one thing while something is done with its files. Others wait for what is done with the same
    /// only: putting it together takes as long as it is large.
    fn with_slot<T>(
        &self,
        name: Arrival,
        work: impl FnOnce(&mut Option<Staged>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let slot = Arc::clone(self.all().entry(name).or_default());
        let done = work(&mut lock(&slot));
        let mut all = self.all();
        drop(slot);
        // Whoever waits for it has it, too: two slots for the same files there must never be.
        let unused = all.get_mut(&name).and_then(Arc::get_mut).is_some_and(|slot| lock(slot).is_none());
        if unused {
            all.remove(&name);
        }
        done
    }

    fn opened<'a>(&self, name: Arrival, slot: &'a mut Option<Staged>) -> Result<&'a mut Staged, StoreError> {
        if slot.as_ref().is_some_and(|staged| staged.spoiled) {
            self.remove(name, slot)?;
        }
        match slot {
            Some(staged) => Ok(staged),
            empty => {
                let (data, index) = (self.path(name, "zdi"), self.path(name, "index"));
                Ok(empty.insert(Staged::open(name, &data, &index).map_err(StoreError::io("open", &data))?))
            }
        }
    }
}

/// Once: after an error another one would lie.
fn flush(file: &File) -> io::Result<()> {
    failpoints::hit("staging.finish.written")?;
    file.sync_all()?;
    failpoints::hit("staging.finish.flushed")
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A panic while the lock was held leaves at worst bytes past `end`, which nobody refers to.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Staged {
    fn open(name: Arrival, data: &Path, index: &Path) -> io::Result<Self> {
        let open = |path| File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let (data, mut index) = (open(data)?, open(index)?);
        data.write_all_at(&name.preface(), 0)?;
        let mut records = Vec::new();
        index.read_to_end(&mut records)?;
        let mut staged = Self {
            data,
            index,
            frames: HashMap::new(),
            end: name.preface_len(),
            roomy: name.preface_len(),
            index_end: 0,
            spoiled: false,
        };
        let (bytes, mut found) = (staged.data.metadata()?.len(), Vec::new());
        for record in records.as_chunks::<INDEX_RECORD>().0 {
            let Some((digest, placed)) = staged.next(record, bytes) else { break };
            found.push((digest, placed));
            staged.end = placed.offset + u64::from(placed.len);
        }
        // Room is given ahead, so the file may be long enough for what a crash kept from it: that is all at its end.
        while let Some((digest, placed)) = found.last()
            && !staged.reads_back(*digest, *placed)
        {
            staged.end = placed.offset;
            found.pop();
        }
        for (digest, placed) in found {
            // What came again, because it was damaged, lies further on.
            staged.frames.insert(digest, Frame { placed, seen: false });
            staged.index_end += 44;
        }
        // What follows was torn, or is the tail of an image that was never taken over.
        staged.data.set_len(staged.end)?;
        staged.roomy = staged.end;
        staged.index.set_len(staged.index_end)?;
        Ok(staged)
    }

    /// Returns a frame of the index if it directly follows the one before, in a file of so many bytes.
    fn next(&self, record: &[u8; INDEX_RECORD], bytes: u64) -> Option<(Digest, Placed)> {
        let (digest, rest) = record.split_first_chunk::<32>()?;
        let (offset, len) = rest.split_first_chunk::<8>()?;
        let placed = Placed { offset: u64::from_le_bytes(*offset), len: u32::from_le_bytes(len.try_into().ok()?) };
        let plausible = placed.offset == self.end
            && (1..=MAX_FRAME_STORED_BYTES).contains(&placed.len)
            && bytes.checked_sub(placed.offset)? >= u64::from(placed.len);
        plausible.then_some((Digest::from_bytes(*digest), placed))
    }

    /// Returns where a frame lies, if its bytes are there: one that only the index knows is read back first, and lacking
    /// from then on if they are not.
    fn find(&mut self, digest: Digest) -> Option<Placed> {
        let Frame { placed, seen } = *self.frames.get(&digest)?;
        if seen || self.reads_back(digest, placed) {
            self.frames.insert(digest, Frame { placed, seen: true });
            return Some(placed);
        }
        self.frames.remove(&digest);
        None
    }

    fn reads_back(&self, digest: Digest, placed: Placed) -> bool {
        let Ok(len) = usize::try_from(placed.len) else { return false };
        let mut bytes = vec![0; len];
        self.data.read_exact_at(&mut bytes, placed.offset).is_ok() && Digest::of(&bytes) == digest
    }
}

/// Writes a file of only the frames that are used, in the order of the table; one used twice is there twice.
fn copy_used(from: &File, name: Arrival, places: &[Placed], whole: &Whole<'_>, path: &Path) -> io::Result<File> {
    let mut file =
        io::BufWriter::new(File::options().read(true).write(true).create(true).truncate(true).mode(0o400).open(path)?);
    file.write_all(&name.preface())?;
    let (mut placement, mut end, mut buf) = (Vec::with_capacity(places.len()), name.preface_len(), Vec::new());
    for placed in places {
        buf.resize(usize::try_from(placed.len).map_err(io::Error::other)?, 0);
        from.read_exact_at(&mut buf, placed.offset)?;
        file.write_all(&buf)?;
        placement.push(ByteOffset::new(end));
        end += u64::from(placed.len);
    }
    file.write_all(&whole.tail(&placement, ByteOffset::new(end)))?;
    file.into_inner().map_err(io::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests {
    use boss_model::term::Standing;

    use super::*;

    fn open(state: &Path) -> Staging {
        let gate = Gate::raise(state, Standing::default()).unwrap();
        Staging::open(state, Arc::new(Room::of(state)), gate).unwrap()
    }

    #[test]
    fn after_a_restart_only_what_is_asked_for_is_read_back() {
        let state = tempfile::tempdir().unwrap();
        let pieces: Vec<_> = (0..9_u8).map(|n| vec![n; 4096]).collect();
        let digests: Vec<_> = pieces.iter().map(|piece| Digest::of(piece)).collect();
        let object = Digest::of(&pieces.concat());
        let staging = open(state.path());
        for (digest, piece) in digests.iter().zip(&pieces) {
            staging.put_frame(object, *digest, piece).unwrap();
        }
        let staging = open(state.path());
        let seen = || staging.with(object.into(), |staged| Ok(staged.frames.values().filter(|it| it.seen).count()));
        assert_eq!(seen().unwrap(), 0);
        assert_eq!(staging.lacking(object, &digests[3..5]).unwrap(), []);
        assert_eq!(staging.put_frame(object, digests[8], &pieces[8]).unwrap(), Put::Present);
        assert_eq!(seen().unwrap(), 3);
        assert!(staging.finish_object(object, &digests).unwrap().is_some());
    }

    #[test]
    fn what_a_crash_kept_from_the_end_leaves_no_gap() {
        let state = tempfile::tempdir().unwrap();
        let pieces: Vec<_> = (0..5_u8).map(|n| vec![n + 1; 4096]).collect();
        let digests: Vec<_> = pieces.iter().map(|piece| Digest::of(piece)).collect();
        let object = Digest::of(&pieces.concat());
        let staging = open(state.path());
        for (digest, piece) in digests.iter().zip(&pieces) {
            staging.put_frame(object, *digest, piece).unwrap();
        }
        let (name, data) = (Arrival::Object(object), staging.path(object.into(), "zdi"));
        drop(staging);
        // As after a crash of the machine: the file has its length, and the index its records.
        let file = File::options().write(true).open(&data).unwrap();
        file.write_all_at(&[0; 4096 + 1], name.preface_len() + 4 * 4096 - 1).unwrap();
        let staging = open(state.path());
        assert_eq!(staging.lacking(object, &digests).unwrap(), digests[3..]);
        assert_eq!(fs::metadata(&data).unwrap().len(), name.preface_len() + 3 * 4096);
        for (digest, piece) in digests.iter().zip(&pieces).skip(3) {
            staging.put_frame(object, *digest, piece).unwrap();
        }
        let finished = staging.finish_object(object, &digests).unwrap().unwrap();
        assert_eq!(fs::read(finished.path).unwrap(), pieces.concat());
    }

    #[test]
    fn what_belongs_to_somebody_else_by_now_is_not_discarded() {
        let state = tempfile::tempdir().unwrap();
        let (staging, bytes) = (open(state.path()), b"a piece");
        let (object, piece) = (Digest::of(b"never whole"), Digest::of(bytes));
        staging.put_frame(object, piece, bytes).unwrap();
        staging.discard_if(object, || false).unwrap();
        assert_eq!(staging.lacking(object, &[piece]).unwrap(), []);
        staging.discard_if(object, || true).unwrap();
        assert!(staging.names().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_neither_here_nor_in_the_store_has_to_come_anew() {
        let state = tempfile::tempdir().unwrap();
        let gate = Gate::raise(state.path(), Standing::default()).unwrap();
        let store = super::super::LocalStore::open(state.path(), gate).unwrap();
        let (staging, bytes) = (open(state.path()), b"all of it");
        let object = Digest::of(bytes);
        staging.put_frame(object, object, bytes).unwrap();
        let finished = staging.finish_object(object, &[object]).unwrap().unwrap();
        fs::remove_file(&finished.path).unwrap();
        assert!(matches!(staging.hand_over(&store, &finished).await, Err(StoreError::Missing(_))));
    }

    #[test]
    fn who_removes_or_sets_aside_waits_for_who_works_with_the_files() {
        let state = tempfile::tempdir().unwrap();
        let (staging, bytes) = (open(state.path()), b"a piece");
        let (object, piece) = (Digest::of(b"never whole"), Digest::of(bytes));
        let name = Arrival::Object(object);
        for how in [
            |staging: &Staging, name| staging.discard(name),
            |staging: &Staging, name| staging.set_aside(&StagedName::Of(name)),
        ] {
            staging.put_frame(object, piece, bytes).unwrap();
            std::thread::scope(|scope| {
                let other = staging.with(name, |_| {
                    let other = scope.spawn(|| how(&staging, name));
                    // The map has it, we do, and in the end who waits for us.
                    while Arc::strong_count(&staging.all()[&name]) < 3 {
                        assert!(!other.is_finished(), "it did not wait");
                        std::thread::yield_now();
                    }
                    assert_eq!(staging.files_of(name)?.len(), 2, "what is worked with stays where it is");
                    Ok(other)
                });
                other.unwrap().join().unwrap().unwrap();
            });
            assert!(staging.names().unwrap().is_empty());
            assert!(staging.all().is_empty(), "and nothing is kept of it");
            assert_eq!(staging.lacking(object, &[piece]).unwrap(), [piece]);
        }
    }
}
