//! Writes every page with sample data, and what it loads, into a folder to look at:
//! `cargo run -p web --example render -- FOLDER`.

#[expect(clippy::needless_pass_by_value, reason = "sample data of the tests")]
#[path = "../tests/web/sample.rs"]
mod sample;

use std::path::PathBuf;

use web::assets::{ICON, STYLE};

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("name the folder to write to"));
    };
    let statics = folder.join("static");
    std::fs::create_dir_all(&statics)?;
    for asset in [STYLE, ICON] {
        std::fs::write(statics.join(asset.file_name()), asset.bytes)?;
    }
    for (name, html) in sample::all() {
        // Opened as files, not from a server: addresses of files are beside the page.
        std::fs::write(folder.join(format!("{name}.html")), html.replace("\"/static/", "\"static/"))?;
    }
    Ok(())
}
