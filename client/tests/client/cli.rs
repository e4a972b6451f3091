//! `ebb` as a process: exit codes, tokens, waiting.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::extract::{Path as Segments, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const JOB: &str = "019340aa-0000-7000-8000-000000000001";
const TOKEN: &str = "a-token-that-must-not-be-shown";

/// A boss that knows one experiment, whose job is in the state that the test sets.
struct Site {
    address: SocketAddr,
    state: Arc<Mutex<String>>,
    home: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new("running".to_owned()));
        let router = Router::new()
            .route("/api/v1/login", post(login))
            .route("/api/v1/whoami", get(whoami))
            .route("/api/v1/jobs/{id}", get(job_answer))
            .route("/api/v1/experiments/{pid}/{eid}", get(experiment))
            .route("/api/v1/experiments/{pid}/{eid}/swapout", post(swapout))
            .route("/api/v1/settings", get(settings))
            .with_state(Arc::clone(&state));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, home: tempfile::tempdir().unwrap(), _runtime: runtime }
    }

    fn becomes(&self, state: &str) {
        *self.state.lock().unwrap() = state.to_owned();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ebb(self.home.path(), arguments);
        command.env("EBB_SERVER", format!("http://{}", self.address));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn sign_in(&self) {
        let password = self.home.path().join("right");
        fs::write(&password, "secret\n").unwrap();
        let output = self.run(&["login", "--user", "alice", "--password-file", password.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
    }
}

fn ebb(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebb"));
    command.args(arguments).env_remove("EBB_SERVER").env_remove("EBB_TOKEN_FILE").env("XDG_CONFIG_HOME", home);
    command.stdin(Stdio::null());
    command
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"code": code, "message": message}))).into_response()
}

async fn login(Json(body): Json<Value>) -> Response {
    if body["password"] == "secret" {
        Json(json!({"token": TOKEN, "expires_at": "2030-01-01T00:00:00Z"})).into_response()
    } else {
        refuse(StatusCode::UNAUTHORIZED, "not_signed_in", "no such user, or another password")
    }
}

async fn whoami(headers: HeaderMap) -> Response {
    if headers.get("authorization").is_some_and(|value| *value == format!("Bearer {TOKEN}")) {
        Json(json!({"user": "alice", "role": "member", "projects": ["p"]})).into_response()
    } else {
        refuse(StatusCode::UNAUTHORIZED, "not_signed_in", "this token is not known")
    }
}

fn job(state: &str) -> Value {
    let ended = matches!(state, "done" | "failed").then_some("2026-11-21T00:00:05Z");
    json!({"id": JOB, "kind": "swap-out", "state": state, "saves": true, "on_failure": "hold-all",
           "detail": (state == "failed").then_some("no room"),
           "created_at": "2026-11-21T00:00:00Z", "ended_at": ended})
}

async fn job_answer(State(state): State<Arc<Mutex<String>>>, Segments(_): Segments<String>) -> Json<Value> {
    let state = state.lock().unwrap().clone();
    Json(job(&state))
}

async fn swapout(State(state): State<Arc<Mutex<String>>>, Segments((_, eid)): Segments<(String, String)>) -> Response {
    match eid.as_str() {
        "e" => Json(job(&state.lock().unwrap())).into_response(),
        "swapped" => refuse(StatusCode::CONFLICT, "wrong_state", "p/swapped is swapped out already"),
        _ => refuse(StatusCode::NOT_FOUND, "not_found", "no such experiment"),
    }
}

async fn experiment(State(state): State<Arc<Mutex<String>>>, Segments(_): Segments<(String, String)>) -> Json<Value> {
    let state = state.lock().unwrap().clone();
    let node = if state == "held" {
        json!({"state": "held", "reason": "the root differs", "owner": "operator", "next": "look at the disk",
               "disks": "unsaved", "kept": {"by": "bob", "until": "2026-11-24T23:59:59Z", "note": "mine"}})
    } else {
        json!({"state": "capturing"})
    };
    let progress = json!([{"disk": "sda", "activity": "capture", "done_bytes": 1, "total_bytes": 2,
                           "changed_bytes": 0, "sent_bytes": 0, "started_at": null}]);
    Json(json!({"id": JOB, "pid": "p", "eid": "e", "state": if state == "held" { "held" } else { "swapping" },
        "state_since": "2026-11-21T00:00:00Z", "save_swap_state": true, "creator": "alice",
        "nodes": [{"vname": "client", "image": "debian/1", "node": "pc1", "node_state": node, "progress": progress}],
        "job": job(&state), "last_point": null}))
}

