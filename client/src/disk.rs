//! What a disk says of itself: its serial number, size and sectors.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use boss_api::agent::FoundDisk;
use boss_api::names::Name;
use imagezip::io::{Disk, DiskError, DiskKind, ReadAt as _};

/// The longest serial number.
pub const MAX_SERIAL_BYTES: usize = 128;

/// A disk that cannot be identified.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] DiskError),
    /// Its serial number cannot be read.
    #[error("read the serial number of {disk} from {from}")]
    Read {
        /// The disk.
        disk: PathBuf,
        /// Where its serial number was looked for.
        from: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The serial number is not one.
    #[error("{from} holds no serial number: it is one line of 1 to 128 printable characters")]
    Serial {
        /// Where it was looked for.
        from: PathBuf,
    },
    /// The system knows none.
    #[error("the system knows no serial number of {disk}; a disk without one cannot be told from another")]
    None {
        /// The disk.
        disk: PathBuf,
    },
}

/// Reads everything that identifies a disk, now.
///
/// # Errors
/// [`IdentifyError`].
pub fn identify(name: &Name, path: &Path) -> Result<FoundDisk, IdentifyError> {
    let disk = Disk::open(path)?;
    let serial = match disk.kind() {
        DiskKind::File => serial_beside(path)?,
        DiskKind::Device => serial_of_device(path)?,
    };
    Ok(FoundDisk { name: name.clone(), serial, bytes: disk.len(), sector_size: disk.sector_size() })
}

/// Reads the serial number of a regular file from `PATH.serial`.
fn serial_beside(path: &Path) -> Result<String, IdentifyError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".serial");
    let from = PathBuf::from(beside);
    match read_serial(&from) {
        Ok(serial) => serial.ok_or(IdentifyError::Serial { from }),
        Err(source) => Err(IdentifyError::Read { disk: path.to_owned(), from, source }),
    }
}

/// Asks sysfs; where the number is depends on the kind of disk.
fn serial_of_device(path: &Path) -> Result<String, IdentifyError> {
    let failed = |source| IdentifyError::Read { disk: path.to_owned(), from: path.to_owned(), source };
    let device = fs::metadata(path).map_err(failed)?.rdev();
    let folder = PathBuf::from(format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device)));
    for place in ["serial", "device/serial", "wwid", "device/wwid"] {
        let from = folder.join(place);
        match read_serial(&from) {
            Ok(Some(serial)) => return Ok(serial),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(IdentifyError::Read { disk: path.to_owned(), from, source }),
        }
    }
    Err(IdentifyError::None { disk: path.to_owned() })
}

/// Reads one line; nothing when it is not a serial number.
fn read_serial(from: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_SERIAL_BYTES * 2).unwrap_or(u64::MAX);
    fs::File::open(from)?.take(most).read_to_end(&mut bytes)?;
    let Ok(text) = String::from_utf8(bytes) else { return Ok(None) };
    let serial = text.trim();
    let printable = serial.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ');
    Ok((!serial.is_empty() && serial.len() <= MAX_SERIAL_BYTES && printable).then(|| serial.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_the_serial_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sda.img");
        fs::write(&path, [0; 1024]).unwrap();
        let name = Name::new("sda").unwrap();
        assert!(matches!(identify(&name, &path), Err(IdentifyError::Read { .. })));
        let serial = folder.path().join("sda.img.serial");
        for bad in ["", "\n", "a\nb", "a\0b", &"x".repeat(129)] {
            fs::write(&serial, bad).unwrap();
            assert!(matches!(identify(&name, &path), Err(IdentifyError::Serial { .. })), "{bad:?}");
        }
        fs::write(&serial, "EBB-0001\n").unwrap();
        let found = identify(&name, &path).unwrap();
        assert_eq!((found.serial.as_str(), found.bytes.get()), ("EBB-0001", 1024));
    }
}
