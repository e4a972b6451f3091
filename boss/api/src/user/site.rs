//! Events and site variables.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::names::Name;

/// An event as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Rises with time.
    pub id: i64,
    /// A word for programs.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// The machine it is about.
    pub node: Option<Name>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Changes a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSetting {
    /// The new value, as text; absent: back to the default.
    pub value: Option<String>,
}

/// A setting as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Such as `swap/stall_timeout_s`.
    pub name: String,
    /// In force.
    pub value: String,
    /// When nobody changed it.
    pub default: String,
    /// What it does.
    pub help: String,
}
