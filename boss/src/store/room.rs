//! How much may still be written, with a part kept back: on a file system that is full to the last byte nothing can be
//! listed, noted or pruned.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use sigs::{ByteLen, ByteOffset};

use super::StoreError;

/// The room of the file system that a store is on.
#[derive(Debug)]
pub struct Room {
    folder: PathBuf,
    kept_percent: AtomicU64,
}

impl Room {
    /// Looks at the file system of this folder. Nothing is kept back until [`Room::keep_back`] says so.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), kept_percent: AtomicU64::new(0) }
    }

    /// Keeps this part of the file system back from now on, in percent of its size.
    pub fn keep_back(&self, percent: u64) {
        self.kept_percent.store(percent.min(100), Ordering::Relaxed);
    }

    /// Returns whether so many bytes more may be written.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`] with what there is; what the system says.
    pub fn ask(&self, wanted: ByteLen) -> Result<(), StoreError> {
        let found = statvfs(&self.folder)
            .map_err(|error| StoreError::io("look at the file system of", &self.folder)(error.into()))?;
        let bytes = |blocks: u64| ByteLen::new(blocks.saturating_mul(found.f_frsize));
        let kept = ByteLen::new(bytes(found.f_blocks).get() / 100 * self.kept_percent.load(Ordering::Relaxed));
        let free = bytes(found.f_bavail);
        if free.get() >= wanted.get().saturating_add(kept.get()) {
            return Ok(());
        }
        Err(StoreError::NoRoom { wanted, free, kept, folder: self.folder.clone() })
    }

    /// Gives a file the room from `from` to `from + len`, or refuses before a byte of it is written. A file system that
    /// cannot do that says "full" later, as it must.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], [`StoreError::NoSpace`]; what the system says.
    pub(super) fn give(&self, file: &File, path: &Path, from: ByteOffset, len: ByteLen) -> Result<(), StoreError> {
        self.ask(len)?;
        match fallocate(file, FallocateFlags::empty(), from.get(), len.get()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(StoreError::io("reserve room for", path)(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::of(folder.path());
        room.ask(ByteLen::new(1)).unwrap();
        room.keep_back(100);
        let refused = room.ask(ByteLen::new(1)).unwrap_err();
        assert!(matches!(refused, StoreError::NoRoom { .. }), "{refused}");
        assert!(refused.to_string().contains("must stay free (store/reserve_percent)"), "{refused}");
        room.keep_back(0);
        assert!(matches!(room.ask(ByteLen::new(u64::MAX)), Err(StoreError::NoRoom { .. })), "no overflow");
    }

    #[test]
    fn how_much_is_free_and_has_to_be_is_said_in_units_for_people() {
        let (wanted, free, kept) = (ByteLen::new(1), ByteLen::new(3 << 30), ByteLen::new(5 << 30));
        let refused = StoreError::NoRoom { wanted, free, kept, folder: "/s/store".into() };
        assert_eq!(
            refused.to_string(),
            "the store has no room: /s/store has 3.0 GiB free, and 5.0 GiB must stay free (store/reserve_percent); \
             nothing was stored; make room there, at least 2.0 GiB, and try again"
        );
    }

    #[test]
    fn a_file_gets_its_room_before_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = File::create(&path).unwrap();
        let room = Room::of(folder.path());
        room.give(&file, &path, ByteOffset::new(4096), ByteLen::new(1 << 20)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4096 + (1 << 20));
        room.keep_back(100);
        assert!(room.give(&file, &path, ByteOffset::ZERO, ByteLen::new(1)).is_err());
    }
}
