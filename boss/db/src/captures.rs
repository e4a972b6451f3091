//! The saving of disks.

use boss_api::Name;
use boss_api::agent::{CaptureProgress, FailureClass};
use boss_api::ids::{BootId, CaptureId, DiskId, ExperimentId, ImageVersionId, NodeId, SwapPointId, VirtualNodeId};
use boss_model::capture::{CaptureState, CaptureStep, class_word, parse_class};
use sigs::{ByteLen, Digest, Root};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint, integer};
use crate::error::{DbError, Outcome, exactly_one};

/// The saving of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The id.
    pub id: CaptureId,
    /// Of which swap point.
    pub point: SwapPointId,
    /// Of which virtual node.
    pub virtual_node: VirtualNodeId,
    /// The virtual node's name.
    pub vname: Name,
    /// On which machine.
    pub node: NodeId,
    /// Of which disk.
    pub disk: DiskId,
    /// The disk's name.
    pub disk_name: Name,
    /// In which epoch of the machine.
    pub epoch: u64,
    /// How far it is.
    pub state: CaptureState,
    /// The present attempt; 0 before the first.
    pub attempt: u32,
    /// How many of them were made before somebody last said "retry".
    pub attempts_before: u32,
    /// In which boot the present attempt is made.
    pub boot: Option<BootId>,
    /// When the present attempt began.
    pub attempt_at: Option<OffsetDateTime>,
    /// When a byte was last scanned or sent.
    pub progress_at: Option<OffsetDateTime>,
    /// The image the disk was loaded from.
    pub base: Option<ImageVersionId>,
    /// The root of the state that the agent saw.
    pub target_root: Option<Root>,
    /// The image file.
    pub zdi: Option<(Digest, ByteLen)>,
    /// The least number of bytes a disk must have for the state.
    pub min_disk_bytes: Option<ByteLen>,
    /// The derived signature of the state.
    pub sig: Option<Digest>,
    /// The place of the disk among those of its machine.
    pub position: u32,
}

struct Columns {
    id: Uuid,
    swap_point_id: Uuid,
    virtual_node_id: Uuid,
    vname: String,
    node_id: Uuid,
    disk_id: Uuid,
    disk_name: String,
    epoch: i64,
    state: String,
    failure_class: Option<String>,
    failure_reason: Option<String>,
    attempt: i32,
    attempts_before: i32,
    boot_id: Option<Uuid>,
    attempt_at: Option<OffsetDateTime>,
    progress_at: Option<OffsetDateTime>,
    base_version_id: Option<Uuid>,
    target_root: Option<Vec<u8>>,
    zdi_digest: Option<Vec<u8>>,
    zdi_bytes: Option<i64>,
    min_disk_bytes: Option<i64>,
    sig_digest: Option<Vec<u8>>,
    position: i32,
}

impl TryFrom<Columns> for Capture {
    type Error = DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("captures", columns.id);
        let step: CaptureStep = row.parse("state", &columns.state)?;
        let state = match (step, columns.failure_class, columns.failure_reason) {
            (CaptureStep::Failed, Some(class), Some(reason)) => CaptureState::Failed {
                class: parse_class(&class).map_err(|error| row.wrong("failure_class", error))?,
                reason,
            },
            (CaptureStep::Failed, ..) => return Err(row.wrong("failure_class", "failed, and nothing says why")),
            (CaptureStep::Planned, ..) => CaptureState::Planned,
            (CaptureStep::Frozen, ..) => CaptureState::Frozen,
            (CaptureStep::Streaming, ..) => CaptureState::Streaming,
            (CaptureStep::Received, ..) => CaptureState::Received,
            (CaptureStep::Verified, ..) => CaptureState::Verified,
            (CaptureStep::Retired, ..) => CaptureState::Retired,
        };
        let digest = |column, bytes: Option<Vec<u8>>| {
            bytes.map(|bytes| row.bytes32(column, &bytes).map(Digest::from_bytes)).transpose()
        };
        let zdi = digest("zdi_digest", columns.zdi_digest)?;
        let zdi_bytes = columns.zdi_bytes.map(|bytes| row.number("zdi_bytes", bytes)).transpose()?;
        Ok(Self {
            id: CaptureId::new(columns.id),
            point: SwapPointId::new(columns.swap_point_id),
            virtual_node: VirtualNodeId::new(columns.virtual_node_id),
            vname: row.parse("vname", &columns.vname)?,
            node: NodeId::new(columns.node_id),
            disk: DiskId::new(columns.disk_id),
            disk_name: row.parse("disk", &columns.disk_name)?,
            epoch: row.number("epoch", columns.epoch)?,
            state,
            attempt: row.number("attempt", columns.attempt)?,
            attempts_before: row.number("attempts_before", columns.attempts_before)?,
            boot: columns.boot_id.map(BootId::new),
            attempt_at: columns.attempt_at,
            progress_at: columns.progress_at,
            base: columns.base_version_id.map(ImageVersionId::new),
            target_root: columns
                .target_root
                .map(|bytes| row.bytes32("target_root", &bytes).map(Root::from_bytes))
                .transpose()?,
            zdi: zdi.zip(zdi_bytes.map(ByteLen::new)),
            min_disk_bytes: columns
                .min_disk_bytes
                .map(|bytes| row.number("min_disk_bytes", bytes).map(ByteLen::new))
                .transpose()?,
            sig: digest("sig_digest", columns.sig_digest)?,
            position: row.number("position", columns.position)?,
        })
    }
}

