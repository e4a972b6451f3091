//! Images and their versions. A version is immutable once written: new content is a new version.

use boss_api::Name;
use boss_api::ids::{ImageId, ImageVersionId, ProjectId, UserId};
use boss_api::user::ImageSelector;
use sigs::seal::KeyId;
use sigs::{ByteLen, Digest, Root};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint, integer};
use crate::error::{Outcome, exactly_one};
use crate::projects;

/// A version of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVersion {
    /// The id.
    pub id: ImageVersionId,
    /// The image.
    pub image_id: ImageId,
    /// The project of the image.
    pub project: Name,
    /// The name of the image.
    pub name: Name,
    /// Numbered from 1.
    pub version: u32,
    /// The digest of the `.zdi` file.
    pub zdi: Digest,
    /// The size of the `.zdi` file.
    pub zdi_bytes: ByteLen,
    /// The digest of the `.sig` file.
    pub sig: Digest,
    /// The size of the `.sig` file.
    pub sig_bytes: ByteLen,
    /// The root of the state.
    pub root: Root,
    /// The size of the disk it was made from.
    pub disk_bytes: ByteLen,
    /// The least number of bytes a disk must have for this state.
    pub min_disk_bytes: ByteLen,
    /// The exact text of the sealed file.
    pub sealed: String,
    /// Who sealed it.
    pub key: KeyId,
    /// Since when it is not loaded any more.
    pub retired_at: Option<OffsetDateTime>,
    /// When it was registered.
    pub created_at: OffsetDateTime,
}

impl ImageVersion {
    /// Returns `name/version`.
    pub fn selector(&self) -> ImageSelector {
        ImageSelector { name: self.name.clone(), version: Some(self.version) }
    }
}

/// A version to add.
#[derive(Clone, Copy, Debug)]
pub struct NewVersion<'a> {
    /// Made by the caller.
    pub id: ImageVersionId,
    /// The image.
    pub image_id: ImageId,
    /// The digest of the `.zdi` file.
    pub zdi: Digest,
    /// The size of the `.zdi` file.
    pub zdi_bytes: ByteLen,
    /// The digest of the `.sig` file.
    pub sig: Digest,
    /// The size of the `.sig` file.
    pub sig_bytes: ByteLen,
    /// The root of the state.
    pub root: Root,
    /// The size of the disk it was made from.
    pub disk_bytes: ByteLen,
    /// The least number of bytes a disk must have for this state.
    pub min_disk_bytes: ByteLen,
    /// The exact text of the sealed file.
    pub sealed: &'a str,
    /// Who sealed it.
    pub key: KeyId,
    /// Now.
    pub at: OffsetDateTime,
}

struct Columns {
    id: Uuid,
    image_id: Uuid,
    project: String,
    name: String,
    version: i32,
    zdi_digest: Vec<u8>,
    zdi_bytes: i64,
    sig_digest: Vec<u8>,
    sig_bytes: i64,
    root: Vec<u8>,
    disk_bytes: i64,
    min_disk_bytes: i64,
    sealed: String,
    key_id: String,
    retired_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl TryFrom<Columns> for ImageVersion {
    type Error = crate::DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("image_versions", columns.id);
        Ok(Self {
            id: ImageVersionId::new(columns.id),
            image_id: ImageId::new(columns.image_id),
            project: row.parse("project", &columns.project)?,
            name: row.parse("name", &columns.name)?,
            version: row.number("version", columns.version)?,
            zdi: Digest::from_bytes(row.bytes32("zdi_digest", &columns.zdi_digest)?),
            zdi_bytes: ByteLen::new(row.number("zdi_bytes", columns.zdi_bytes)?),
            sig: Digest::from_bytes(row.bytes32("sig_digest", &columns.sig_digest)?),
            sig_bytes: ByteLen::new(row.number("sig_bytes", columns.sig_bytes)?),
            root: Root::from_bytes(row.bytes32("root", &columns.root)?),
            disk_bytes: ByteLen::new(row.number("disk_bytes", columns.disk_bytes)?),
            min_disk_bytes: ByteLen::new(row.number("min_disk_bytes", columns.min_disk_bytes)?),
            sealed: columns.sealed,
            key: row.parse("key_id", &columns.key_id)?,
            retired_at: columns.retired_at,
            created_at: columns.created_at,
        })
    }
}

/// Makes sure that an image of this name exists, and locks it until the transaction ends, so that versions are
/// numbered one after the other. Returns its id: `id` when it is new.
///
/// # Errors
/// What the database says.
pub async fn ensure(
    conn: &mut PgConnection,
    id: ImageId,
    project: ProjectId,
    name: &Name,
    at: OffsetDateTime,
) -> Outcome<ImageId> {
    sqlx::query!(
        "INSERT INTO images (id, project_id, name, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT ON CONSTRAINT images_name_key DO NOTHING",
        id.uuid(),
        project.uuid(),
        name.as_str(),
        at
    )
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar!(
        "SELECT id FROM images WHERE project_id = $1 AND name = $2 FOR UPDATE",
        project.uuid(),
        name.as_str()
    )
    .fetch_one(conn)
    .await?;
    Ok(ImageId::new(id))
}

