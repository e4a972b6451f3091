//! `boss store` beside a running boss, as an operator uses it: what nothing refers to, what is kept of it and what goes,
//! and what is missing or damaged.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use ebb_tests::pg;
use ebb_tests::site::Site;
use ebb_tests::torture::rows::query;
use sha2::{Digest as _, Sha256};

use crate::scene::{alone, flip};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `boss store`, which may fail. Returns its code, and what it said on both ways.
fn store(site: &Site, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let ended = site.program("boss").arg("store").args(arguments).env("EBB_LOG", "error").output();
    let Output { status, stdout, stderr } = ended.context("start boss")?;
    let said = [&stdout[..], &stderr].map(String::from_utf8_lossy).concat();
    Ok((status.code().with_context(|| format!("ended by a signal: {said}"))?, said))
}

fn expect(site: &Site, arguments: &[&str], wanted: i32, words: &[&str]) -> anyhow::Result<()> {
    let (code, said) = store(site, arguments)?;
    let lacks = words.iter().find(|word| !said.contains(*word));
    ensure!(
        code == wanted && lacks.is_none(),
        "boss store {arguments:?} ended with {code}, {lacks:?} is not in: {said}"
    );
    Ok(())
}

/// Starts boss anew; it goes through the store first.
fn look(site: &Site) -> anyhow::Result<()> {
    site.kill_boss()?;
    site.start_boss()
}

/// Uploads bytes that nobody registers. Returns their digest.
fn upload(site: &Site, bytes: Vec<u8>) -> anyhow::Result<String> {
    let digest = hex::encode(Sha256::digest(&bytes));
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(site.folder().join("token"))?)?;
    let token = kept["token"].as_str().context("a token")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client.put(format!("{}/api/v1/objects/{digest}", site.url())).bearer_auth(token).body(bytes);
        Ok::<_, anyhow::Error>(request.send().await?.status().as_u16())
    })?;
    ensure!(status == 201, "{status}");
    Ok(digest)
}

fn object(site: &Site, digest: &str) -> PathBuf {
    site.state().join("store/objects").join(&digest[..2]).join(digest)
}

#[test]
fn an_operator_sees_keeps_and_lets_go_what_nothing_refers_to_and_learns_what_is_damaged() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let site = Site::start(&folder.path().join("site"), &pg::Options::default())?;
    let (disk, key) = (folder.path().join("disk.img"), site.add_key("image-key")?);
    fs::write(&disk, [7; 1 << 20])?;
    let [disk, key] = [disk, key].map(|path| path.to_string_lossy().into_owned());
    site.ebb(["image", "create", &disk, "--name", "small", "--key", &key])?;
    expect(&site, &["list"], 0, &["everything in the store is referred to"])?;
    expect(&site, &["check", "--read"], 0, &["2 objects, 2 referred to, 0 missing, 0 damaged"])?;

    // Two uploads that nobody registers are noted at the next look.
    let (one, two) = (upload(&site, b"one".to_vec())?, upload(&site, b"two of them".to_vec())?);
    expect(&site, &["keep", &one, "--why", "too early"], 1, &[&one, "boss store list"])?;
    look(&site)?;
    let listed = |digest: &str, words: &'static [&'static str]| {
        site.wait_for(&format!("{digest} is listed with {words:?}"), PATIENCE, |site| {
            let (code, said) = store(site, &["list"])?;
            ensure!(code == 0, "{said}");
            let line = said.lines().find(|line| line.starts_with(digest));
            Ok(line.filter(|line| words.iter().all(|word| line.contains(word))).map(drop))
        })
    };
    listed(&one, &["3 bytes", "since", "removed after the grace"])?;
    listed(&two, &["11 bytes", "removed after the grace"])?;
    expect(&site, &["check"], 0, &["4 objects, 2 referred to, 0 missing"])?;

    // One of them is kept, and outlives the grace; the other goes.
    expect(&site, &["keep", &one, "--why", " "], 1, &["--why takes 1 to 500 characters"])?;
    expect(&site, &["keep", &one, "--why", "asked for by ann"], 0, &[&one, "is kept"])?;
    listed(&one, &["asked for by ann"])?;
    let gone = |digest: &str| {
        query(&site, "UPDATE unreferenced_objects SET seen_at = seen_at - interval '8 days'")?;
        look(&site)?;
        let path = object(&site, digest);
        site.wait_for(&format!("{digest} is gone"), PATIENCE, |_| Ok((!path.exists()).then_some(())))
    };
    gone(&two)?;
    ensure!(fs::read(object(&site, &one))? == b"one", "what is kept stays");
    expect(&site, &["release", &one], 0, &[&one, "is kept no longer"])?;
    gone(&one)?;
    site.wait_for("nothing is listed any more", PATIENCE, |site| {
        Ok(store(site, &["list"])?.1.contains("everything in the store is referred to").then_some(()))
    })?;
    expect(&site, &["release", &one], 1, &["is not among those that nothing refers to"])?;

    // A bit of an image flips on the medium: only reading shows it.
    let image = fs::canonicalize(site.image_file("small"))?;
    let digest = image.file_name().context("an object has a name")?.to_string_lossy().into_owned();
    flip(&image, 100)?;
    expect(&site, &["check"], 0, &["0 damaged"])?;
    let told = ["damaged", "1 damaged", "restore them from a copy of store/objects"];
    expect(&site, &["check", "--read"], 7, &[&[format!("{digest}  ").as_str()], &told[..]].concat())?;
    // And then it is gone: for that nobody has to read.
    let aside = folder.path().join("aside");
    fs::rename(&image, &aside)?;
    expect(&site, &["check"], 7, &[&format!("{digest}  missing"), "1 missing, 0 damaged"])?;
    // Put back as it was, all is well.
    flip(&aside, 100)?;
    fs::rename(&aside, &image)?;
    expect(&site, &["check", "--read"], 0, &["0 missing, 0 damaged"])?;
    // The same signature is sent for another image: what was damaged meanwhile is not taken for it.
    flip(&site.image_file("small").with_extension("sig"), 100)?;
    expect(&site, &["check", "--read"], 7, &["1 damaged"])?;
    site.ebb(["image", "create", &disk, "--name", "again", "--key", &key])?;
    expect(&site, &["check", "--read"], 0, &["0 missing, 0 damaged"])?;
    let set_aside = fs::read_dir(site.state().join("store/aside"))?.count();
    ensure!(set_aside == 1, "what was damaged can be looked at: {set_aside}");
    site.ebb(["whoami"]).map(drop)
}
