use boss_api::Name;
use boss_api::ids::UserId;
use boss_api::user::{ImageVersionView, ImageView};
use sqlx::PgConnection;

use crate::error::Outcome;
use crate::images::{self, ImageVersion};

/// Returns an image as shown, or nothing when it has no version.
///
/// # Errors
/// What the database says.
pub async fn image(conn: &mut PgConnection, project: &Name, name: &Name) -> Outcome<Option<ImageView>> {
    Ok(group(images::versions(conn, project, name).await?).pop())
}

/// Returns the images that a member may load, or all there are without a user.
///
/// # Errors
/// What the database says.
pub async fn images(conn: &mut PgConnection, member: Option<UserId>) -> Outcome<Vec<ImageView>> {
    Ok(group(images::visible(conn, member).await?))
}

fn group(versions: Vec<ImageVersion>) -> Vec<ImageView> {
    let mut images: Vec<ImageView> = Vec::new();
    for version in versions {
        let view = ImageVersionView {
            version: version.version,
            zdi: version.zdi,
            zdi_bytes: version.zdi_bytes,
            root: version.root,
            disk_bytes: version.disk_bytes,
            key: version.key,
            retired: version.retired_at.is_some(),
            created_at: version.created_at,
        };
        match images.last_mut() {
            Some(image) if image.project == version.project && image.name == version.name => image.versions.push(view),
            _ => images.push(ImageView { project: version.project, name: version.name, versions: vec![view] }),
        }
    }
    images
}
