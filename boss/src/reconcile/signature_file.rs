//! The signature of a state while it is written: hashed on the way, and flushed as it grows, so that no flush takes long.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, Digest};

use crate::steps::Steps;

/// How much is written at most before it is flushed.
const UNFLUSHED: ByteLen = ByteLen::new(64 << 20);

/// A signature that is being written.
pub(super) struct SignatureFile(BufWriter<Hashed>);

struct Hashed {
    file: File,
    hash: Sha256,
    unflushed: ByteLen,
    steps: Steps,
}

impl SignatureFile {
    /// Makes the file; every piece that is written, and every flush, is a step.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn create(path: &Path, steps: Steps) -> io::Result<Self> {
        let (file, hash) = (File::create(path)?, Sha256::new());
        Ok(Self(BufWriter::with_capacity(1 << 20, Hashed { file, hash, unflushed: ByteLen::ZERO, steps })))
    }

    /// Has all of it flushed, and returns the digest of what was written.
    ///
    /// # Errors
    /// When it cannot be written or flushed.
    pub(super) fn finish(self) -> io::Result<Digest> {
        let Hashed { file, hash, .. } = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        failpoints::hit("verify.signature.written")?;
        file.sync_all()?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}

impl Write for SignatureFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.unflushed = ByteLen::new(self.unflushed.get().saturating_add(ByteLen::of(&bytes[..written]).get()));
        if self.unflushed >= UNFLUSHED {
            self.file.sync_data()?;
            self.unflushed = ByteLen::ZERO;
        }
        self.steps.add();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sig");
        let mut out = SignatureFile::create(&path, Steps::default()).unwrap();
        for piece in 0..70_u8 {
            out.write_all(&vec![piece; 1 << 20]).unwrap();
        }
        out.write_all(b"the end").unwrap();
        let digest = out.finish().unwrap();
        assert_eq!(Digest::of(&std::fs::read(&path).unwrap()), digest);
    }
}
