//! What `ls`, `cat` and `cp` share: which images, which file system in them, which path.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use imagezip::files::{BadWatch, Volume, Wanted, choose};
use imagezip::image::ImageDisk;

use crate::incomplete;
use crate::open;
use crate::session::Session;

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct Inside {
    /// The image; of a delta image its base first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// The partition, when more than one has files; 0 is the disk as a whole
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// The LVM volume, when more than one has files
    #[arg(long, value_name = "GROUP/NAME")]
    volume: Option<String>,
}

impl Inside {
    pub(crate) fn images(&self) -> &[PathBuf] {
        &self.images
    }
}

/// Opens the file system, lets `work` read it, and then says whether that met sectors that were never saved.
pub(crate) fn with<T>(
    session: &Session,
    inside: &Inside,
    work: impl FnOnce(&Volume<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let chain = Arc::new(open::chain_maps(&inside.images)?);
    let disk = ImageDisk::new(Arc::clone(&chain));
    let watch = BadWatch::new(&disk, chain.manifest().bad_sectors());
    let wanted = Wanted { partition: inside.partition, volume: inside.volume.clone() };
    let name = inside.images.last().map(|image| image.display().to_string()).unwrap_or_default();
    let volume = choose(&watch, &wanted).and_then(Volume::open).with_context(|| format!("open {name}"))?;
    if volume.was_in_use() {
        session.say(&format!("{name}: the file system was in use; it is shown as its journal leaves it"));
    }
    let result = work(&volume);
    if watch.was_read() {
        // What failed comes first: zeros in place of metadata may well be why.
        let incomplete = incomplete::check(session, chain.manifest());
        return result.and_then(|done| incomplete.map(|()| done));
    }
    result
}

/// Returns a path as the bytes that it is in the image.
pub(crate) fn bytes(path: &OsString) -> &[u8] {
    path.as_encoded_bytes()
}