/// Adds the next version of an image locked by [`ensure`], and returns its number.
///
/// # Errors
/// What the database says.
pub async fn add_version(conn: &mut PgConnection, new: NewVersion<'_>) -> Outcome<u32> {
    let version = sqlx::query_scalar!(
        "INSERT INTO image_versions (id, image_id, version, zdi_digest, zdi_bytes, sig_digest, sig_bytes, root,
                                     disk_bytes, min_disk_bytes, sealed, key_id, created_at)
         VALUES ($1, $2, (SELECT coalesce(max(version), 0) + 1 FROM image_versions WHERE image_id = $2),
                 $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         RETURNING version",
        new.id.uuid(),
        new.image_id.uuid(),
        new.zdi.as_bytes().as_slice(),
        bigint("zdi_bytes", new.zdi_bytes.get())?,
        new.sig.as_bytes().as_slice(),
        bigint("sig_bytes", new.sig_bytes.get())?,
        new.root.as_bytes().as_slice(),
        bigint("disk_bytes", new.disk_bytes.get())?,
        bigint("min_disk_bytes", new.min_disk_bytes.get())?,
        new.sealed,
        new.key.to_string(),
        new.at,
    )
    .fetch_one(conn)
    .await?;
    Row::new("image_versions", new.id).number("version", version)
}

/// Returns a version.
///
/// # Errors
/// What the database says.
pub async fn version(conn: &mut PgConnection, id: ImageVersionId) -> Outcome<Option<ImageVersion>> {
    sqlx::query_as!(
        Columns,
        "SELECT v.id, v.image_id, p.pid AS project, i.name, v.version, v.zdi_digest, v.zdi_bytes, v.sig_digest,
                v.sig_bytes, v.root, v.disk_bytes, v.min_disk_bytes, v.sealed, v.key_id, v.retired_at, v.created_at
         FROM image_versions v JOIN images i ON i.id = v.image_id JOIN projects p ON p.id = i.project_id
         WHERE v.id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the version a selector means for a project: of its own images first, then of the site's. Without a number
/// the newest that is not retired; with a number that one, retired or not, for the caller to refuse.
///
/// # Errors
/// What the database says.
pub async fn resolve(
    conn: &mut PgConnection,
    project: ProjectId,
    selector: &ImageSelector,
) -> Outcome<Option<ImageVersion>> {
    sqlx::query_as!(
        Columns,
        "SELECT v.id, v.image_id, p.pid AS project, i.name, v.version, v.zdi_digest, v.zdi_bytes, v.sig_digest,
                v.sig_bytes, v.root, v.disk_bytes, v.min_disk_bytes, v.sealed, v.key_id, v.retired_at, v.created_at
         FROM image_versions v JOIN images i ON i.id = v.image_id JOIN projects p ON p.id = i.project_id
         WHERE i.name = $1 AND (p.id = $2 OR p.pid = $3)
           AND CASE WHEN $4::integer IS NULL THEN v.retired_at IS NULL ELSE v.version = $4 END
         ORDER BY (p.id = $2) DESC, v.version DESC LIMIT 1",
        selector.name.as_str(),
        project.uuid(),
        projects::SYSTEM,
        selector.version.map(|number| integer("version", number)).transpose()?,
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns all versions of all images that a member may load (those of own projects and the site's), or all there are
/// without a user; by project, name, newest first.
///
/// # Errors
/// What the database says.
pub async fn visible(conn: &mut PgConnection, member: Option<UserId>) -> Outcome<Vec<ImageVersion>> {
    sqlx::query_as!(
        Columns,
        "SELECT v.id, v.image_id, p.pid AS project, i.name, v.version, v.zdi_digest, v.zdi_bytes, v.sig_digest,
                v.sig_bytes, v.root, v.disk_bytes, v.min_disk_bytes, v.sealed, v.key_id, v.retired_at, v.created_at
         FROM image_versions v JOIN images i ON i.id = v.image_id JOIN projects p ON p.id = i.project_id
         WHERE $1::uuid IS NULL OR p.pid = $2 OR EXISTS
               (SELECT 1 FROM project_members m WHERE m.project_id = p.id AND m.user_id = $1)
         ORDER BY p.pid, i.name, v.version DESC",
        member.map(UserId::uuid),
        projects::SYSTEM,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Returns the versions of one image, newest first.
///
/// # Errors
/// What the database says.
pub async fn versions(conn: &mut PgConnection, project: &Name, name: &Name) -> Outcome<Vec<ImageVersion>> {
    sqlx::query_as!(
        Columns,
        "SELECT v.id, v.image_id, p.pid AS project, i.name, v.version, v.zdi_digest, v.zdi_bytes, v.sig_digest,
                v.sig_bytes, v.root, v.disk_bytes, v.min_disk_bytes, v.sealed, v.key_id, v.retired_at, v.created_at
         FROM image_versions v JOIN images i ON i.id = v.image_id JOIN projects p ON p.id = i.project_id
         WHERE p.pid = $1 AND i.name = $2 ORDER BY v.version DESC",
        project.as_str(),
        name.as_str(),
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Retires a version: it is not loaded any more, and states saved against it still restore.
///
/// # Errors
/// [`crate::DbError::LostRace`] when it was retired already; what the database says.
pub async fn retire(conn: &mut PgConnection, id: ImageVersionId, at: OffsetDateTime) -> Outcome<()> {
    let done =
        sqlx::query!("UPDATE image_versions SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL", id.uuid(), at)
            .execute(conn)
            .await?;
    exactly_one(done.rows_affected(), || format!("image version {id}"))
}