/// A capture to plan.
#[derive(Clone, Copy, Debug)]
pub struct NewCapture {
    /// Made by the caller.
    pub id: CaptureId,
    /// Of which swap point.
    pub point: SwapPointId,
    /// Of which virtual node.
    pub virtual_node: VirtualNodeId,
    /// On which machine.
    pub node: NodeId,
    /// Of which disk.
    pub disk: DiskId,
    /// In which epoch of the machine.
    pub epoch: u64,
    /// The image the disk was loaded from.
    pub base: Option<ImageVersionId>,
}

/// Plans a capture.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, new: NewCapture) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO captures (id, swap_point_id, virtual_node_id, node_id, disk_id, epoch, state, base_version_id)
         VALUES ($1, $2, $3, $4, $5, $6, 'planned', $7)",
        new.id.uuid(),
        new.point.uuid(),
        new.virtual_node.uuid(),
        new.node.uuid(),
        new.disk.uuid(),
        bigint("epoch", new.epoch)?,
        new.base.map(ImageVersionId::uuid),
    )
    .execute(conn)
    .await?;
    Ok(())
}

macro_rules! select {
    ($condition:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Columns,
            "SELECT c.id, c.swap_point_id, c.virtual_node_id, v.vname, c.node_id, c.disk_id, d.name AS disk_name,
                    c.epoch, c.state, c.failure_class, c.failure_reason, c.attempt, c.attempts_before, c.boot_id,
                    c.attempt_at, c.progress_at, c.base_version_id, c.target_root, c.zdi_digest, c.zdi_bytes,
                    c.min_disk_bytes, c.sig_digest, d.position
             FROM captures c JOIN virtual_nodes v ON v.id = c.virtual_node_id JOIN disks d ON d.id = c.disk_id
             WHERE " + $condition + " ORDER BY v.vname, d.position",
            $($argument),+
        )
    };
}

/// Returns a capture.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, id: CaptureId) -> Outcome<Option<Capture>> {
    select!("c.id = $1", id.uuid()).fetch_optional(conn).await?.map(TryInto::try_into).transpose()
}

