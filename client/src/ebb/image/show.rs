//! `ebb image show`

use boss_api::user::ImageView;

use super::Named;
use crate::ebb::Context;
use crate::ebb::output::{moment, size};
use crate::exit::Exit;

pub(super) async fn run(context: &Context, named: &Named) -> Result<(), Exit> {
    let image = context.session.client()?.image(&named.project, &named.name).await?;
    context.output.data(&image, describe)
}

/// Returns an image for people.
pub(super) fn describe(image: &ImageView) -> String {
    let mut text = format!("{} of {}\n", image.name, image.project);
    for version in &image.versions {
        let retired = if version.retired { ", retired" } else { "" };
        text.push_str(&format!(
            "version {}: disk of {}, {} stored, since {}{retired}\n",
            version.version,
            size(version.disk_bytes.get()),
            size(version.zdi_bytes.get()),
            moment(version.created_at)
        ));
        text.push_str(&format!("  root {}\n  file {}\n  sealed by {}\n", version.root, version.zdi, version.key));
    }
    text
}
