//! What is not sealed as it should be is refused, and no disk is written.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use boss_api::user::ExperimentState;
use ebb_tests::pg;
use ebb_tests::tools;

use crate::scene::{Scene, alone, flip};

const SEAL_FAILED: i32 = 7;

/// Tries to load an image on the machine: it must not come to that.
fn expect_refused(scene: &Scene, image: &str) -> anyhow::Result<()> {
    let before = scene.disk_digest()?;
    let name = format!("demo/with-{image}");
    let node = format!("one={image}");
    scene.site.ebb(["exp", "create", &name, "--node", &node, "--no-save"])?;
    let output = scene.site.try_ebb(["exp", "swapin", &name, "--wait", "--timeout", "120"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{image} was loaded");
    ensure!(output.status.code() != Some(9), "it hangs instead of refusing: {said}");
    let state = scene.site.experiment(&name.parse()?)?.state;
    ensure!(state != ExperimentState::Active, "{image}: the experiment is {state}");
    ensure!(scene.disk_digest()? == before, "{image}: the disk was written");
    ensure!(!said.trim().is_empty(), "nothing was said");
    Ok(())
}

fn sql(scene: &Scene, text: &str) -> anyhow::Result<String> {
    let psql = pg::programs().context("PostgreSQL is installed")?.join("psql");
    tools::output(Command::new(psql).args(["-X", "-q", "-A", "-t", "-c", text]).arg(scene.site.database_url()))
}

#[test]
fn an_image_altered_after_registration_is_refused() -> anyhow::Result<()> {
    let _alone = alone();
    let scene = Scene::new(64)?;
    let path = scene.site.image_file("system");
    let middle = std::fs::metadata(&path)?.len() / 2;
    flip(&path, middle)?;
    expect_refused(&scene, "system")
}

#[test]
fn the_seal_of_another_image_is_refused() -> anyhow::Result<()> {
    let _alone = alone();
    let scene = Scene::new(64)?;
    // Another content, properly sealed by the same key: the gap between the partitions has another byte.
    let other = scene.path("other.img");
    std::fs::copy(scene.path("base.img"), &other)?;
    let system = scene.layout.partitions[0];
    flip(&other, system.start + system.bytes + 4096)?;
    let key = scene.site.folder().join("keys/image-key");
    let [other, key] = [&other, &key].map(|path: &std::path::PathBuf| path.to_string_lossy().into_owned());
    scene.site.ebb(["image", "create", &other, "--name", "another", "--key", &key])?;
    let changed = sql(
        &scene,
        "UPDATE image_versions v SET sealed = (SELECT w.sealed FROM image_versions w JOIN images i ON i.id = w.image_id \
         WHERE i.name = 'another') FROM images j WHERE j.id = v.image_id AND j.name = 'system' RETURNING v.version",
    )?;
    ensure!(changed.trim() == "1", "one row was changed: {changed:?}");
    expect_refused(&scene, "system")
}

#[test]
fn unknown_and_retired_keys_are_refused() -> anyhow::Result<()> {
    let _alone = alone();
    let scene = Scene::new(64)?;
    let unknown = scene.site.new_key("unknown")?;
    let refused = |name: &str, key: &Path| -> anyhow::Result<String> {
        let base = scene.path("base.img");
        let [base, key] = [base.as_path(), key].map(|path| path.to_string_lossy().into_owned());
        let output = scene.site.try_ebb(["image", "create", &base, "--name", name, "--key", &key])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(SEAL_FAILED), "{name}: {} {said}", output.status);
        let list = scene.site.ebb(["image", "list", "--format", "json"])?;
        ensure!(!list.contains(name), "{name} was registered: {list}");
        Ok(said)
    };
    refused("unknown-key", &unknown)?;

    let retired = scene.site.add_key("retired")?;
    scene.create_image("early", &retired)?;
    let public = format!("{}.pub", retired.display());
    let id = scene.site.ebb(["image", "show", "early", "--format", "json"])?;
    let id: serde_json::Value = serde_json::from_str(&id)?;
    let id = id["versions"][0]["key"].as_str().with_context(|| format!("{public} has an id"))?.to_owned();
    scene.site.boss(&["admin", "key", "retire", &id])?;
    refused("late", &retired)?;
    // Sealed when the key was good; it is not any more.
    expect_refused(&scene, "early")
}
