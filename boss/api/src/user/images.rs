//! Images.

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, Digest, Root};
use time::OffsetDateTime;

use crate::names::Name;

/// Registers a sealed base image whose files were uploaded as objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterImage {
    /// The project; `system` for the site's own.
    pub project: Name,
    /// The image.
    pub name: Name,
    /// The exact bytes of the sealed file (`.manifest`).
    pub sealed: String,
}

/// An image as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// The project.
    pub project: Name,
    /// The image.
    pub name: Name,
    /// Its versions, newest first.
    pub versions: Vec<ImageVersionView>,
}

/// A version of an image as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVersionView {
    /// Numbered from 1.
    pub version: u32,
    /// The digest of the `.zdi` file.
    pub zdi: Digest,
    /// Its size.
    pub zdi_bytes: ByteLen,
    /// The root of the state.
    pub root: Root,
    /// The size of the disk it was made from.
    pub disk_bytes: ByteLen,
    /// Who sealed it.
    pub key: sigs::seal::KeyId,
    /// Retired images are not loaded any more; states saved against them still restore.
    pub retired: bool,
    /// When it was registered.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}
