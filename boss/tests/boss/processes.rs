//! Local nodes: processes that outlive boss, are found again, and end with all their children.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use boss::power::{BootControl as _, Machine, PowerDriver as _, PowerStatus, ProcessDriver};
use boss_api::agent::{BootParameters, PROTOCOL};
use boss_api::user::PowerConfig;
use tokio::sync::Notify;

use crate::site::name;

/// An agent that starts a child, says who both are, and ignores being asked to end when told so.
fn program(state: &Path, ignores: bool) -> std::path::PathBuf {
    let path = state.join("agent.sh");
    let trap = if ignores { "trap '' TERM" } else { "" };
    let text = format!(
        "#!/bin/sh\n{trap}\nsleep 600 &\necho \"$$ $!\" > \"$4/pids.new\"\nmv \"$4/pids.new\" \"$4/pids\"\nwait\nwait\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn machine() -> Machine {
    Machine { name: name("pc1"), power: PowerConfig::Process { disks: [].into() } }
}

fn parameters() -> BootParameters {
    BootParameters {
        protocol: PROTOCOL,
        boss_url: "http://127.0.0.1:1".into(),
        node: name("pc1"),
        boot_token: "secret-token".into(),
        boss_keys: vec![],
        base_keys: vec![],
        disks: vec![],
    }
}

async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

async fn pids(state: &Path) -> Vec<String> {
    let path = state.join("run/nodes/pc1/work/pids");
    let text = until("the agent says who it is", || fs::read_to_string(&path).ok()).await;
    text.split_whitespace().map(str::to_owned).collect()
}

async fn boot_and_end(ignores: bool) {
    let state = tempfile::tempdir().unwrap();
    let driver = ProcessDriver::new(program(state.path(), ignores), state.path(), Arc::new(Notify::new()));
    assert_eq!(driver.status(&machine()).await.unwrap(), PowerStatus::Off);
    driver.boot_mfs(&machine(), &parameters()).await.unwrap();
    let file = state.path().join("run/nodes/pc1/boot.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let pids = pids(state.path()).await;
    assert_eq!(driver.status(&machine()).await.unwrap(), PowerStatus::Mfs);
    let arguments = fs::read(format!("/proc/{}/cmdline", pids[0])).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("secret-token"), "tokens never travel in arguments");

    // boss dies and starts again; once even before it noted the process.
    fs::remove_file(state.path().join("run/nodes/pc1/agent.pid")).unwrap();
    let again = ProcessDriver::new("/nowhere".into(), state.path(), Arc::new(Notify::new()));
    assert_eq!(again.status(&machine()).await.unwrap(), PowerStatus::Mfs, "found by its command line");
    again.power_off(&machine()).await.unwrap();
    assert!(!pids.iter().any(|pid| runs(pid)), "agent and child are gone");
    assert_eq!(again.status(&machine()).await.unwrap(), PowerStatus::Off);
    assert!(!file.exists());
    again.boot_disk(&machine()).await.unwrap();
    assert_eq!(again.status(&machine()).await.unwrap(), PowerStatus::OwnDisk);
    again.shut_down(&machine()).await.unwrap();
    assert_eq!(again.status(&machine()).await.unwrap(), PowerStatus::Off);
    assert!(again.boot_mfs(&machine(), &parameters()).await.is_err(), "no such program");
}

#[tokio::test]
async fn an_agent_outlives_boss_and_ends_with_its_children() {
    boot_and_end(false).await;
}

#[tokio::test]
async fn an_agent_that_ignores_being_asked_is_killed() {
    boot_and_end(true).await;
}

#[tokio::test]
async fn children_of_a_dead_agent_end_before_the_next_boot() {
    let state = tempfile::tempdir().unwrap();
    let changed = Arc::new(Notify::new());
    let driver = ProcessDriver::new(program(state.path(), false), state.path(), Arc::clone(&changed));
    driver.boot_mfs(&machine(), &parameters()).await.unwrap();
    let pids = pids(state.path()).await;
    let told = changed.notified();
    let raw = pids[0].parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(raw).unwrap(), rustix::process::Signal::KILL).unwrap();
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("the end of an agent wakes boss");
    assert!(runs(&pids[1]), "its child still runs");
    assert_eq!(driver.status(&machine()).await.unwrap(), PowerStatus::Off);
    driver.power_off(&machine()).await.unwrap();
    assert!(!runs(&pids[1]));
}
