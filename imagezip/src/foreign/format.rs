//! Which format a file has, by its first bytes.

use std::io;

use sigs::{ByteLen, ByteOffset};

use crate::io::ReadAt;

/// A format a disk image can come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's, version 2 or 3.
    Qcow2,
    /// Emulab's, version 1 to 4.
    Ndz,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Ndz => "ndz",
        })
    }
}

/// Returns the format that the first bytes of a file say; raw when they say nothing.
///
/// # Errors
/// Whatever the medium says.
pub fn detect(file: &dyn ReadAt) -> io::Result<Format> {
    let mut magic = [0; 4];
    if file.len() < ByteLen::of(&magic) {
        return Ok(Format::Raw);
    }
    file.read_exact_at(&mut magic, ByteOffset::ZERO)?;
    Ok(match &magic {
        b"QFI\xfb" => Format::Qcow2,
        [b'i'..=b'l', b'i', b'i', b'i'] => Format::Ndz,
        _ => Format::Raw,
    })
}
