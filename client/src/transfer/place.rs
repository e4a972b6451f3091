//! Where an item comes from and where it goes: a path of this machine, or a boss.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sigs::Digest;

use super::record::RawPath;

/// One end of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// A path of this machine.
    Path(RawPath),
    /// An object that a boss has.
    Object(Object),
    /// The store of a boss: what arrives there is named by its digest.
    Store(Store),
}

/// An object that a boss has. It cannot change: another content has another digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// The address of the boss.
    pub boss: Address,
    /// Its digest.
    pub digest: Digest,
}

/// The store of a boss.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The address of the boss.
    pub boss: Address,
}

/// The address of a boss, as people give it. Who is to ask there, and with which token, is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// Takes an address. One more slash at its end makes no other address.
    pub fn new(url: &str) -> Self {
        Self(url.trim_end_matches('/').to_owned())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place {
    /// Returns the path, of what is on this machine.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path.as_path()),
            Self::Object(_) | Self::Store(_) => None,
        }
    }

    /// Returns the boss, of what is not on this machine.
    pub const fn boss(&self) -> Option<&Address> {
        match self {
            Self::Path(_) => None,
            Self::Object(Object { boss, .. }) | Self::Store(Store { boss }) => Some(boss),
        }
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Path(RawPath::from(path))
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.as_path().display()),
            Self::Object(Object { boss, digest }) => write!(f, "the object {digest} of boss at {boss}"),
            Self::Store(Store { boss }) => write!(f, "the store of boss at {boss}"),
        }
    }
}
