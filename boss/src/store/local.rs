//! Objects as files of this machine, durable before anybody is told that they are stored.
//!
//! An object is written under a temporary name in the same file system, flushed, renamed to its digest without ever
//! replacing another, and its directory flushed. A flush that fails is final for that attempt: the kernel may have
//! dropped the bytes it could not write, so flushing again would lie.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Advice, CWD, RenameFlags};
use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, ByteOffset, ByteRange, Digest, FileSource, ReadAt};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::gate::Entered;
use super::whole::digest_on_medium;
use super::{ByteStream, Gate, ImageStore, Incarnation, Put, Room, StoreError, StoreFuture, StoredObject, is_whole};

/// How much is read and hashed at a time while bytes arrive.
const COPY_BYTES: usize = 256 << 10;
/// The folder of the store for what is damaged or belongs to nobody: nothing reads it, and nothing removes it.
pub(super) const ASIDE: &str = "aside";

/// The store in `<state>/store`.
#[derive(Clone, Debug)]
pub struct LocalStore {
    objects: PathBuf,
    partial: PathBuf,
    aside: PathBuf,
    room: Arc<Room>,
    /// Held while an object gets or loses its name, so that what was looked at before is still so.
    naming: Arc<Mutex<()>>,
    /// Nothing: opened to be looked at.
    gate: Option<Arc<Gate>>,
}

