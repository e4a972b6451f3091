//! Writes to disks, each with the permit it happens under.

use boss_api::agent::{FailureClass, WriteProgress, WritePurpose};
use boss_api::ids::{BootId, CaptureId, DiskId, ImageVersionId, JobId, NodeId, WriteId};
use boss_model::capture::{class_word, parse_class};
use boss_model::write::WriteState;
use sigs::Root;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint, integer};
use crate::error::{DbError, Outcome, exactly_one};

/// A write to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskWrite {
    /// The id.
    pub id: WriteId,
    /// The machine.
    pub node: NodeId,
    /// The disk.
    pub disk: DiskId,
    /// The machine's epoch.
    pub epoch: u64,
    /// The job.
    pub job: JobId,
    /// Why.
    pub purpose: WritePurpose,
    /// The base image; nothing: the disk is zeroed.
    pub image: Option<ImageVersionId>,
    /// The saved state on top of it.
    pub capture: Option<CaptureId>,
    /// The exact text of the sealed permit.
    pub permit: String,
    /// How far it is.
    pub state: WriteState,
    /// The present attempt; 0 before the first.
    pub attempt: u32,
    /// How many of them were made before somebody last said "retry".
    pub attempts_before: u32,
    /// In which boot the present attempt is made.
    pub boot: Option<BootId>,
    /// When the present attempt began.
    pub attempt_at: Option<OffsetDateTime>,
    /// When a byte was last written or read back.
    pub progress_at: Option<OffsetDateTime>,
    /// The root as read back.
    pub root: Option<Root>,
    /// Why it failed.
    pub failure: Option<(FailureClass, String)>,
}

impl DiskWrite {
    /// Returns how many attempts were made since somebody last said "retry".
    pub const fn attempts_now(&self) -> u32 {
        self.attempt.saturating_sub(self.attempts_before)
    }
}

/// Returns the word for the database.
const fn purpose_word(purpose: WritePurpose) -> &'static str {
    match purpose {
        WritePurpose::Load => "load",
        WritePurpose::Restore => "restore",
        WritePurpose::Sanitize => "sanitize",
    }
}

struct Columns {
    id: Uuid,
    node_id: Uuid,
    disk_id: Uuid,
    epoch: i64,
    job_id: Uuid,
    purpose: String,
    image_version_id: Option<Uuid>,
    capture_id: Option<Uuid>,
    permit: String,
    state: String,
    attempt: i32,
    attempts_before: i32,
    boot_id: Option<Uuid>,
    attempt_at: Option<OffsetDateTime>,
    progress_at: Option<OffsetDateTime>,
    root: Option<Vec<u8>>,
    failure_class: Option<String>,
    failure_reason: Option<String>,
}

impl TryFrom<Columns> for DiskWrite {
    type Error = DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("disk_writes", columns.id);
        let purposes = [WritePurpose::Load, WritePurpose::Restore, WritePurpose::Sanitize];
        let purpose = purposes.into_iter().find(|purpose| purpose_word(*purpose) == columns.purpose);
        let failure = match (columns.failure_class, columns.failure_reason) {
            (Some(class), Some(reason)) => {
                Some((parse_class(&class).map_err(|error| row.wrong("failure_class", error))?, reason))
            }
            _ => None,
        };
        Ok(Self {
            id: WriteId::new(columns.id),
            node: NodeId::new(columns.node_id),
            disk: DiskId::new(columns.disk_id),
            epoch: row.number("epoch", columns.epoch)?,
            job: JobId::new(columns.job_id),
            purpose: purpose.ok_or_else(|| row.wrong("purpose", &columns.purpose))?,
            image: columns.image_version_id.map(ImageVersionId::new),
            capture: columns.capture_id.map(CaptureId::new),
            permit: columns.permit,
            state: row.parse("state", &columns.state)?,
            attempt: row.number("attempt", columns.attempt)?,
            attempts_before: row.number("attempts_before", columns.attempts_before)?,
            boot: columns.boot_id.map(BootId::new),
            attempt_at: columns.attempt_at,
            progress_at: columns.progress_at,
            root: columns.root.map(|bytes| row.bytes32("root", &bytes).map(Root::from_bytes)).transpose()?,
            failure,
        })
    }
}

