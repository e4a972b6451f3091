//! `ebb image list`

use boss_api::user::{ImageVersionView, ImageView};

use crate::ebb::Context;
use crate::ebb::output::{moment, size, table};
use crate::exit::Exit;

pub(super) async fn run(context: &Context) -> Result<(), Exit> {
    let images = context.session.client()?.images().await?;
    context.output.data(&images, |images| {
        if images.is_empty() {
            return String::new();
        }
        let row = |(image, version): (&ImageView, &ImageVersionView)| {
            [
                image.project.to_string(),
                format!("{}/{}", image.name, version.version),
                if version.retired { "retired" } else { "in use" }.to_owned(),
                size(version.disk_bytes.get()),
                size(version.zdi_bytes.get()),
                moment(version.created_at),
            ]
        };
        let rows = images.iter().flat_map(|image| image.versions.iter().map(move |version| (image, version)));
        table(["PROJECT", "IMAGE", "STATE", "DISK", "STORED", "SINCE"], rows.map(row).collect())
    })?;
    if images.is_empty() {
        context.output.say("no images; `ebb image create` makes one");
    }
    Ok(())
}