async fn settings() -> Json<Value> {
    let setting =
        |index: usize| json!({"name": format!("s/{index}"), "value": "1", "default": "1", "help": "x".repeat(900)});
    Json((0..2000).map(setting).collect())
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_is_2() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["exp", "show", "noslash"][..],
        &["exp", "show", "p/E"],
        &["exp", "create", "p/e"],
        &["exp", "create", "p/e", "--node", "client"],
        &["exp", "modify", "p/e"],
        &["exp", "modify", "p/e", "--save", "--no-save"],
        &["exp", "swapin", "p/e", "--timeout", "3"],
        &["node", "add", "pc1", "--disk", "sda=relative"],
        &["job", "show", "x"],
        &["image", "retire", "debian"],
        &["nonsense"],
        &["whoami"],
        &["whoami", "--server", "https://127.0.0.1"],
        &["login", "--user", "alice", "--server", "http://127.0.0.1:1"],
        &["image", "create", "/dev/null", "--name", "../x", "--key", "k"],
    ] {
        let mut command = ebb(home.path(), arguments);
        // Signed in somewhere, so that only the usage is at fault.
        let token = home.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        if arguments != ["whoami"] && !arguments.contains(&"--server") {
            command.env("EBB_SERVER", "http://127.0.0.1:1");
        }
        let output = command.env("EBB_TOKEN_FILE", &token).output().unwrap();
        assert_eq!(code(&output), 2, "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_boss_that_is_away_is_10() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let output = ebb(home.path(), &["whoami", "--server", &format!("http://{address}")])
        .env("EBB_TOKEN_FILE", &token)
        .output()
        .unwrap();
    assert_eq!(code(&output), 10, "{}", said(&output));
    assert!(said(&output).contains(&address.to_string()), "{}", said(&output));
}

#[test]
fn a_token_is_kept_private_and_given_back() {
    let site = Site::start();
    assert_eq!(code(&site.run(&["whoami"])), 5, "nobody is signed in");
    let wrong = site.home.path().join("password");
    fs::write(&wrong, "wrong\n").unwrap();
    let refused = site.run(&["login", "--user", "alice", "--password-file", wrong.to_str().unwrap()]);
    assert_eq!(code(&refused), 5, "{}", said(&refused));
    assert!(!said(&refused).contains("wrong\n"));

    site.sign_in();
    let token = site.home.path().join("ebb/token");
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(token.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let whoami = site.run(&["whoami", "--format", "json"]);
    assert_eq!(code(&whoami), 0, "{}", said(&whoami));
    let answer: Value = serde_json::from_slice(&whoami.stdout).unwrap();
    assert_eq!(answer["user"], "alice");
    assert!(!String::from_utf8_lossy(&whoami.stdout).contains(TOKEN));

    // The token is for one boss and goes to no other.
    let elsewhere = site.run(&["whoami", "--server", "http://127.0.0.1:9"]);
    assert_eq!(code(&elsewhere), 5, "{}", said(&elsewhere));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let open = site.run(&["whoami"]);
    assert_eq!(code(&open), 2, "{}", said(&open));
    assert!(!said(&open).contains(TOKEN));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();

    assert_eq!(code(&site.run(&["logout"])), 0);
    assert!(!token.exists());
}

#[test]
fn errors_of_boss_have_their_codes() {
    let site = Site::start();
    site.sign_in();
    assert_eq!(code(&site.run(&["exp", "swapout", "p/other"])), 4);
    let wrong_state = site.run(&["exp", "swapout", "p/swapped"]);
    assert_eq!(code(&wrong_state), 6);
    assert!(said(&wrong_state).contains("swapped out already"));
}

#[test]
fn waiting_ends_as_the_job_does() {
    let site = Site::start();
    site.sign_in();
    site.becomes("done");
    let done = site.run(&["exp", "swapout", "p/e", "--wait", "--format", "json"]);
    assert_eq!(code(&done), 0, "{}", said(&done));
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap()["state"], "done");

    site.becomes("failed");
    let failed = site.run(&["exp", "wait", "p/e"]);
    assert_eq!(code(&failed), 1);
    assert!(said(&failed).contains("no room"), "{}", said(&failed));

    site.becomes("held");
    let held = site.run(&["exp", "swapout", "p/e", "--wait"]);
    assert_eq!(code(&held), 1);
    for words in
        ["the root differs", "operator", "look at the disk", "pc1", "the only copy", "bob wants it left as it is"]
    {
        assert!(said(&held).contains(words), "{words}: {}", said(&held));
    }
    assert!(String::from_utf8_lossy(&held.stdout).contains("hold-all if a node cannot be saved"));

    site.becomes("running");
    let started = std::time::Instant::now();
    let late = site.run(&["exp", "swapout", "p/e", "--wait", "--timeout", "1"]);
    assert_eq!(code(&late), 9, "{}", said(&late));
    assert!(started.elapsed().as_secs() >= 1);
    assert!(said(&late).contains("goes on"), "{}", said(&late));
    let unasked = site.run(&["exp", "swapout", "p/e"]);
    assert_eq!(code(&unasked), 0);
    assert_eq!(String::from_utf8_lossy(&unasked.stdout).trim(), JOB);
}

#[test]
fn an_interrupt_is_130_and_says_that_the_job_goes_on() {
    let site = Site::start();
    site.sign_in();
    let mut child = site.command(&["job", "wait", JOB]).stderr(Stdio::piped()).spawn().unwrap();
    // It says something every ten seconds; that it waits is known by the signal it listens for.
    let pid = i32::try_from(child.id()).unwrap();
    crate::fixture::poll("ebb to listen for signals", || catches_interrupt(pid).then_some(()));
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while stderr.read_line(&mut said).unwrap() > 0 {}
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("goes on"), "{said}");
}

fn catches_interrupt(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 0b10 != 0)
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let site = Site::start();
    site.sign_in();
    let mut child = site.command(&["setting", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), said(&output)), (0, String::new()));
}
