//! What was loaded where: ranges of disks and the images they were loaded from.

use boss_api::ids::{DiskId, ImageVersionId};
use sigs::{ByteLen, ByteOffset, Digest, Root};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint};
use crate::error::Outcome;

/// A range of a disk and the image it was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The disk.
    pub disk_id: DiskId,
    /// Where it begins.
    pub start: ByteOffset,
    /// How long it is.
    pub bytes: ByteLen,
    /// The image.
    pub image_version_id: ImageVersionId,
    /// The root of the image's state.
    pub root: Root,
    /// The signature of the image's state.
    pub sig: Digest,
    /// The image: `name/version`.
    pub image: String,
    /// When it was loaded.
    pub loaded_at: OffsetDateTime,
}

/// Says what a whole disk was loaded from now; nothing: it holds nothing known. What was said before is over.
///
/// # Errors
/// What the database says.
pub async fn replace(
    conn: &mut PgConnection,
    disk: DiskId,
    loaded: Option<(ImageVersionId, ByteLen, Root)>,
    at: OffsetDateTime,
) -> Outcome<()> {
    sqlx::query!("DELETE FROM segments WHERE disk_id = $1", disk.uuid()).execute(&mut *conn).await?;
    if let Some((image, bytes, root)) = loaded {
        sqlx::query!(
            "INSERT INTO segments (id, disk_id, start_byte, bytes, image_version_id, root, loaded_at)
             VALUES ($1, $2, 0, $3, $4, $5, $6)",
            Uuid::now_v7(),
            disk.uuid(),
            bigint("bytes", bytes.get())?,
            image.uuid(),
            root.as_bytes().as_slice(),
            at,
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Returns what a disk was loaded from, in disk order.
///
/// # Errors
/// What the database says.
pub async fn of_disk(conn: &mut PgConnection, disk: DiskId) -> Outcome<Vec<Segment>> {
    let rows = sqlx::query!(
        "SELECT s.id, s.start_byte, s.bytes, s.image_version_id, s.root, s.loaded_at, v.sig_digest, i.name, v.version
         FROM segments s JOIN image_versions v ON v.id = s.image_version_id JOIN images i ON i.id = v.image_id
         WHERE s.disk_id = $1 ORDER BY s.start_byte",
        disk.uuid()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("segments", row.id);
            Ok(Segment {
                disk_id: disk,
                start: ByteOffset::new(at.number("start_byte", row.start_byte)?),
                bytes: ByteLen::new(at.number("bytes", row.bytes)?),
                image_version_id: ImageVersionId::new(row.image_version_id),
                root: Root::from_bytes(at.bytes32("root", &row.root)?),
                sig: Digest::from_bytes(at.bytes32("sig_digest", &row.sig_digest)?),
                image: format!("{}/{}", row.name, row.version),
                loaded_at: row.loaded_at,
            })
        })
        .collect()
}
