//! Objects of a real boss, fetched by `ebb xfer` while that boss is killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use ebb_tests::cleanup::Cleanup;
use ebb_tests::disk::MIB;
use ebb_tests::pg;
use ebb_tests::site::Site;
use serde_json::Value;

use crate::scene::{alone, digest};

const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that do not compress.
fn noise(bytes: u64) -> anyhow::Result<Vec<u8>> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    Ok(std::iter::repeat_with(next).flatten().take(usize::try_from(bytes)?).collect())
}

/// Runs `ebb xfer`, which must end with this code; returns what it printed.
fn xfer(site: &Site, code: i32, arguments: &[&str]) -> anyhow::Result<String> {
    let output = site.try_ebb([&["xfer"], arguments].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{arguments:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Returns how many bytes a file has by now that is not whole.
fn arrived(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".partial") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

#[test]
fn an_image_is_fetched_although_boss_is_killed_meanwhile() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::Builder::new().prefix("ebb-test-").tempdir()?;
    let path = folder.path().to_path_buf();
    let _removed = Cleanup::new(move || drop(fs::remove_dir_all(path)));
    let site = Site::start(&folder.path().join("site"), &pg::Options::default())?;
    let (disk, copies) = (folder.path().join("disk.img"), folder.path().join("copies"));
    fs::create_dir(&copies)?;
    fs::write(&disk, noise(30 * MIB)?)?;
    let key = site.add_key("image-key")?;
    let [disk, key, into] = [&disk, &key, &copies].map(|path| path.to_string_lossy().into_owned());
    site.ebb(["image", "create", &disk, "--name", "noise", "--key", &key])?;
    let view: Value = serde_json::from_str(&site.ebb(["image", "show", "noise", "--format", "json"])?)?;
    let object = view["versions"][0]["zdi"].as_str().context("an image has a file")?.to_owned();

    // One chunk a second: there is time for a kill in the middle.
    let id = xfer(&site, 0, &["create", "--kind", "sync", "--limit", "4M"])?;
    let source = format!("boss:sha256:{object}");
    xfer(&site, 0, &["add", &id, &source, &into])?;
    xfer(&site, 0, &["dispatch", &id, "--background"])?;
    site.wait_for("the first chunks", PATIENCE, |_| Ok((arrived(&copies)? >= 8 * MIB).then_some(())))?;
    site.kill_boss()?;
    xfer(&site, 10, &["wait", &id])?;
    let view: Value = serde_json::from_str(&xfer(&site, 0, &["status", &id, "--format", "json"])?)?;
    let durable = view["bytes_done"].as_u64().context("a number")?;
    ensure!((8 * MIB..30 * MIB).contains(&durable), "what arrived is durable: {view}");
    ensure!(!copies.join(&object).exists(), "what is not whole has no name");

    site.start_boss()?;
    let begin = fs::read_to_string(site.folder().join("token"))?;
    let token: Value = serde_json::from_str(&begin)?;
    let token = token["token"].as_str().context("a token")?;
    xfer(&site, 0, &["resume", &id])?;
    ensure!(digest(&copies.join(&object))? == object, "it is the object");
    ensure!(fs::read(copies.join(&object))? == fs::read(site.image_file("noise"))?, "it is the image");
    let journals = site.folder().join(".local/state/ebb/transfers");
    for entry in fs::read_dir(&journals)? {
        let content = fs::read(entry?.path())?;
        ensure!(!content.windows(token.len()).any(|bytes| bytes == token.as_bytes()), "a journal has the token");
    }
    xfer(&site, 0, &["free", &id])?;

    // What boss does not have, and what is no object of it.
    let missing = format!("boss:sha256:{}", "0".repeat(64));
    let nothing = copies.join("nothing").to_string_lossy().into_owned();
    xfer(&site, 4, &["copy", &missing, &nothing])?;
    xfer(&site, 2, &["copy", "boss:noise", &nothing])?;
    xfer(&site, 2, &["copy", "--release-sources", &source, &nothing])?;
    ensure!(!copies.join("nothing").exists() && arrived(&copies)? == 0, "nothing is left");
    Ok(())
}
