//! Where on a disk a file system is: in a partition, in a logical volume, or on all of it.

use std::fmt;

use super::FilesError;
use crate::alloc::disk::WHOLE_DISK;
use crate::alloc::doubt::Stop;
use crate::alloc::{Content, Window, filesystem, lvm, table};
use crate::io::ReadAt;

/// A partition or a logical volume, and what was recognised in it.
#[derive(Debug)]
pub struct Place<'a> {
    /// The partition, as Linux counts; 0 is the disk itself.
    pub partition: u32,
    /// The logical volume inside, as in `group/volume`.
    pub volume: Option<String>,
    /// What is in it.
    pub content: Content,
    pub(super) device: Box<dyn ReadAt + 'a>,
}

/// Which place is meant. Nothing said is whichever holds a file system that can be read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The partition.
    pub partition: Option<u32>,
    /// The logical volume, as in `group/volume`.
    pub volume: Option<String>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.partition, &self.volume) {
            (WHOLE_DISK, None) => f.write_str("the whole disk"),
            (number, None) => write!(f, "partition {number}"),
            (_, Some(volume)) => write!(f, "volume {volume}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.partition, &self.volume) {
            (Some(number), Some(volume)) => write!(f, "volume {volume} in partition {number}"),
            (Some(number), None) => write!(f, "partition {number}"),
            (None, Some(volume)) => write!(f, "volume {volume}"),
            (None, None) => f.write_str("partition"),
        }
    }
}

impl Place<'_> {
    /// Returns true if the content is one that is read here.
    pub const fn is_ext(&self) -> bool {
        matches!(self.content, Content::Ext2 | Content::Ext3 | Content::Ext4)
    }

    fn is(&self, wanted: &Wanted) -> bool {
        wanted.partition.is_none_or(|number| number == self.partition)
            && wanted.volume.as_ref().is_none_or(|volume| Some(volume) == self.volume.as_ref())
    }
}

/// Returns the partitions of a disk, or the disk itself when it has none, each followed by its logical volumes.
///
/// # Errors
/// [`FilesError::Read`]; [`FilesError::Table`] for a table that cannot be believed.
pub fn places(disk: &dyn ReadAt) -> Result<Vec<Place<'_>>, FilesError> {
    let whole = Window::whole(disk);
    let table = table::read(&whole, disk.sector_size()).map_err(|stop| match stop {
        Stop::Read(error) => FilesError::Read(error),
        Stop::Doubt(doubt) => FilesError::Table(doubt),
    })?;
    let Some(table) = table else { return of_window(WHOLE_DISK, whole) };
    let mut places = Vec::new();
    for partition in table.partitions {
        // The table was checked against the disk.
        let Some(window) = Window::new(disk, partition.range) else { continue };
        places.extend(of_window(partition.number, window)?);
    }
    Ok(places)
}

/// Finds the one place that is meant.
///
/// # Errors
/// [`FilesError`] when there is none, or more than one; both say what there is.
pub fn choose<'a>(disk: &'a dyn ReadAt, wanted: &Wanted) -> Result<Place<'a>, FilesError> {
    let mut places = match (places(disk), wanted.partition) {
        (Err(FilesError::Table(_)), Some(WHOLE_DISK)) => of_window(WHOLE_DISK, Window::whole(disk))?,
        (places, _) => places?,
    };
    let named = |place: &Place<'_>| format!("{place}: {}", place.content);
    let found = || match places.as_slice() {
        [] => "no partitions".to_owned(),
        places => places.iter().map(named).collect::<Vec<_>>().join(", "),
    };
    let meant = |place: &&Place<'_>| place.is(wanted);
    let (all, readable) =
        (places.iter().filter(meant).count(), places.iter().filter(meant).filter(|p| p.is_ext()).count());
    match (all, readable) {
        (0, _) => return Err(FilesError::NoPlace { wanted: wanted.to_string(), found: found() }),
        (_, 1) => places.retain(|place| place.is(wanted) && place.is_ext()),
        (1, 0) => places.retain(|place| place.is(wanted)),
        (_, count) => return Err(FilesError::Choose { count, found: found() }),
    }
    let place = places.pop().ok_or_else(|| FilesError::NoPlace { wanted: wanted.to_string(), found: String::new() })?;
    // Marks of several owners: who names the place may try.
    let tried = place.content == Content::Several && wanted.partition.is_some();
    if place.is_ext() || tried {
        return Ok(place);
    }
    Err(FilesError::NotExt { place: place.to_string(), content: place.content })
}

fn of_window(partition: u32, window: Window<'_>) -> Result<Vec<Place<'_>>, FilesError> {
    let content = content(&window)?;
    let mut places = vec![Place { partition, volume: None, content, device: Box::new(window) }];
    if content != Content::Lvm2 {
        return Ok(places);
    }
    // A group that is not understood has no volumes to show.
    let volumes = match lvm::volumes(&window) {
        Ok(volumes) => volumes,
        Err(Stop::Doubt(_)) => Vec::new(),
        Err(Stop::Read(error)) => return Err(error.into()),
    };
    for (name, device) in volumes {
        let content = self::content(&Window::whole(&device))?;
        places.push(Place { partition, volume: Some(name), content, device: Box::new(device) });
    }
    Ok(places)
}

fn content(window: &Window<'_>) -> Result<Content, FilesError> {
    Ok(match filesystem::owners(window)?.as_slice() {
        [] => Content::Unknown,
        [owner] => *owner,
        _ => Content::Several,
    })
}
