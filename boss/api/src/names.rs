//! Names that people give: parsed once, so that none ever reaches a path or a query unchecked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name of a user, project, experiment, node, disk or image: a lower-case letter, then up to 31 lower-case
/// letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Text that is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name: a name begins with a lower-case letter and has at most 32 lower-case letters, digits and hyphens"
)]
pub struct BadName {
    text: String,
}

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// [`BadName`] when it breaks the rule above.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let mut letters = text.bytes();
        let first = letters.next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if first && rest && text.len() <= 32 {
            Ok(Self(text.into()))
        } else {
            Err(BadName { text: text.chars().take(64).collect() })
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// The full name of an experiment: `pid/eid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExperimentName {
    /// The project.
    pub pid: Name,
    /// The experiment within it.
    pub eid: Name,
}

impl fmt::Display for ExperimentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pid, self.eid)
    }
}

impl FromStr for ExperimentName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (pid, eid) = text.split_once('/').ok_or_else(|| BadName { text: text.chars().take(64).collect() })?;
        Ok(Self { pid: pid.parse()?, eid: eid.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_names() {
        for good in ["a", "node-1", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "A", "a/b", "a.b", "..", "a b", "é", "abcdefghijklmnopqrstuvwxyz0123456"] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!("p/e".parse::<ExperimentName>().is_ok());
        assert!("p".parse::<ExperimentName>().is_err());
        assert!("p/e/x".parse::<ExperimentName>().is_err());
    }
}