/// Returns the captures of a machine in one of its epochs.
///
/// # Errors
/// What the database says.
pub async fn of_node(conn: &mut PgConnection, node: NodeId, epoch: u64) -> Outcome<Vec<Capture>> {
    let rows = select!("c.node_id = $1 AND c.epoch = $2", node.uuid(), bigint("epoch", epoch)?).fetch_all(conn).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Returns the captures of a swap point, by virtual node and disk.
///
/// # Errors
/// What the database says.
pub async fn of_point(conn: &mut PgConnection, point: SwapPointId) -> Outcome<Vec<Capture>> {
    let rows = select!("c.swap_point_id = $1", point.uuid()).fetch_all(conn).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Returns all captures in a state.
///
/// # Errors
/// What the database says.
pub async fn in_step(conn: &mut PgConnection, step: CaptureStep) -> Outcome<Vec<Capture>> {
    let rows = select!("c.state = $1", step.as_str()).fetch_all(conn).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

const fn words(state: &CaptureState) -> (Option<&'static str>, Option<&String>) {
    match state {
        CaptureState::Failed { class, reason } => (Some(class_word(*class)), Some(reason)),
        CaptureState::Planned
        | CaptureState::Frozen
        | CaptureState::Streaming
        | CaptureState::Received
        | CaptureState::Verified
        | CaptureState::Retired => (None, None),
    }
}

/// Moves a capture from the state, epoch and attempt it was read in to another state, in this term.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn transition(
    conn: &mut PgConnection,
    term: u64,
    capture: &Capture,
    to: &CaptureState,
    at: OffsetDateTime,
) -> Outcome<()> {
    let (class, reason) = words(to);
    let ends = matches!(to.step(), CaptureStep::Verified | CaptureStep::Failed);
    let done = sqlx::query!(
        "UPDATE captures SET state = $5, failure_class = $6, failure_reason = $7,
                             ended_at = CASE WHEN $8 THEN $9 ELSE ended_at END
         WHERE id = $1 AND state = $2 AND epoch = $3 AND attempt = $4 AND (SELECT term FROM boss_term) = $10",
        capture.id.uuid(),
        capture.state.step().as_str(),
        bigint("epoch", capture.epoch)?,
        integer("attempt", capture.attempt)?,
        to.step().as_str(),
        class,
        reason.map(|reason| reason.chars().take(2000).collect::<String>()),
        ends,
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// Waits for the turn to let a capture begin, until the transaction ends, and returns how many are under way on the
/// whole site: those that a boot which is alive works on.
///
/// # Errors
/// What the database says.
pub async fn under_way(conn: &mut PgConnection) -> Outcome<u32> {
    // The number is that of this table alone: nobody else takes such a lock.
    sqlx::query!("SELECT pg_advisory_xact_lock('captures'::regclass::oid::bigint)").execute(&mut *conn).await?;
    let found = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM captures c JOIN agent_boots b ON b.id = c.boot_id
           JOIN nodes n ON n.id = c.node_id
           WHERE c.state IN ('planned', 'frozen', 'streaming') AND b.state IN ('booting', 'registered')
             AND n.state = 'capturing' AND n.epoch = c.epoch"#
    )
    .fetch_one(conn)
    .await?;
    Row::new("captures", "all").number("count", found)
}

/// Begins the next attempt of a planned capture in a boot. What an older attempt still sends is refused from now on.
///
/// # Errors
/// [`DbError::LostRace`] when it is not planned or the term is over; what the database says.
pub async fn assign(
    conn: &mut PgConnection,
    term: u64,
    capture: &Capture,
    boot: BootId,
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE captures SET attempt = attempt + 1, boot_id = $4, attempt_at = $5, progress_at = NULL,
                started_at = coalesce(started_at, $5), ended_at = NULL, scanned_bytes = 0, changed_bytes = 0,
                sent_bytes = 0, target_root = NULL, zdi_digest = NULL, zdi_bytes = NULL
         WHERE id = $1 AND state = 'planned' AND epoch = $2 AND attempt = $3 AND (SELECT term FROM boss_term) = $6",
        capture.id.uuid(),
        bigint("epoch", capture.epoch)?,
        integer("attempt", capture.attempt)?,
        boot.uuid(),
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// Plans a failed capture again because a person said so: its attempts are counted from here.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn retry(conn: &mut PgConnection, term: u64, capture: &Capture) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE captures SET state = 'planned', attempts_before = attempt, failure_class = NULL, failure_reason = NULL
         WHERE id = $1 AND state = 'failed' AND attempt = $2 AND (SELECT term FROM boss_term) = $3",
        capture.id.uuid(),
        integer("attempt", capture.attempt)?,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// Lets the next attempt of a planned or failed capture save the whole disk because a person said so: its attempts
/// are counted from here.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn whole(conn: &mut PgConnection, term: u64, capture: &Capture) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE captures SET state = 'planned', attempts_before = attempt, failure_class = NULL, failure_reason = NULL,
                base_version_id = NULL
         WHERE id = $1 AND state = $2 AND attempt = $3 AND (SELECT term FROM boss_term) = $4",
        capture.id.uuid(),
        capture.state.step().as_str(),
        integer("attempt", capture.attempt)?,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// Notes how far an attempt is. The stall clock is only wound when a byte more was scanned or sent.
///
/// # Errors
/// [`DbError::LostRace`] when the attempt is over; what the database says.
pub async fn progress(
    conn: &mut PgConnection,
    capture: &Capture,
    progress: &CaptureProgress,
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE captures SET scanned_bytes = greatest(scanned_bytes, $3), total_bytes = $4,
                changed_bytes = greatest(changed_bytes, $5), sent_bytes = greatest(sent_bytes, $6),
                progress_at = CASE WHEN $3 > scanned_bytes OR $6 > sent_bytes THEN $7 ELSE progress_at END
         WHERE id = $1 AND attempt = $2 AND state IN ('frozen', 'streaming')",
        capture.id.uuid(),
        integer("attempt", capture.attempt)?,
        bigint("scanned_bytes", progress.scanned_bytes)?,
        bigint("total_bytes", progress.total_bytes)?,
        bigint("changed_bytes", progress.changed_bytes)?,
        bigint("sent_bytes", progress.sent_bytes)?,
        at,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// What was received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The image file.
    pub zdi: Digest,
    /// Its size.
    pub zdi_bytes: ByteLen,
    /// The root of the state that the agent saw.
    pub target_root: Root,
    /// The least number of bytes a disk must have for the state.
    pub min_disk_bytes: ByteLen,
    /// Whether it refers to the image the disk was loaded from; else it stands alone.
    pub refers_to_base: bool,
}

/// Notes what was received, with the move to `received`.
///
/// # Errors
/// [`DbError::LostRace`] when the attempt is over or the term is; what the database says.
pub async fn received(conn: &mut PgConnection, term: u64, capture: &Capture, what: Received) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE captures SET state = 'received', zdi_digest = $4, zdi_bytes = $5, target_root = $6, min_disk_bytes = $7,
                base_version_id = CASE WHEN $8 THEN base_version_id END,
                scanned_bytes = greatest(scanned_bytes, total_bytes)
         WHERE id = $1 AND state = $2 AND attempt = $3 AND (SELECT term FROM boss_term) = $9",
        capture.id.uuid(),
        capture.state.step().as_str(),
        integer("attempt", capture.attempt)?,
        what.zdi.as_bytes().as_slice(),
        bigint("zdi_bytes", what.zdi_bytes.get())?,
        what.target_root.as_bytes().as_slice(),
        bigint("min_disk_bytes", what.min_disk_bytes.get())?,
        what.refers_to_base,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// Notes that a capture is proved, with the signature derived on the way.
///
/// # Errors
/// [`DbError::LostRace`] when it is not `received` any more or the term is over; what the database says.
pub async fn verified(
    conn: &mut PgConnection,
    term: u64,
    capture: &Capture,
    sig: Digest,
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE captures SET state = 'verified', sig_digest = $3, ended_at = $4
         WHERE id = $1 AND attempt = $2 AND state = 'received' AND (SELECT term FROM boss_term) = $5",
        capture.id.uuid(),
        integer("attempt", capture.attempt)?,
        sig.as_bytes().as_slice(),
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("capture {}", capture.id))
}

/// Forgets the derived signatures of an experiment's captures, but for those of one swap point, and returns the
/// digests that nothing refers to any more.
///
/// # Errors
/// What the database says.
pub async fn forget_signatures(
    conn: &mut PgConnection,
    experiment: ExperimentId,
    keep: Option<SwapPointId>,
) -> Outcome<Vec<Digest>> {
    let rows = sqlx::query_scalar!(
        r#"UPDATE captures c SET sig_digest = NULL FROM captures old, swap_points s
           WHERE old.id = c.id AND s.id = c.swap_point_id AND s.experiment_id = $1 AND c.sig_digest IS NOT NULL
             AND ($2::uuid IS NULL OR s.id <> $2)
           RETURNING old.sig_digest AS "digest!""#,
        experiment.uuid(),
        keep.map(SwapPointId::uuid),
    )
    .fetch_all(&mut *conn)
    .await?;
    let free = sqlx::query_scalar!(
        r#"SELECT DISTINCT d AS "digest!" FROM unnest($1::bytea[]) AS d
           WHERE NOT EXISTS (SELECT 1 FROM captures WHERE sig_digest = d)
             AND NOT EXISTS (SELECT 1 FROM image_versions WHERE sig_digest = d)"#,
        &rows
    )
    .fetch_all(conn)
    .await?;
    let row = Row::new("captures", experiment);
    free.iter().map(|bytes| row.bytes32("sig_digest", bytes).map(Digest::from_bytes)).collect()
}

impl Capture {
    /// Returns how many attempts were made since somebody last said "retry".
    pub const fn attempts_now(&self) -> u32 {
        self.attempt.saturating_sub(self.attempts_before)
    }

    /// Returns the class of its failure, when it failed.
    pub const fn failure(&self) -> Option<FailureClass> {
        match self.state {
            CaptureState::Failed { class, .. } => Some(class),
            CaptureState::Planned
            | CaptureState::Frozen
            | CaptureState::Streaming
            | CaptureState::Received
            | CaptureState::Verified
            | CaptureState::Retired => None,
        }
    }
}