/// A write to permit.
#[derive(Clone, Copy, Debug)]
pub struct NewWrite<'a> {
    /// Made by the caller.
    pub id: WriteId,
    /// The machine.
    pub node: NodeId,
    /// The disk.
    pub disk: DiskId,
    /// The machine's epoch.
    pub epoch: u64,
    /// The job.
    pub job: JobId,
    /// Why.
    pub purpose: WritePurpose,
    /// The base image; nothing: the disk is zeroed.
    pub image: Option<ImageVersionId>,
    /// The saved state on top of it.
    pub capture: Option<CaptureId>,
    /// Why nothing is lost, in words.
    pub evidence: &'a str,
    /// The exact text of the sealed permit.
    pub permit: &'a str,
    /// Now.
    pub at: OffsetDateTime,
}

/// Permits a write. A second open one of a disk is refused by the constraint `disk_writes_one_open`.
///
/// # Errors
/// What the database says.
pub async fn issue(conn: &mut PgConnection, new: NewWrite<'_>) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO disk_writes (id, node_id, disk_id, epoch, job_id, purpose, image_version_id, capture_id, evidence,
                                  permit, state, issued_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'issued', $11)",
        new.id.uuid(),
        new.node.uuid(),
        new.disk.uuid(),
        bigint("epoch", new.epoch)?,
        new.job.uuid(),
        purpose_word(new.purpose),
        new.image.map(ImageVersionId::uuid),
        new.capture.map(CaptureId::uuid),
        new.evidence,
        new.permit,
        new.at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns a write.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, id: WriteId) -> Outcome<Option<DiskWrite>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, node_id, disk_id, epoch, job_id, purpose, image_version_id, capture_id, permit, state, attempt,
                attempts_before, boot_id, attempt_at, progress_at, root, failure_class, failure_reason
         FROM disk_writes WHERE id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the writes of a machine in one of its epochs whose permits hold, by disk.
///
/// # Errors
/// What the database says.
pub async fn of_node(
    conn: &mut PgConnection,
    node: NodeId,
    epoch: u64,
    purposes: &[WritePurpose],
) -> Outcome<Vec<DiskWrite>> {
    let purposes: Vec<String> = purposes.iter().map(|purpose| purpose_word(*purpose).to_owned()).collect();
    sqlx::query_as!(
        Columns,
        "SELECT w.id, w.node_id, w.disk_id, w.epoch, w.job_id, w.purpose, w.image_version_id, w.capture_id, w.permit,
                w.state, w.attempt, w.attempts_before, w.boot_id, w.attempt_at, w.progress_at, w.root,
                w.failure_class, w.failure_reason
         FROM disk_writes w JOIN disks d ON d.id = w.disk_id
         WHERE w.node_id = $1 AND w.epoch = $2 AND w.purpose = ANY($3) AND w.state <> 'void' ORDER BY d.position",
        node.uuid(),
        bigint("epoch", epoch)?,
        &purposes,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Returns the writes that are not over, of all machines.
///
/// # Errors
/// What the database says.
pub async fn open(conn: &mut PgConnection) -> Outcome<Vec<DiskWrite>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, node_id, disk_id, epoch, job_id, purpose, image_version_id, capture_id, permit, state, attempt,
                attempts_before, boot_id, attempt_at, progress_at, root, failure_class, failure_reason
         FROM disk_writes WHERE state IN ('issued', 'running', 'failed') ORDER BY id"
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Puts the permit that was sealed anew in this term in the place of the old one.
///
/// # Errors
/// [`DbError::LostRace`] when the write moved meanwhile or the term is over; what the database says.
pub async fn renew(conn: &mut PgConnection, term: u64, write: &DiskWrite, permit: &str) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE disk_writes SET permit = $5
         WHERE id = $1 AND state = $2 AND epoch = $3 AND attempt = $4 AND (SELECT term FROM boss_term) = $6",
        write.id.uuid(),
        write.state.as_str(),
        bigint("epoch", write.epoch)?,
        integer("attempt", write.attempt)?,
        permit,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("write {}", write.id))
}

