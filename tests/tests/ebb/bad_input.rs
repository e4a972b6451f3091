//! What goes wrong around boss: each a clear error, nothing lost.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use boss_api::user::{ExperimentState, NodeStateView};
use ebb_tests::cleanup::Cleanup;
use ebb_tests::disk::MIB;
use ebb_tests::site::Site;
use ebb_tests::{pg, suite, tools};

use crate::scene::{EXPERIMENT, Scene, alone};

/// Runs a command that must end by itself, with an error.
fn refused(command: &mut Command) -> anyhow::Result<(i32, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            drop(child.kill());
            anyhow::bail!("{} does not end", tools::shown(command));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let code = status.code().with_context(|| format!("ended by a signal: {said}"))?;
    ensure!(code != 0 && code != 101, "code {code}: {said}");
    ensure!(!said.contains("panicked"), "a panic: {said}");
    Ok((code, said))
}

fn contains(said: &str, words: &[&str]) -> anyhow::Result<()> {
    let lower = said.to_lowercase();
    for word in words {
        ensure!(lower.contains(&word.to_lowercase()), "{word:?} is not in: {said}");
    }
    Ok(())
}

#[test]
fn a_missing_database_and_a_wrong_password_are_said() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let secret = "hunter2-and-more";
    let options = pg::Options { password: Some(secret.into()), ..pg::Options::default() };
    let site = Site::prepare(&folder.path().join("site"), &options)?;

    let wrong = site.database().url_as("ebb:not-the-password", "ebb");
    let (code, said) = refused(site.serve().env("EBB_DATABASE_URL", &wrong))?;
    contains(&said, &["password", "database"])?;
    ensure!(!said.contains("not-the-password"), "the password is shown: {said}");
    ensure!(code == 2, "code {code}: {said}");

    let nowhere = "postgres://ebb@localhost/ebb?host=/nonexistent/ebb";
    let (code, said) = refused(site.serve().env("EBB_DATABASE_URL", nowhere))?;
    contains(&said, &["database"])?;
    ensure!(code == 10, "code {code}: {said}");

    let (code, said) = refused(site.serve().env_remove("EBB_DATABASE_URL"))?;
    contains(&said, &["EBB_DATABASE_URL"])?;
    ensure!(code == 2, "code {code}: {said}");

    // Nothing is lost: with the right one it starts.
    site.start_boss()
}

#[test]
fn a_busy_port_and_a_second_boss_are_said() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let site = Site::start(&folder.path().join("site"), &pg::Options::default())?;
    let (listen, agents) = site.listens();

    // The same state directory, other ports.
    let serve = |listen: String, agents: String, state: std::path::PathBuf| {
        let mut command = site.program("boss");
        command.args(["serve", "--listen", &listen, "--agent-listen", &agents, "--state"]).arg(state);
        command
    };
    let free = || "127.0.0.1:0".to_owned();
    let (_, said) = refused(&mut serve(free(), free(), site.state()))?;
    contains(&said, &["state", "another"])?;
    contains(&said, &[&site.state().display().to_string()])?;

    // Another state directory, a port that is taken: one of each listener.
    let taken = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let holder = TcpListener::bind(taken)?;
    for (a, b) in [(taken.to_string(), free()), (free(), taken.to_string())] {
        let (_, said) = refused(&mut serve(a, b, folder.path().join("other-state")))?;
        contains(&said, &[&taken.to_string()])?;
    }
    drop(holder);
    ensure!(listen != agents, "two listeners");
    // The first was not disturbed.
    site.ebb(["whoami"]).map(drop)
}