/// Makes a directory and its parents, for this user only.
///
/// # Errors
/// What the system says.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl LocalStore {
    /// Names the store of a state directory, for somebody who only looks at it: nothing is made or cleared away.
    pub fn of(state: &Path) -> Self {
        let folder = |name| state.join("store").join(name);
        let room = Arc::new(Room::of(&state.join("store")));
        Self {
            objects: folder("objects"),
            partial: folder("partial"),
            aside: folder(ASIDE),
            room,
            naming: Arc::default(),
            gate: None,
        }
    }

    /// Opens the store for the boss that may pass its gate, and clears away what a killed boss had not finished.
    ///
    /// # Errors
    /// [`StoreError`] naming the directory; [`StoreError::TermOver`] when another boss rules by now.
    pub fn open(state: &Path, gate: Arc<Gate>) -> Result<Self, StoreError> {
        let store = Self { gate: Some(gate), ..Self::of(state) };
        let _entered = store.enter()?;
        for folder in [&store.objects, &store.partial, &store.aside] {
            make_private_dir(folder).map_err(StoreError::io("make the directory", folder))?;
        }
        for folder in [state, &state.join("store")] {
            sync_dir(folder)?;
        }
        let left = fs::read_dir(&store.partial).map_err(StoreError::io("list", &store.partial))?;
        for entry in left {
            let path = entry.map_err(StoreError::io("list", &store.partial))?.path();
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(store)
    }

    /// Returns the room there is, shared with whatever else writes beside the store.
    pub fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
    }

    /// Makes sure that this boss may change the store, for as long as the answer is held.
    fn enter(&self) -> Result<Entered, StoreError> {
        match &self.gate {
            Some(gate) => gate.enter(),
            None => Err(StoreError::Refused("the store was opened to be looked at, not to be changed".into())),
        }
    }

    fn object(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.objects.join(&name[..2]).join(name)
    }

    async fn receive(&self, digest: Digest, limit: ByteLen, mut bytes: ByteStream) -> Result<Put, StoreError> {
        let partial = Partial::new(self.partial.join(uuid::Uuid::now_v7().to_string()));
        let failed = || StoreError::io("write", &partial.path);
        failpoints::hit("store.receive.begin").map_err(failed())?;
        let file = File::options().write(true).create_new(true).mode(0o400).open(&partial.path).map_err(failed())?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut hash, mut total, mut buf) = (Sha256::new(), 0_u64, vec![0; COPY_BYTES]);
        loop {
            let n = bytes.read(&mut buf).await.map_err(StoreError::Receive)?;
            if n == 0 {
                break;
            }
            total = total.saturating_add(ByteLen::of(&buf[..n]).get());
            if total > limit.get() {
                return Err(StoreError::TooLarge { limit });
            }
            self.room.ask(ByteLen::of(&buf[..n]))?;
            hash.update(&buf[..n]);
            file.write_all(&buf[..n]).await.map_err(failed())?;
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found != digest {
            return Err(StoreError::WrongDigest { expected: digest, found });
        }
        failpoints::hit("store.receive.written").map_err(failed())?;
        file.sync_all().await.map_err(failed())?;
        failpoints::hit("store.receive.flushed").map_err(failed())?;
        drop(file);
        // What is cached is what was sent; what counts is what the medium has.
        let path = partial.path.clone();
        let (found, _) = blocking(move || digest_on_medium(&path).map_err(StoreError::io("read", &path))).await?;
        if found != digest {
            return Err(StoreError::WrongDigest { expected: digest, found });
        }
        self.take_over(digest, partial.path.clone(), partial).await
    }

    /// Makes a flushed file the object, unless that is there and whole. Only with the file at hand does what is there
    /// make way: also a damaged object may have parts that somebody needs.
    async fn take_over(&self, digest: Digest, file: PathBuf, owner: impl Send + 'static) -> Result<Put, StoreError> {
        let damaged = self.damaged(digest).await?;
        let store = self.clone();
        // All at once, and to its end also when nobody waits for it any more: so the file stays as long.
        let publish = move || {
            let put = store.publish(digest, &file, damaged);
            drop(owner);
            put
        };
        blocking(publish).await
    }

    /// Reads an object back, if it is there, and returns which file it is if that is damaged.
    async fn damaged(&self, digest: Digest) -> Result<Option<Incarnation>, StoreError> {
        let Some(seen) = self.incarnation(digest).await? else { return Ok(None) };
        let why = match is_whole(self, digest).await {
            // Whoever removed it, or set it aside, did so since.
            Ok(true) | Err(StoreError::Missing(_)) => return Ok(None),
            Ok(false) => "it is another content".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(%digest, "an object is damaged: it is set aside, and what arrived takes its place: {why}");
        Ok(Some(seen))
    }

    fn naming(&self) -> impl Drop + use<'_> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a flushed file its final name. What has it already stays, unless it is what was found damaged.
    fn publish(&self, digest: Digest, file: &Path, damaged: Option<Incarnation>) -> Result<Put, StoreError> {
        let (_entered, _naming) = (self.enter()?, self.naming());
        let object = self.object(digest);
        let folder = object.parent().unwrap_or(&self.objects);
        make_private_dir(folder).map_err(StoreError::io("make the directory", folder))?;
        // Always: another writer may have made the folder and died before it was durable.
        sync_dir(&self.objects)?;
        failpoints::hit("store.publish.before-rename").map_err(StoreError::io("name", &object))?;
        let there = Incarnation::of(&object)?;
        let replace = damaged.is_some() && damaged == there;
        if replace {
            // A second name first: at no moment is there no object, and what is damaged never has a name that is believed.
            keep_aside(&object, &self.aside)?;
        }
        let how = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let put = match rustix::fs::renameat_with(CWD, file, CWD, &object, how) {
            Ok(()) => Put::Stored,
            Err(rustix::io::Errno::EXIST) => {
                fs::remove_file(file).map_err(StoreError::io("remove", file))?;
                Put::Present
            }
            // Who was given the same file made it the object.
            Err(rustix::io::Errno::NOENT) if there.is_some() && !replace => Put::Present,
            Err(rustix::io::Errno::NOENT) => return Err(StoreError::Missing(digest)),
            Err(error) => return Err(StoreError::io("name", &object)(error.into())),
        };
        failpoints::hit("store.publish.renamed").map_err(StoreError::io("flush", folder))?;
        sync_dir(folder)?;
        failpoints::hit("store.publish.durable").map_err(StoreError::io("flush", folder))?;
        Ok(put)
    }

    fn open_object(&self, digest: Digest, from_medium: bool) -> Result<Arc<dyn ReadAt>, StoreError> {
        let path = self.object(digest);
        let source = FileSource::open(&path).map_err(|error| missing_or(error, digest, &path))?;
        if from_medium {
            // The pages are clean, they were flushed before the object got its name; so they really go.
            rustix::fs::fadvise(source.file(), 0, None, Advice::DontNeed)
                .map_err(|error| StoreError::io("drop from the cache", &path)(error.into()))?;
        }
        Ok(Arc::new(source))
    }

    fn all(&self) -> Result<Vec<StoredObject>, StoreError> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.objects).map_err(StoreError::io("list", &self.objects))? {
            let folder = folder.map_err(StoreError::io("list", &self.objects))?.path();
            for entry in fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
                let entry = entry.map_err(StoreError::io("list", &folder))?;
                let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                let meta = match entry.metadata() {
                    // Removed since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    meta => meta.map_err(StoreError::io("look at", &entry.path()))?,
                };
                found.push(StoredObject { digest, bytes: ByteLen::new(meta.len()) });
            }
        }
        Ok(found)
    }
}

