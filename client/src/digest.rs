//! The digest of a file, read piece by piece.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, Digest};

/// Returns digest and size of a file as it is now.
///
/// # Errors
/// What reading it says.
pub fn digest_file(path: &Path) -> io::Result<(Digest, ByteLen)> {
    digest_open(&mut File::open(path)?)
}

/// Returns digest and size of an open file from where it stands.
///
/// # Errors
/// What reading it says.
pub fn digest_open(file: &mut File) -> io::Result<(Digest, ByteLen)> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    let mut bytes = 0_u64;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((Digest::from_bytes(hasher.finalize().into()), ByteLen::new(bytes)));
        }
        hasher.update(&piece[..read]);
        bytes += ByteLen::of(&piece[..read]).get();
    }
}