/// What a move leaves behind, besides the state.
#[derive(Clone, Debug, Default)]
pub struct WriteEnd {
    /// The root as read back.
    pub root: Option<Root>,
    /// Why it failed.
    pub failure: Option<(FailureClass, String)>,
}

/// Moves a write from the state, epoch and attempt it was read in to another state, in this term.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn transition(
    conn: &mut PgConnection,
    term: u64,
    write: &DiskWrite,
    to: WriteState,
    end: WriteEnd,
    at: OffsetDateTime,
) -> Outcome<()> {
    let (class, reason) = match end.failure {
        Some((class, reason)) => (Some(class_word(class)), Some(reason.chars().take(2000).collect::<String>())),
        None => (None, None),
    };
    let ends = matches!(to, WriteState::Done | WriteState::Failed | WriteState::Void);
    let done = sqlx::query!(
        "UPDATE disk_writes SET state = $5, root = $6, failure_class = $7, failure_reason = $8, ended_at = $9
         WHERE id = $1 AND state = $2 AND epoch = $3 AND attempt = $4 AND (SELECT term FROM boss_term) = $10",
        write.id.uuid(),
        write.state.as_str(),
        bigint("epoch", write.epoch)?,
        integer("attempt", write.attempt)?,
        to.as_str(),
        end.root.map(|root| root.as_bytes().to_vec()),
        class,
        reason,
        ends.then_some(at),
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("write {}", write.id))
}

/// Begins the next attempt of a write in a boot. What an older attempt still says is refused from now on.
///
/// # Errors
/// [`DbError::LostRace`] when it is not issued or the term is over; what the database says.
pub async fn assign(
    conn: &mut PgConnection,
    term: u64,
    write: &DiskWrite,
    boot: BootId,
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE disk_writes SET attempt = attempt + 1, boot_id = $4, attempt_at = $5, progress_at = NULL, done_bytes = 0
         WHERE id = $1 AND state = 'issued' AND epoch = $2 AND attempt = $3 AND (SELECT term FROM boss_term) = $6",
        write.id.uuid(),
        bigint("epoch", write.epoch)?,
        integer("attempt", write.attempt)?,
        boot.uuid(),
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("write {}", write.id))
}

/// Lets a failed write be tried again because a person said so: its attempts are counted from here.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn retry(conn: &mut PgConnection, term: u64, write: &DiskWrite) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE disk_writes SET state = 'issued', attempts_before = attempt, failure_class = NULL,
                failure_reason = NULL, ended_at = NULL
         WHERE id = $1 AND state = 'failed' AND attempt = $2 AND (SELECT term FROM boss_term) = $3",
        write.id.uuid(),
        integer("attempt", write.attempt)?,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("write {}", write.id))
}

/// Makes a failed sanitizing one of zeros, whatever image was meant for the disk.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn zero_instead(conn: &mut PgConnection, term: u64, write: &DiskWrite) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE disk_writes SET image_version_id = NULL
         WHERE id = $1 AND state = 'failed' AND purpose = 'sanitize' AND (SELECT term FROM boss_term) = $2",
        write.id.uuid(),
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("write {}", write.id))
}

/// Notes how far an attempt is. The stall clock is only wound when more was done.
///
/// # Errors
/// [`DbError::LostRace`] when the attempt is over; what the database says.
pub async fn progress(
    conn: &mut PgConnection,
    write: &DiskWrite,
    progress: &WriteProgress,
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE disk_writes SET state = 'running', done_bytes = greatest(done_bytes, $3), total_bytes = $4,
                progress_at = CASE WHEN $3 > done_bytes THEN $5 ELSE progress_at END
         WHERE id = $1 AND attempt = $2 AND state IN ('issued', 'running')",
        write.id.uuid(),
        integer("attempt", write.attempt)?,
        bigint("done_bytes", progress.done_bytes)?,
        bigint("total_bytes", progress.total_bytes)?,
        at,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("write {}", write.id))
}
