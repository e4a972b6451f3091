//! boss's own key: it seals permits and swap points. Base images are sealed by admins, never by boss.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use boss_api::agent::SwapPointStatement;
use boss_model::permit::IssuedPermit;
use sigs::seal::{PublicKey, SealError, SealKind, Sealed, SigningKey};

/// boss's signing key.
#[derive(Debug)]
pub struct BossKeys {
    signing: SigningKey,
    public_pem: String,
}

/// Why boss has no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("open boss's key {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no key.
    #[error("boss's key {path} is refused")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SealError,
    },
    /// No randomness.
    #[error("make a key: the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl BossKeys {
    /// Reads `<state>/keys/boss.pem`, or makes it when this boss starts for the first time.
    ///
    /// # Errors
    /// [`KeyError`] naming the file.
    pub fn load_or_create(state: &Path) -> Result<Self, KeyError> {
        let folder = state.join("keys");
        let path = folder.join("boss.pem");
        let file_error = |source| KeyError::File { path: path.clone(), source };
        let key_error = |source| KeyError::Key { path: path.clone(), source };
        match std::fs::read_to_string(&path) {
            Ok(pem) => return Self::from_key(SigningKey::from_pem(&pem).map_err(key_error)?).map_err(key_error),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(error)),
        }
        crate::store::make_private_dir(&folder).map_err(file_error)?;
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyError::Random)?;
        let signing = SigningKey::from_seed(&seed);
        let pem = zeroize::Zeroizing::new(signing.to_pem().map_err(key_error)?);
        // Whole or not at all: half a key would lock this boss out of its own seals.
        let partial = folder.join("boss.pem.new");
        let write = || {
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&partial, &path)?;
            std::fs::File::open(&folder)?.sync_all()
        };
        write().map_err(file_error)?;
        Self::from_key(signing).map_err(key_error)
    }

    /// Takes a key; the seam for tests.
    ///
    /// # Errors
    /// [`SealError::Key`] when its public half cannot be written.
    pub fn from_key(signing: SigningKey) -> Result<Self, SealError> {
        let public_pem = signing.public().to_pem()?;
        Ok(Self { signing, public_pem })
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        self.signing.public()
    }

    /// Returns the public half as PEM, for agents.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Seals leave to write to a disk, which only the rule issues.
    pub fn seal_permit(&self, issued: &IssuedPermit) -> Sealed {
        Sealed::sign(SealKind::Permit, to_text(issued.permit()), &self.signing)
    }

    /// Seals what a swap point is.
    pub fn seal_point(&self, statement: &SwapPointStatement) -> Sealed {
        Sealed::sign(SealKind::SwapPoint, to_text(statement), &self.signing)
    }
}

fn to_text(statement: &impl serde::Serialize) -> String {
    serde_json::to_string(statement).expect("statements hold only strings and numbers, which JSON always takes")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let state = tempfile::tempdir().unwrap();
        let first = BossKeys::load_or_create(state.path()).unwrap();
        let again = BossKeys::load_or_create(state.path()).unwrap();
        assert_eq!(first.public(), again.public());
        let mode = std::fs::metadata(state.path().join("keys/boss.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_damaged_key_is_said_and_not_replaced() {
        let state = tempfile::tempdir().unwrap();
        BossKeys::load_or_create(state.path()).unwrap();
        let path = state.path().join("keys/boss.pem");
        std::fs::write(&path, "nonsense").unwrap();
        assert!(BossKeys::load_or_create(state.path()).unwrap_err().to_string().contains("boss.pem"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
    }
}
