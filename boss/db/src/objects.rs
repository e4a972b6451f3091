//! Which objects of the store rows refer to, and since when nothing refers to the others.

use boss_api::ids::ProjectId;
use sigs::{ByteLen, Digest};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::columns::{Row, bigint};
use crate::error::{Outcome, exactly_one};
use crate::projects::Project;

/// An object that no row refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// Which.
    pub digest: Digest,
    /// Its size.
    pub bytes: ByteLen,
    /// When it was first seen so.
    pub seen_at: OffsetDateTime,
    /// Why it is kept for good, if it is.
    pub kept_why: Option<String>,
}

/// A row that refers to an object, by whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// A version of an image of this project.
    Image(Project),
    /// The saving of a disk of an experiment of this project.
    Saved(ProjectId),
}

/// Returns what refers to an object, each kind and project once.
///
/// # Errors
/// What the database says.
pub async fn referrers(conn: &mut PgConnection, digest: Digest) -> Outcome<Vec<Referrer>> {
    let rows = sqlx::query!(
        r#"SELECT p.id AS "id!", p.pid AS "pid!", TRUE AS "image!"
           FROM image_versions v JOIN images i ON i.id = v.image_id JOIN projects p ON p.id = i.project_id
           WHERE v.zdi_digest = $1 OR v.sig_digest = $1
           UNION
           SELECT p.id, p.pid, FALSE
           FROM captures c JOIN virtual_nodes n ON n.id = c.virtual_node_id
           JOIN experiments e ON e.id = n.experiment_id JOIN projects p ON p.id = e.project_id
           WHERE c.zdi_digest = $1 OR c.sig_digest = $1"#,
        digest.as_bytes().as_slice()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|found| {
            let id = ProjectId::new(found.id);
            Ok(if found.image {
                Referrer::Image(Project { id, pid: Row::new("projects", found.id).parse("pid", &found.pid)? })
            } else {
                Referrer::Saved(id)
            })
        })
        .collect()
}

/// Returns every digest that a row refers to, each once: images with their signatures, captures with theirs.
///
/// # Errors
/// What the database says.
pub async fn referenced(conn: &mut PgConnection) -> Outcome<Vec<Digest>> {
    let all = sqlx::query_scalar!(
        r#"SELECT zdi_digest AS "digest!" FROM image_versions UNION SELECT sig_digest FROM image_versions
           UNION SELECT zdi_digest FROM captures WHERE zdi_digest IS NOT NULL
           UNION SELECT sig_digest FROM captures WHERE sig_digest IS NOT NULL"#
    )
    .fetch_all(conn)
    .await?;
    let row = Row::new("image_versions and captures", "all");
    all.iter().map(|bytes| row.bytes32("digest", bytes).map(Digest::from_bytes)).collect()
}

/// Returns whether a row refers to an object.
///
/// # Errors
/// What the database says.
pub async fn is_referenced(conn: &mut PgConnection, digest: Digest) -> Outcome<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM image_versions WHERE zdi_digest = $1)
               OR EXISTS (SELECT 1 FROM image_versions WHERE sig_digest = $1)
               OR EXISTS (SELECT 1 FROM captures WHERE zdi_digest = $1)
               OR EXISTS (SELECT 1 FROM captures WHERE sig_digest = $1) AS "found!""#,
        digest.as_bytes().as_slice()
    )
    .fetch_one(conn)
    .await?;
    Ok(found)
}

/// Notes that nothing refers to an object, with the reason to keep it for good, if there is one. One that was noted
/// before keeps its time, and its reason.
///
/// # Errors
/// What the database says.
pub async fn note_unreferenced(
    conn: &mut PgConnection,
    digest: Digest,
    bytes: ByteLen,
    kept_why: Option<&str>,
    at: OffsetDateTime,
) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO unreferenced_objects (digest, bytes, seen_at, kept_why) VALUES ($1, $2, $3, $4)
         ON CONFLICT (digest) DO UPDATE SET kept_why = coalesce(unreferenced_objects.kept_why, excluded.kept_why)",
        digest.as_bytes().as_slice(),
        bigint("bytes", bytes.get())?,
        at,
        kept_why,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes an object from the list: something refers to it again, or it is gone.
///
/// # Errors
/// What the database says.
pub async fn forget_unreferenced(conn: &mut PgConnection, digest: Digest) -> Outcome<()> {
    sqlx::query!("DELETE FROM unreferenced_objects WHERE digest = $1", digest.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that somebody was told of an object on the list that it is there: its time begins anew. One that is not on the
/// list stays off it.
///
/// # Errors
/// What the database says.
pub async fn seen_again(conn: &mut PgConnection, digest: Digest, at: OffsetDateTime) -> Outcome<()> {
    sqlx::query!("UPDATE unreferenced_objects SET seen_at = $2 WHERE digest = $1", digest.as_bytes().as_slice(), at)
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns since when an object is on the list, if it is there and not kept for good.
///
/// # Errors
/// What the database says.
pub async fn unreferenced_since(conn: &mut PgConnection, digest: Digest) -> Outcome<Option<OffsetDateTime>> {
    Ok(sqlx::query_scalar!(
        "SELECT seen_at FROM unreferenced_objects WHERE digest = $1 AND kept_why IS NULL",
        digest.as_bytes().as_slice()
    )
    .fetch_optional(conn)
    .await?)
}

/// Keeps an object on the list for good, or, without a reason, no longer.
///
/// # Errors
/// [`crate::DbError::LostRace`] when it is not on the list; what the database says.
pub async fn keep(conn: &mut PgConnection, digest: Digest, why: Option<&str>) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE unreferenced_objects SET kept_why = $2 WHERE digest = $1",
        digest.as_bytes().as_slice(),
        why
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("unreferenced object {digest}"))
}

/// Returns the list, the oldest first.
///
/// # Errors
/// What the database says.
pub async fn unreferenced(conn: &mut PgConnection) -> Outcome<Vec<Unreferenced>> {
    let rows =
        sqlx::query!("SELECT digest, bytes, seen_at, kept_why FROM unreferenced_objects ORDER BY seen_at, digest")
            .fetch_all(conn)
            .await?;
    rows.into_iter()
        .map(|found| {
            let row = Row::new("unreferenced_objects", "one");
            Ok(Unreferenced {
                digest: Digest::from_bytes(row.bytes32("digest", &found.digest)?),
                bytes: ByteLen::new(row.number("bytes", found.bytes)?),
                seen_at: found.seen_at,
                kept_why: found.kept_why,
            })
        })
        .collect()
}
