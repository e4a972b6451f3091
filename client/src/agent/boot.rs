//! What an agent begins with: its boot parameters, read once, and a secret that never leaves its memory but as bearer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use boss_api::agent::{BootParameters, PROTOCOL};
use boss_api::names::Name;
use sigs::Digest;
use sigs::seal::{PublicKey, SealError, TrustedKeys};

/// The longest file of boot parameters.
const MAX_BYTES: u64 = 1 << 20;

/// Boot parameters that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be read, or not be removed after that.
    #[error("{action} the boot parameters {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not the right shape. What was found is not shown: it holds a secret.
    #[error("the boot parameters are not understood: line {line}, column {column}")]
    Shape {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// Another version of the protocol.
    #[error("boss speaks version {found} of the protocol, this agent {PROTOCOL}: boot an agent of the same version")]
    Protocol {
        /// What boss speaks.
        found: u32,
    },
    /// A key that is none.
    #[error("a key of the boot parameters is refused")]
    Key(#[source] SealError),
    /// No disk, or a path that is not absolute.
    #[error("the boot parameters name {0}")]
    Disks(String),
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What identifies an agent to boss, and nobody else. Made in RAM.
#[derive(Clone)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Makes 32 random bytes, written as hexadecimal.
    ///
    /// # Errors
    /// [`BootError::Random`].
    pub fn make() -> Result<Self, BootError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(BootError::Random)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Returns the text to send as bearer.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what boss keeps: the SHA-256 of the 32 bytes.
    pub fn hash(&self) -> Digest {
        // The text is hexadecimal because `make` wrote it.
        Digest::of(&hex::decode(&self.0).unwrap_or_default())
    }
}

/// Boot parameters, understood.
#[derive(Debug)]
pub struct Boot {
    /// Where boss is.
    pub boss_url: String,
    /// Whose boot this is.
    pub node: Name,
    /// Exchanged once for the agent's own secret.
    pub(super) token: Secret,
    /// Whose permits and swap points are believed.
    pub boss_keys: TrustedKeys,
    /// Whose base images are believed.
    pub base_keys: TrustedKeys,
    /// The disks of this machine.
    pub disks: BTreeMap<Name, PathBuf>,
}

impl Boot {
    /// Reads boot parameters from a file and removes it, so that its token is not there for others to find.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn take(path: &Path) -> Result<Self, BootError> {
        let failed = |action| move |source| BootError::File { action, path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed("open"))?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed("read"))?;
        fs::remove_file(path).map_err(failed("remove"))?;
        let parameters: BootParameters = serde_json::from_slice(&bytes)
            .map_err(|error| BootError::Shape { line: error.line(), column: error.column() })?;
        Self::new(parameters)
    }

    /// Checks boot parameters.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn new(parameters: BootParameters) -> Result<Self, BootError> {
        let BootParameters { protocol, boss_url, node, boot_token, boss_keys, base_keys, disks } = parameters;
        if protocol != PROTOCOL {
            return Err(BootError::Protocol { found: protocol });
        }
        let mut places = BTreeMap::new();
        for disk in disks {
            let path = PathBuf::from(disk.path);
            if !path.is_absolute() {
                return Err(BootError::Disks(format!("{} at {}, which is not absolute", disk.name, path.display())));
            }
            if places.insert(disk.name.clone(), path).is_some() {
                return Err(BootError::Disks(format!("{} twice", disk.name)));
            }
        }
        if places.is_empty() {
            return Err(BootError::Disks("no disk".to_owned()));
        }
        Ok(Self {
            boss_url,
            node,
            token: Secret(boot_token),
            boss_keys: keys(&boss_keys)?,
            base_keys: keys(&base_keys)?,
            disks: places,
        })
    }
}

fn keys(pems: &[String]) -> Result<TrustedKeys, BootError> {
    let keys: Result<Vec<_>, _> = pems.iter().map(|pem| PublicKey::from_pem(pem)).collect();
    keys.map(TrustedKeys::new).map_err(BootError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_random_and_not_shown() {
        let (a, b) = (Secret::make().unwrap(), Secret::make().unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_eq!(a.expose().len(), 64);
        assert!(!format!("{a:?}").contains(a.expose()));
    }

    #[test]
    fn the_file_is_gone_after_reading_and_its_content_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.json");
        fs::write(&path, "{\"boot_token\": \"s3cret\"").unwrap();
        let error = Boot::take(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(!path.exists());
    }
}
