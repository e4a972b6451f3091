//! Whether what is on the disk reaches further than the image: the one sign of a file that ends at the end of a chunk too
//! early, where no chunk says how many there are.

use sigs::{ByteLen, ByteOffset, ByteRange};

use crate::alloc::SurveyError;
use crate::alloc::doubt::Stop;
use crate::alloc::filesystem::{Probed, probe};
use crate::alloc::table::{self, Kind};
use crate::alloc::window::Window;
use crate::io::ReadAt;

/// How far what is on a disk reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not past the end of the image, or nobody knows.
    Inside,
    /// To the end of a partition.
    To(ByteLen),
    /// Past the end of the image.
    Further,
}

/// Looks at a disk that is longer than the image, which has `image_bytes`.
pub(super) fn of(disk: &dyn ReadAt, image_bytes: ByteLen) -> Result<Reach, SurveyError> {
    let long = Window::whole(disk);
    match table::read(&long, disk.sector_size()) {
        Ok(Some(table)) => {
            let ends = table.partitions.iter().filter_map(|partition| partition.range.checked_end());
            let end = ends.max().unwrap_or(ByteOffset::ZERO);
            let further = end.get() > image_bytes.get();
            return Ok(if further { Reach::To(ByteLen::new(end.get())) } else { Reach::Inside });
        }
        Ok(None) => {}
        Err(Stop::Doubt(_)) => return Ok(Reach::Inside),
        Err(Stop::Read(error)) => return Err(error),
    }
    let range = ByteRange { start: ByteOffset::ZERO, len: image_bytes };
    let Some(short) = Window::new(disk, range) else { return Ok(Reach::Inside) };
    // A file system that is believed, or doubted for another reason, only where there is room behind the image, does not
    // fit into the image.
    Ok(match (probe(&short, &Kind::disk(), None)?, probe(&long, &Kind::disk(), None)?) {
        (Probed::Doubted(..), Probed::Proven(_)) => Reach::Further,
        (Probed::Doubted(content, doubt), Probed::Doubted(there, other)) if content == there && doubt != other => {
            Reach::Further
        }
        _ => Reach::Inside,
    })
}