#[test]
fn names_with_a_slash_are_refused() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let site = Site::start(&folder.path().join("site"), &pg::Options::default())?;
    let bad = ["demo/a/b", "demo/../etc", "demo/A", "demo/"];
    for name in bad {
        let (code, said) =
            refused(site.program("ebb").args(["exp", "create", name, "--node", "one=system", "--save"]))?;
        contains(&said, &["name"])?;
        ensure!(code == 2, "{name}: code {code}: {said}");
    }
    for arguments in [["admin", "project", "add", "a/b"], ["admin", "project", "add", ".."]] {
        let (code, said) = refused(site.program("boss").args(arguments))?;
        contains(&said, &["name"])?;
        ensure!(code == 2, "code {code}: {said}");
    }
    // Past our own programs, too.
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(site.folder().join("token"))?)?;
    let token = kept["token"].as_str().context("a token")?;
    let body = r#"{"pid":"demo","eid":"a/b","save_swap_state":true,"nodes":[{"vname":"one","image":"system"}]}"#;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, text) = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client.post(format!("{}/api/v1/experiments", site.url())).bearer_auth(token);
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        Ok::<_, anyhow::Error>((answer.status().as_u16(), answer.text().await?))
    })?;
    ensure!((400..500).contains(&status), "{status}: {text}");
    let error: boss_api::ApiError = serde_json::from_str(&text).with_context(|| format!("one error shape: {text}"))?;
    contains(&error.message, &["a/b", "name"])
}

/// Takes all the room that a file system has left.
fn fill(folder: &Path) -> anyhow::Result<()> {
    let mut filler = fs::File::create(folder.join("filler"))?;
    let page = [1; 4096];
    loop {
        match filler.write_all(&page) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("take all room"),
        }
    }
}

#[test]
fn a_full_store_loses_nothing() -> anyhow::Result<()> {
    if !tools::is_root() {
        return suite::skip("bad_input::a_full_store_loses_nothing", "a small file system to fill needs root");
    }
    let _alone = alone();
    let scene = Scene::new(160)?;
    scene.swap_in_first()?;
    scene.work(64 * MIB)?;
    let before = scene.disk_digest()?;
    // The state directory moves to a file system that has room for what is there and little more.
    let state = scene.site.state();
    scene.site.kill_boss()?;
    let kept = scene.path("state-before");
    fs::rename(&state, &kept)?;
    fs::create_dir(&state)?;
    let used = tools::output(tools::program("du").args(["-sm", "--"]).arg(&kept))?;
    let used: u64 = used.split_whitespace().next().context("du says a number")?.parse()?;
    let size = |mib: u64| format!("size={}m,mode=0700", used + mib);
    tools::run(tools::program("mount").args(["-t", "tmpfs", "-o", &size(20), "ebb-test"]).arg(&state))?;
    let _unmount = Cleanup::new({
        let state = state.clone();
        move || drop(tools::run(tools::program("umount").arg("--lazy").arg(&state)))
    });
    tools::run(tools::program("cp").arg("-a").arg(kept.join(".")).arg(&state))?;
    scene.site.start_boss()?;

    let output = scene.site.try_ebb(["exp", "swapout", EXPERIMENT, "--wait"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "the swap-out succeeded without room");
    let state_now = scene.machine()?;
    ensure!(matches!(state_now, NodeStateView::Held { .. } | NodeStateView::InUse), "{state_now:?}");
    ensure!(scene.disk_digest()? == before, "the disk was written");
    contains(&format!("{said} {state_now:?}"), &["make room"])?;

    // Not a byte is left. A retry is a new boot, so either boss finds no room for what belongs to it, or the agent, whose
    // work folder is in there, too, for what it fetches. Whoever is first says the same.
    fill(&state)?;
    let output = scene.site.try_ebb(["exp", "retry", EXPERIMENT, "--wait"])?;
    ensure!(!output.status.success(), "the retry succeeded without room");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let state_now = scene.machine()?;
    contains(&format!("{said} {state_now:?}"), &["make room"])?;
    ensure!(matches!(state_now, NodeStateView::Held { .. }), "{state_now:?}");
    ensure!(scene.disk_digest()? == before, "the disk was written");

    // Room is made, a person says so, and nothing was lost.
    tools::run(tools::program("mount").args(["-o", &format!("remount,{}", size(400))]).arg(&state))?;
    if scene.state()? == ExperimentState::Held {
        scene.exp("retry", &["--wait"])?;
    } else {
        scene.exp("swapout", &["--wait"])?;
    }
    scene.exp("swapin", &["--wait"])?;
    scene.expect_identical()
}
