//! Objects from and to a real boss, copied by `ebb xfer` while that boss is killed.

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

#[test]
fn a_file_is_sent_although_boss_is_killed_meanwhile() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::Builder::new().prefix("ebb-test-").tempdir()?;
    let path = folder.path().to_path_buf();
    let _removed = Cleanup::new(move || drop(fs::remove_dir_all(path)));
    let site = Site::start(&folder.path().join("site"), &pg::Options::default())?;
    let (file, back) = (folder.path().join("file"), folder.path().join("back"));
    fs::write(&file, noise(12 * MIB + 77)?)?;
    let object = digest(&file)?;
    let [source, into] = [&file, &back].map(|path| path.to_string_lossy().into_owned());

    // Two pieces a second: there is time for a kill in the middle.
    let id = xfer(&site, 0, &["create", "--kind", "sync", "--limit", "2M"])?;
    xfer(&site, 0, &["add", &id, &source, "boss:"])?;
    xfer(&site, 0, &["dispatch", &id, "--background"])?;
    let staged = site.state().join("store/staging").join(format!("{object}.index"));
    // What boss has counts in records of 44 bytes, one for each piece.
    let pieces = || fs::metadata(&staged).map_or(0, |found| found.len() / 44);
    site.wait_for("the first pieces", PATIENCE, |_| Ok((pieces() >= 3).then_some(())))?;
    site.kill_boss()?;
    xfer(&site, 10, &["wait", &id])?;
    let before = pieces();
    ensure!((3..13).contains(&before), "it was killed in the middle: {before} pieces");
    site.start_boss()?;
    xfer(&site, 0, &["resume", &id])?;
    let view: Value = serde_json::from_str(&xfer(&site, 0, &["status", &id, "--format", "json"])?)?;
    ensure!(view["stored"][0]["digest"] == object.as_str(), "its digest is told: {view}");
    ensure!(fs::read_dir(site.state().join("store/staging"))?.count() == 0, "nothing is left on the way");

    let whole = format!("boss:sha256:{object}");
    xfer(&site, 0, &["copy", &whole, &into])?;
    ensure!(fs::read(&back)? == fs::read(&file)?, "what comes back is what was sent");

    // The same content twice at a time is one object.
    let twins = ["one", "two"].map(|name| folder.path().join(name));
    for twin in &twins {
        fs::write(twin, noise(20 * MIB + 5)?)?;
    }
    let [one, two] = twins.each_ref().map(|path| path.to_string_lossy().into_owned());
    xfer(&site, 0, &["copy", "--threads", "2", &one, &two, "boss:"])?;
    let twin = format!("boss:sha256:{}", digest(&twins[0])?);
    let again = folder.path().join("again");
    xfer(&site, 0, &["copy", &twin, &again.to_string_lossy()])?;
    ensure!(fs::read(&again)? == fs::read(&twins[1])?, "it is what both are");

    // What is no place for it, and who may not.
    xfer(&site, 2, &["copy", &source, "boss:name"])?;
    xfer(&site, 2, &["copy", &whole, "boss:"])?;
    xfer(&site, 2, &["copy", "--release-sources", &source, "boss:"])?;
    ensure!(file.exists(), "the source stays");
    site.add_user("eve", "member")?;
    let password = site.folder().join("keys/eve.password").to_string_lossy().into_owned();
    let as_eve = |arguments: &[&str]| -> anyhow::Result<Option<i32>> {
        let mut command = site.program("ebb");
        command.args(arguments).env("EBB_TOKEN_FILE", folder.path().join("eve"));
        Ok(command.output().context("start ebb")?.status.code())
    };
    ensure!(as_eve(&["login", "--user", "eve", "--password-file", &password])? == Some(0), "eve signs in");
    fs::write(&file, b"another")?;
    ensure!(as_eve(&["xfer", "copy", &source, "boss:"])? == Some(5), "a member may not put objects there");
    let nothing = folder.path().join("nothing").to_string_lossy().into_owned();
    ensure!(as_eve(&["xfer", "copy", &whole, &nothing])? == Some(4), "what nothing refers to is not for members");
    Ok(())
}