impl ImageStore for LocalStore {
    fn put_if_absent<'a>(&'a self, digest: Digest, limit: ByteLen, bytes: ByteStream) -> StoreFuture<'a, Put> {
        Box::pin(self.receive(digest, limit, bytes))
    }

    fn put_file<'a>(&'a self, digest: Digest, file: &'a Path) -> StoreFuture<'a, Put> {
        Box::pin(self.take_over(digest, file.to_path_buf(), ()))
    }

    fn get(&self, digest: Digest, range: Option<ByteRange>) -> StoreFuture<'_, (ByteLen, ByteStream)> {
        Box::pin(async move {
            let path = self.object(digest);
            let mut file = tokio::fs::File::open(&path).await.map_err(|error| missing_or(error, digest, &path))?;
            let size = file.metadata().await.map_err(StoreError::io("look at", &path))?.len();
            let range = range.unwrap_or(ByteRange { start: ByteOffset::ZERO, len: ByteLen::new(size) });
            if range.checked_end().is_none_or(|end| end.get() > size) {
                return Err(StoreError::BadRange { digest, start: range.start });
            }
            file.seek(io::SeekFrom::Start(range.start.get())).await.map_err(StoreError::io("seek in", &path))?;
            let stream: ByteStream = Box::pin(file.take(range.len.get()));
            Ok((range.len, stream))
        })
    }

    fn open(&self, digest: Digest, from_medium: bool) -> StoreFuture<'_, Arc<dyn ReadAt>> {
        let store = self.clone();
        Box::pin(blocking(move || store.open_object(digest, from_medium)))
    }

    fn head(&self, digest: Digest) -> StoreFuture<'_, Option<ByteLen>> {
        Box::pin(async move {
            let path = self.object(digest);
            match tokio::fs::metadata(&path).await {
                Ok(meta) => Ok(Some(ByteLen::new(meta.len()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(StoreError::io("look at", &path)(error)),
            }
        })
    }

    fn list(&self) -> StoreFuture<'_, Vec<StoredObject>> {
        let store = self.clone();
        Box::pin(blocking(move || store.all()))
    }

    fn incarnation(&self, digest: Digest) -> StoreFuture<'_, Option<Incarnation>> {
        let store = self.clone();
        Box::pin(blocking(move || Incarnation::of(&store.object(digest))))
    }

    fn set_aside(&self, digest: Digest, damaged: Incarnation) -> StoreFuture<'_, ()> {
        let store = self.clone();
        Box::pin(blocking(move || {
            let (_entered, _naming, object) = (store.enter()?, store.naming(), store.object(digest));
            let still = Incarnation::of(&object)? == Some(damaged);
            if still { set_aside(&object, &store.aside) } else { Ok(()) }
        }))
    }

    fn delete(&self, digest: Digest) -> StoreFuture<'_, ()> {
        let store = self.clone();
        Box::pin(blocking(move || {
            let (_entered, _naming) = (store.enter()?, store.naming());
            let path = store.object(digest);
            match fs::remove_file(&path) {
                Ok(()) => sync_dir(path.parent().unwrap_or(&store.objects)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(StoreError::io("remove", &path)(error)),
            }
        }))
    }

    fn path_of(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.object(digest))
    }
}

/// A file under a temporary name; gone when it was not published.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Published: it has another name. Not published: a file nobody refers to; the next start clears it at latest.
        let _ = fs::remove_file(&self.path);
    }
}

/// Does something that takes its time with files on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(StoreError::Io { what: "work on", path: PathBuf::from("the store"), source: io::Error::other(error) })
        }
    }
}

/// Moves a file to the folder of what is set aside, durably, under a name that is free there.
pub(super) fn set_aside(file: &Path, aside: &Path) -> Result<(), StoreError> {
    let to = place_aside(file, aside)?;
    match fs::rename(file, &to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("set aside", file)(error)),
    }
    sync_dir(aside)?;
    file.parent().map_or(Ok(()), sync_dir)
}

/// Gives a file a second name in the folder of what is set aside, durably.
fn keep_aside(file: &Path, aside: &Path) -> Result<(), StoreError> {
    fs::hard_link(file, place_aside(file, aside)?).map_err(StoreError::io("set aside", file))?;
    sync_dir(aside)
}

