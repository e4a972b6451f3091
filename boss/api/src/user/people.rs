//! Who asks: logging in, and what a user may do on the site.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::names::Name;

/// Asks for a token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Who.
    pub user: String,
    /// The password; at most 1024 bytes.
    pub password: String,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Gives a token, to be sent as `Authorization: Bearer`.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoginAnswer {
    /// The token: a secret.
    pub token: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for LoginAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginAnswer").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a user may do on the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Uses own projects.
    Member,
    /// Also deals with machines.
    Operator,
    /// Also with users, keys, images and settings.
    Admin,
}

/// Who is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// The user.
    pub user: Name,
    /// The role.
    pub role: UserRole,
    /// The projects.
    pub projects: Vec<Name>,
}
