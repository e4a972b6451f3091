//! What the size of a disk decides: where its last partition ends, and whether a backup GPT follows from it.

use std::collections::BTreeSet;
use std::io;

use sigs::image_map::{ImageMap, Origin};
use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange, Geometry, ReadAt, SectorSize};

use crate::alloc::doubt::{Stop, SurveyError};
use crate::alloc::table::backup::Backup;
use crate::alloc::table::{self, TableKind, mbr};
use crate::alloc::window::Window;

/// What the size of a disk has to do with what is on it.
#[derive(Debug)]
pub(super) struct DiskEnd {
    /// The end of the last partition of a table that is believed; of the disk where there is none.
    partitions_end: u64,
    pub(super) only_backup: bool,
    pub(super) backup: Option<Backup>,
}

impl DiskEnd {
    pub(super) fn of(disk: &dyn ReadAt, medium: SectorSize) -> Result<Self, SurveyError> {
        let disk_bytes = disk.len().get();
        let mut end = Self { partitions_end: disk_bytes, only_backup: false, backup: None };
        let window = Window::whole(disk);
        let table = match table::read(&window, medium) {
            Ok(Some(table)) => table,
            Ok(None) | Err(Stop::Doubt(_)) => return Ok(end),
            Err(Stop::Read(error)) => return Err(error),
        };
        let ends = table.partitions.iter().filter_map(|partition| partition.range.checked_end());
        let last = ends.map(ByteOffset::get).max().unwrap_or(0);
        match table.kind {
            TableKind::Gpt => {
                end.backup = Backup::find(&window, table.sector_size)?;
                end.partitions_end = last;
            }
            TableKind::Mbr => {
                // An extended partition may reach further than the logical ones in it.
                let entries = mbr::end_of_entries(&window.fetch(0, 512)?);
                let entries = entries.saturating_mul(u64::from(table.sector_size.bytes()));
                end.partitions_end = last.max(entries).min(disk_bytes);
            }
            TableKind::GptBackup { .. } => end.only_backup = true,
            TableKind::None | TableKind::Doubtful { .. } | TableKind::NotRead => {}
        }
        Ok(end)
    }

    /// Returns the least size of a disk for this one when its content reaches to `data_end`.
    pub(super) fn least(&self, data_end: u64) -> u64 {
        let end = self.partitions_end.max(data_end);
        self.backup.as_ref().map_or(end, |backup| backup.least(end))
    }

    /// Returns the blocks that hold nothing but parts of a derived backup GPT and zeros.
    pub(super) fn derived_blocks(&self, disk: &dyn ReadAt, geometry: &Geometry) -> io::Result<BTreeSet<u64>> {
        let mut derived = BTreeSet::new();
        let Some(backup) = &self.backup else { return Ok(derived) };
        let areas = backup.areas();
        let size = u64::from(geometry.block_size.bytes());
        let bounds = |range: ByteRange| (range.start.get(), range.start.get().saturating_add(range.len.get()));
        for (start, end) in areas.map(bounds) {
            for block in start / size..end.div_ceil(size) {
                let Some((offset, len)) = geometry.block_range(BlockIndex::new(block)) else { continue };
                let mut content = vec![0; len.to_usize().unwrap_or(0)];
                disk.read_exact_at(&mut content, offset)?;
                let inside = |place: u64| areas.iter().map(|area| bounds(*area)).any(|(s, e)| s <= place && place < e);
                if (offset.get()..).zip(&content).all(|(place, byte)| *byte == 0 || inside(place)) {
                    derived.insert(block);
                }
            }
        }
        Ok(derived)
    }
}

/// Returns the least size of a disk that holds the state of `disk`, which has this map.
///
/// Where the disk cannot be read again that is its own size.
pub(crate) fn least_bytes(disk: &dyn ReadAt, geometry: &Geometry, map: &ImageMap) -> ByteLen {
    let least = || -> io::Result<u64> {
        let end = DiskEnd::of(disk, geometry.sector_size).map_err(|SurveyError::Read { source, .. }| source)?;
        let derived = end.derived_blocks(disk, geometry)?;
        let mut data_end = 0;
        for (first, run) in map.runs() {
            let (Origin::Base(_) | Origin::Frame { .. }) = run.origin else { continue };
            // The derived blocks are few, and the last of a run is looked at first.
            let blocks = first.get()..first.get().saturating_add(run.blocks.get());
            let last = blocks.rev().find(|block| !derived.contains(block));
            let range = last.and_then(|block| geometry.block_range(BlockIndex::new(block)));
            if let Some((offset, len)) = range {
                data_end = offset.get().saturating_add(len.get());
            }
        }
        // A table that fills its own disk asks for more than that only on others.
        Ok(end.least(data_end).min(geometry.disk_bytes.get()))
    };
    least().map_or(geometry.disk_bytes, ByteLen::new)
}
