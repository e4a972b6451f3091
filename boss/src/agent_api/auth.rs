//! Who asks: the bearer secret of an agent that exchanged its boot token.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use boss_api::ErrorCode;
use boss_api::ids::{BootId, NodeId};
use boss_db::boots::{self, Boot, BootState};
use boss_db::{nodes, term};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::error::AppError;

/// An agent that may speak for a machine now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The machine.
    pub node: NodeId,
    /// The boot.
    pub boot: BootId,
    /// The machine's epoch.
    pub epoch: u64,
}

impl AgentIdentity {
    /// Checks that this boss still rules, the boot is not over and the machine did not change hands.
    pub(super) async fn still_valid(&self, app: &App) -> Result<(), AppError> {
        let mut conn = app.pool.acquire().await?;
        term::check(&mut conn, app.term).await?;
        let alive = boots::alive(&mut conn, self.node).await?;
        let node = nodes::get(&mut conn, self.node).await?;
        let valid = alive.is_some_and(|boot| boot.id == self.boot) && node.is_some_and(|node| node.epoch == self.epoch);
        if valid { Ok(()) } else { Err(over()) }
    }
}

/// Says that a boot is over.
pub(super) fn over() -> AppError {
    AppError::new(ErrorCode::Stale, "this boot is over: stop; boss will boot the machine when it is needed")
}

impl FromRequestParts<App> for AgentIdentity {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, AppError> {
        // One answer for every way of not being known.
        let unknown = || AppError::new(ErrorCode::NotSignedIn, "this request needs the secret of a registered agent");
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = header.and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(unknown)?;
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        hex::decode_to_slice(secret, &mut *bytes).map_err(|_| unknown())?;
        // Looked up by the hash of 32 random bytes: how long that takes says nothing about them.
        let hash: [u8; 32] = Sha256::digest(*bytes).into();
        let mut conn = app.pool.acquire().await?;
        // A boss that slept while another took over has nothing to say.
        term::check(&mut conn, app.term).await?;
        let boot: Boot = boots::by_secret(&mut conn, &hash).await?.ok_or_else(unknown)?;
        let node = nodes::get(&mut conn, boot.node_id).await?.ok_or_else(unknown)?;
        if boot.state != BootState::Registered || boot.epoch != node.epoch {
            return Err(over());
        }
        Ok(Self { node: node.id, boot: boot.id, epoch: boot.epoch })
    }
}