/// Returns a name for a file that is free in the folder of what is set aside, which is made.
fn place_aside(file: &Path, aside: &Path) -> Result<PathBuf, StoreError> {
    make_private_dir(aside).map_err(StoreError::io("make the directory", aside))?;
    let name = file.file_name().map_or_else(|| "unnamed".into(), |name| name.to_string_lossy());
    Ok(aside.join(format!("{name}.{}", uuid::Uuid::now_v7())))
}

pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::io("flush the directory", path))
}

fn missing_or(error: io::Error, digest: Digest, path: &Path) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound {
        StoreError::Missing(digest)
    } else {
        StoreError::io("open", path)(error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use boss_model::term::Standing;

    use super::*;

    fn stream(bytes: &[u8]) -> ByteStream {
        Box::pin(io::Cursor::new(bytes.to_vec()))
    }

    fn open(state: &Path) -> LocalStore {
        LocalStore::open(state, Gate::raise(state, Standing::default()).unwrap()).unwrap()
    }

    const LIMIT: ByteLen = ByteLen::new(1 << 20);

    #[tokio::test]
    async fn an_object_is_stored_once_and_read_back_whole_and_in_part() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        let digest = Digest::of(b"hello");
        assert_eq!(store.put_if_absent(digest, LIMIT, stream(b"hello")).await.unwrap(), Put::Stored);
        assert_eq!(store.put_if_absent(digest, LIMIT, stream(b"hello")).await.unwrap(), Put::Present);
        assert_eq!(store.head(digest).await.unwrap(), Some(ByteLen::new(5)));
        let range = ByteRange { start: ByteOffset::new(1), len: ByteLen::new(3) };
        let (len, mut bytes) = store.get(digest, Some(range)).await.unwrap();
        let mut text = String::new();
        bytes.read_to_string(&mut text).await.unwrap();
        assert_eq!((len.get(), text.as_str()), (3, "ell"));
        let past = ByteRange { start: ByteOffset::new(3), len: ByteLen::new(3) };
        assert!(matches!(store.get(digest, Some(past)).await, Err(StoreError::BadRange { .. })));
        let mut buf = [0; 5];
        store.open(digest, true).await.unwrap().read_exact_at(&mut buf, ByteOffset::ZERO).unwrap();
        assert_eq!(&buf, b"hello");
        assert_eq!(store.list().await.unwrap().len(), 1);
        let mode = fs::metadata(state.path().join("store")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        store.delete(digest).await.unwrap();
        assert!(matches!(store.open(digest, false).await, Err(StoreError::Missing(_))));
    }

    #[tokio::test]
    async fn damaged_and_oversized_bytes_leave_nothing() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        let digest = Digest::of(b"hello");
        let wrong = store.put_if_absent(digest, LIMIT, stream(b"hellO")).await;
        assert!(matches!(wrong, Err(StoreError::WrongDigest { .. })));
        let long = store.put_if_absent(digest, ByteLen::new(4), stream(b"hello")).await;
        assert!(matches!(long, Err(StoreError::TooLarge { .. })));
        assert_eq!(store.head(digest).await.unwrap(), None);
        assert_eq!(fs::read_dir(state.path().join("store/partial")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_damaged_object_is_set_aside_and_can_be_stored_anew() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        let digest = Digest::of(b"hello");
        let mut before = None;
        for _ in 0..2 {
            assert_eq!(store.put_if_absent(digest, LIMIT, stream(b"hello")).await.unwrap(), Put::Stored);
            if let Some(before) = before {
                store.set_aside(digest, before).await.unwrap();
                assert!(store.head(digest).await.unwrap().is_some(), "this one was not found damaged");
            }
            let seen = store.incarnation(digest).await.unwrap().unwrap();
            store.set_aside(digest, seen).await.unwrap();
            store.set_aside(digest, seen).await.unwrap();
            assert_eq!(store.head(digest).await.unwrap(), None);
            before = Some(seen);
        }
        let left: Vec<_> = fs::read_dir(state.path().join("store").join(ASIDE)).unwrap().collect();
        assert_eq!(left.len(), 2, "both are there to be looked at");
    }

    #[tokio::test]
    async fn a_good_object_stays_whoever_found_it_damaged_before() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        let digest = Digest::of(b"hello");
        let object = store.path_of(digest).unwrap();
        make_private_dir(object.parent().unwrap()).unwrap();
        fs::write(&object, b"hellO").unwrap();
        let found_by = [store.damaged(digest).await.unwrap(), store.damaged(digest).await.unwrap()];
        assert!(found_by[0].is_some());
        // Two who put together the same share the file that they made; a third has one of his own.
        let (shared, own) = (state.path().join("shared"), state.path().join("own"));
        fs::write(&shared, b"hello").unwrap();
        fs::write(&own, b"hello").unwrap();
        assert_eq!(store.publish(digest, &shared, found_by[0]).unwrap(), Put::Stored);
        assert_eq!(store.publish(digest, &shared, found_by[1]).unwrap(), Put::Present);
        assert_eq!(store.publish(digest, &own, found_by[1]).unwrap(), Put::Present);
        assert!(!shared.exists(), "nothing damaged has the name of what arrived");
        assert_eq!(fs::read(&object).unwrap(), b"hello");
        assert!(!shared.exists() && !own.exists());
        let aside = fs::read_dir(state.path().join("store").join(ASIDE)).unwrap();
        let aside: Vec<_> = aside.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert_eq!(aside, [b"hellO"]);
        store.delete(digest).await.unwrap();
        assert!(matches!(store.publish(digest, &shared, None), Err(StoreError::Missing(_))), "neither is there");
    }

    #[tokio::test]
    async fn who_died_while_a_damaged_object_made_way_left_it_there() {
        let state = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"hello");
        let object = {
            let store = open(state.path());
            let object = store.path_of(digest).unwrap();
            make_private_dir(object.parent().unwrap()).unwrap();
            fs::write(&object, b"hellO").unwrap();
            keep_aside(&object, &store.aside).unwrap();
            object
        };
        assert_eq!(fs::read(&object).unwrap(), b"hellO");
        let store = open(state.path());
        assert_eq!(store.put_if_absent(digest, LIMIT, stream(b"hello")).await.unwrap(), Put::Stored);
        assert_eq!(fs::read(&object).unwrap(), b"hello");
        assert_eq!(store.put_if_absent(digest, LIMIT, stream(b"hello")).await.unwrap(), Put::Present);
    }

    #[tokio::test]
    async fn what_is_kept_back_is_not_filled_by_uploads() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        store.room().keep_back(100);
        let refused = store.put_if_absent(Digest::of(b"hello"), LIMIT, stream(b"hello")).await;
        assert!(matches!(refused, Err(StoreError::NoRoom { .. })));
        assert_eq!(fs::read_dir(state.path().join("store/partial")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_object_is_never_replaced() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        let digest = Digest::of(b"hello");
        store.put_if_absent(digest, LIMIT, stream(b"hello")).await.unwrap();
        let other = state.path().join("other");
        fs::write(&other, b"other").unwrap();
        assert_eq!(store.put_file(digest, &other).await.unwrap(), Put::Present);
        assert_eq!(fs::read(store.path_of(digest).unwrap()).unwrap(), b"hello");
        assert!(!other.exists());
    }

    #[tokio::test]
    async fn a_boss_that_slept_while_another_took_over_makes_and_removes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let store = open(state.path());
        let kept = Digest::of(b"hello");
        store.put_if_absent(kept, LIMIT, stream(b"hello")).await.unwrap();
        let ready = state.path().join("ready");
        fs::write(&ready, b"late").unwrap();
        Gate::raise(state.path(), Standing { term: 1, moves: 0 }).unwrap();
        let late = Digest::of(b"late");
        let over =
            |refused: Option<StoreError>| matches!(refused, Some(StoreError::TermOver { own: 0, found: Some(1) }));
        assert!(over(store.put_if_absent(late, LIMIT, stream(b"late")).await.err()));
        assert!(over(store.put_file(late, &ready).await.err()));
        assert!(over(store.delete(kept).await.err()));
        let seen = store.incarnation(kept).await.unwrap().unwrap();
        assert!(over(store.set_aside(kept, seen).await.err()));
        assert!(LocalStore::of(state.path()).delete(kept).await.is_err(), "who only looks changes nothing");
        assert_eq!(store.head(late).await.unwrap(), None);
        assert_eq!(store.head(kept).await.unwrap(), Some(ByteLen::new(5)), "and what there was can be read");
        assert!(ready.exists(), "what was not taken over stays where it was");
    }
}
