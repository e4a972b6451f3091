//! Boots of the memory file system: who may speak for a machine.

use boss_api::ids::{BootId, NodeId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint};
use crate::error::{DbError, Outcome, exactly_one};

/// How far a boot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootState {
    /// Started, not heard of.
    Booting,
    /// Its agent has spoken.
    Registered,
    /// Over.
    Ended,
    /// Two claimed to be it: neither is believed.
    Revoked,
}

impl BootState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Registered => "registered",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// A boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The id.
    pub id: BootId,
    /// The machine.
    pub node_id: NodeId,
    /// The machine's epoch when it was started.
    pub epoch: u64,
    /// How far it is.
    pub state: BootState,
    /// When it was started.
    pub created_at: OffsetDateTime,
    /// Until when its token is taken.
    pub expires_at: OffsetDateTime,
    /// When its agent was last heard of.
    pub last_seen_at: Option<OffsetDateTime>,
    /// The hash of its agent's secret.
    pub secret_hash: Option<[u8; 32]>,
}

struct Columns {
    id: Uuid,
    node_id: Uuid,
    epoch: i64,
    state: String,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    last_seen_at: Option<OffsetDateTime>,
    secret_hash: Option<Vec<u8>>,
}

impl TryFrom<Columns> for Boot {
    type Error = DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("agent_boots", columns.id);
        let states = [BootState::Booting, BootState::Registered, BootState::Ended, BootState::Revoked];
        let state = states.into_iter().find(|state| state.as_str() == columns.state);
        Ok(Self {
            id: BootId::new(columns.id),
            node_id: NodeId::new(columns.node_id),
            epoch: row.number("epoch", columns.epoch)?,
            state: state.ok_or_else(|| row.wrong("state", &columns.state))?,
            created_at: columns.created_at,
            expires_at: columns.expires_at,
            last_seen_at: columns.last_seen_at,
            secret_hash: columns.secret_hash.map(|hash| row.bytes32("secret_hash", &hash)).transpose()?,
        })
    }
}

/// A boot to start.
#[derive(Clone, Copy, Debug)]
pub struct NewBoot {
    /// Made by the caller.
    pub id: BootId,
    /// The machine.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// The hash of the token it gets.
    pub token_hash: [u8; 32],
    /// Now.
    pub at: OffsetDateTime,
    /// Until when the token is taken.
    pub expires_at: OffsetDateTime,
}

/// Notes a boot before it is started. A second one alive is refused by the constraint `agent_boots_alive`.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, boot: NewBoot) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO agent_boots (id, node_id, epoch, token_hash, state, created_at, expires_at)
         VALUES ($1, $2, $3, $4, 'booting', $5, $6)",
        boot.id.uuid(),
        boot.node.uuid(),
        bigint("epoch", boot.epoch)?,
        boot.token_hash.as_slice(),
        boot.at,
        boot.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the boot of a machine that is alive.
///
/// # Errors
/// What the database says.
pub async fn alive(conn: &mut PgConnection, node: NodeId) -> Outcome<Option<Boot>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, node_id, epoch, state, created_at, expires_at, last_seen_at, secret_hash FROM agent_boots
         WHERE node_id = $1 AND state IN ('booting', 'registered')",
        node.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the boot a token belongs to, and locks it: of two claims at once one is first.
///
/// # Errors
/// What the database says.
pub async fn lock_by_token(conn: &mut PgConnection, token_hash: &[u8; 32]) -> Outcome<Option<Boot>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, node_id, epoch, state, created_at, expires_at, last_seen_at, secret_hash FROM agent_boots
         WHERE token_hash = $1 FOR UPDATE",
        token_hash.as_slice()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the boot whose agent has this secret, in whatever state it is.
///
/// # Errors
/// What the database says.
pub async fn by_secret(conn: &mut PgConnection, secret_hash: &[u8; 32]) -> Outcome<Option<Boot>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, node_id, epoch, state, created_at, expires_at, last_seen_at, secret_hash FROM agent_boots
         WHERE secret_hash = $1",
        secret_hash.as_slice()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Exchanges the token for the secret.
///
/// # Errors
/// [`DbError::LostRace`] unless it was booting; what the database says.
pub async fn register(conn: &mut PgConnection, id: BootId, secret_hash: &[u8; 32], at: OffsetDateTime) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE agent_boots SET state = 'registered', secret_hash = $2, last_seen_at = $3
         WHERE id = $1 AND state = 'booting'",
        id.uuid(),
        secret_hash.as_slice(),
        at
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("boot {id}"))
}

/// Notes that an agent was heard of.
///
/// # Errors
/// What the database says.
pub async fn seen(conn: &mut PgConnection, id: BootId, at: OffsetDateTime) -> Outcome<()> {
    sqlx::query!("UPDATE agent_boots SET last_seen_at = $2 WHERE id = $1", id.uuid(), at).execute(conn).await?;
    Ok(())
}

/// Ends a boot: its agent is not believed any more. Repeating it changes nothing.
///
/// # Errors
/// What the database says.
pub async fn end(conn: &mut PgConnection, id: BootId) -> Outcome<()> {
    sqlx::query!(
        "UPDATE agent_boots SET state = 'ended' WHERE id = $1 AND state IN ('booting', 'registered')",
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Revokes a boot that two agents claim.
///
/// # Errors
/// What the database says.
pub async fn revoke(conn: &mut PgConnection, id: BootId) -> Outcome<()> {
    sqlx::query!("UPDATE agent_boots SET state = 'revoked' WHERE id = $1", id.uuid()).execute(conn).await?;
    Ok(())
}

/// Returns how many boots of a machine were started since then.
///
/// # Errors
/// What the database says.
pub async fn started_since(conn: &mut PgConnection, node: NodeId, since: OffsetDateTime) -> Outcome<u32> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM agent_boots WHERE node_id = $1 AND created_at >= $2"#,
        node.uuid(),
        since
    )
    .fetch_one(conn)
    .await?;
    Row::new("agent_boots", node).number("count", count)
}
