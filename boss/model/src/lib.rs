//! The domain of boss, pure: states and their transitions, who may overwrite what, and the settings of the site.
//!
//! No IO, no clock, no SQL, no HTTP: everything here can be tested by table. Every move is a consuming method that
//! returns the next state or an [`InvalidTransition`]; `boss-db` only carries out moves that were made here.
//!
//! - [`node`], [`capture`], [`experiment`], [`point`], [`job`], [`mod@write`]: one state machine each
//! - [`permit`]: the rule that nothing is overwritten without evidence that nothing is lost
//! - [`term`]: who rules
//! - [`settings`]: the site's variables

pub mod capture;
pub mod experiment;
pub mod job;
pub mod node;
pub mod permit;
pub mod point;
pub mod settings;
pub mod term;
pub mod write;

/// A move that the rules do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no way from {from} to {to}")]
pub struct InvalidTransition {
    /// The state it is in.
    pub from: &'static str,
    /// Where it was to go.
    pub to: &'static str,
}

/// Text that is not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a state")]
pub struct UnknownState(pub String);

/// Declares the words of a fieldless state, as the database and people read them.
macro_rules! state_words {
    ($name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownState;
            fn from_str(text: &str) -> Result<Self, $crate::UnknownState> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|state| state.as_str() == text)
                    .ok_or_else(|| $crate::UnknownState(text.into()))
            }
        }
    };
}
pub(crate) use state_words;
