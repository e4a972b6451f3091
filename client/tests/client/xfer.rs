//! `ebb xfer` as a process: what each verb says and ends with, and what one process does to a transfer of another.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Json, Router};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::fixture::poll;

/// A directory of journals, and one of files.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let from = bench.path("from");
        fs::create_dir_all(from.join("deep/empty")).unwrap();
        fs::write(from.join("large"), noise(5 << 20)).unwrap();
        fs::write(from.join("deep/small"), noise(700)).unwrap();
        fs::hard_link(from.join("deep/small"), from.join("deep/the same")).unwrap();
        std::os::unix::fs::symlink("../large", from.join("deep/link")).unwrap();
        fs::set_permissions(from.join("deep/empty"), fs::Permissions::from_mode(0o750)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebb"));
        command.arg("xfer").args(arguments).env("EBB_XFER_STATE", self.path("journals")).stdin(Stdio::null());
        command.env_remove("EBB_XFER_LIMIT").env_remove("EBB_XFER_RESERVE").current_dir(self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a verb that is to end with this code; returns what it printed.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(code == 0 || !said.trim().is_empty(), "{arguments:?} says nothing");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn standing(&self, id: &str) -> String {
        let view: Value = serde_json::from_str(&self.ends(0, &["status", id, "--format", "json"])).unwrap();
        view["standing"].as_str().unwrap().to_owned()
    }

    /// Creates a transfer of a file of so many chunks of 4 MiB, one of which is copied each second.
    fn slow(&self, chunks: usize) -> String {
        fs::write(self.path("long"), noise(chunks * (4 << 20))).unwrap();
        let id = self.ends(0, &["create", "--kind", "sync", "--limit", "4M"]);
        self.ends(0, &["add", &id, "long", "copy"]);
        id
    }

    /// Takes a finished transfer back to where its last file had its metadata and was about to get its name.
    fn undo_the_name(&self, id: &str, name: &str) {
        let journal = self.path("journals").join(format!("{id}.journal"));
        let whole = fs::read(&journal).unwrap();
        let record = b"{\"record\":\"finalizing\"";
        let at = (0..whole.len()).rfind(|at| whole[*at..].starts_with(record)).unwrap();
        let end = at + whole[at..].iter().position(|byte| *byte == b'}').unwrap() + 1;
        let item: Value = serde_json::from_slice(&whole[at..end]).unwrap();
        let path = self.path(name);
        let temporary = format!(".ebb-{id}-{}.partial", item["item"]);
        fs::rename(&path, path.parent().unwrap().join(temporary)).unwrap();
        fs::write(&journal, &whole[..end]).unwrap();
    }

    fn partial_files(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "partial")).collect()
    }

    fn partial_bytes(&self) -> u64 {
        self.partial_files().iter().map(|path| fs::metadata(path).map_or(0, |found| found.len())).sum()
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Everything that a copy has in common with its source.
fn tree(path: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(at) = waiting.pop() {
        let metadata = fs::symlink_metadata(&at).unwrap();
        let (content, time) = match metadata.file_type() {
            kind if kind.is_dir() => {
                waiting.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
                (Vec::new(), metadata.mtime_nsec())
            }
            kind if kind.is_symlink() => (fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes(), 0),
            _ => (fs::read(&at).unwrap(), metadata.mtime_nsec()),
        };
        found.push((at.strip_prefix(path).unwrap().to_owned(), metadata.mode(), time, content));
    }
    found.sort();
    found
}

#[test]
fn a_transfer_goes_from_verb_to_verb() {
    let bench = Bench::new();
    let before = tree(&bench.path("from"));
    let id = bench.ends(0, &["create", "--kind", "sync"]);
    assert_eq!(bench.standing(&id), "created");
    bench.ends(6, &["dispatch", &id]);
    bench.ends(6, &["resume", &id]);
    bench.ends(0, &["add", &id, "from", "to"]);
    // Once more is not twice.
    let added: Value = serde_json::from_str(&bench.ends(0, &["add", &id, "from", "to", "--format", "json"])).unwrap();
    assert_eq!((&added["items"], &added["bytes"]), (&Value::from(7), &Value::from((5 << 20) + 1400)));
    for verb in ["test", "wait", "free"] {
        bench.ends(6, &[verb, &id]);
    }
    let done: Value = serde_json::from_str(&bench.ends(0, &["dispatch", &id, "--format", "json"])).unwrap();
    assert_eq!((&done["standing"], &done["items_done"]), (&Value::from("done"), &Value::from(7)));
    assert!(tree(&bench.path("to")) == before && tree(&bench.path("from")) == before);
    for verb in ["test", "wait", "resume", "open", "status", "stop"] {
        bench.ends(0, &[verb, &id]);
    }
    bench.ends(6, &["dispatch", &id]);
    bench.ends(6, &["add", &id, "from", "more"]);
    bench.ends(6, &["cancel", &id]);
    assert!(bench.ends(0, &["list"]).contains(&id));
    bench.ends(0, &["free", &id]);
    bench.ends(4, &["status", &id]);
    assert_eq!(bench.ends(0, &["list", "--format", "json"]), "[]");
    assert_eq!(fs::read_dir(bench.path("journals")).unwrap().count(), 0);
}

#[test]
fn wrong_usage_is_2_and_leaves_no_journal() {
    let bench = Bench::new();
    for arguments in [
        &["create", "--limit", "0"][..],
        &["create", "--limit", "fast"],
        &["create", "--reserve", "100%"],
        &["create", "--kind", "sync", "--threads", "4"],
        &["create", "--kind", "boss"],
        &["copy", "from"],
        &["copy", "from/large", "boss:name"],
        &["copy", "boss:sha256:0f3a", "to"],
        &["copy", "boss:image", "to"],
        &["copy", "-T", "from", "from/large", "to"],
        &["status", "one"],
        &["stop"],
    ] {
        bench.ends(2, arguments);
    }
    bench.ends(4, &["copy", "nothing", "to"]);
    bench.ends(4, &["copy", "from", "no/such/place"]);
    bench.ends(4, &["copy", "from/large", "from/deep/small", "to"]);
    bench.ends(1, &["copy", "from", "from/deep/copy"]);
    assert_eq!(bench.ends(0, &["list", "--format", "json"]), "[]");
}

#[test]
fn names_are_given_as_cp_gives_them() {
    let bench = Bench::new();
    fs::create_dir(bench.path("into")).unwrap();
    bench.ends(0, &["copy", "from/large", "from/deep", "into"]);
    bench.ends(0, &["copy", "from/deep/small", "into/"]);
    bench.ends(0, &["copy", "from/deep", "new"]);
    fs::create_dir(bench.path("merged")).unwrap();
    bench.ends(0, &["copy", "-T", "from/deep", "merged"]);
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(bench.path(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    for whole in ["new", "merged"] {
        assert_eq!(names(whole), ["empty", "link", "small", "the same"]);
    }
    assert_eq!(names("into"), ["deep", "large", "small"]);
    // What is there already is not written over.
    fs::write(bench.path("into/large"), b"mine").unwrap();
    bench.ends(1, &["copy", "from/large", "into"]);
    assert_eq!(fs::read(bench.path("into/large")).unwrap(), b"mine");
}

#[test]
fn one_process_stops_and_cancels_what_another_works_on() {
    let bench = Bench::new();
    let id = bench.slow(30);
    bench.ends(0, &["dispatch", &id, "--background"]);
    assert_eq!(bench.standing(&id), "running");
    bench.ends(9, &["test", &id]);
    bench.ends(9, &["wait", &id, "--timeout", "0"]);
    // Nobody else gets at it meanwhile.
    for verb in ["resume", "forget", "open"] {
        bench.ends(6, &[verb, &id]);
    }
    bench.ends(0, &["stop", &id]);
    assert_eq!(bench.standing(&id), "stopped");
    bench.ends(6, &["wait", &id]);
    assert_eq!(bench.partial_files().len(), 1);
    // A request that was left behind stops nobody: the next attempt is another.
    bench.ends(0, &["resume", &id, "--background"]);
    assert_eq!(bench.standing(&id), "running");
    bench.ends(0, &["stop", "--all"]);
    bench.ends(0, &["resume", &id, "--background"]);
    bench.ends(0, &["cancel", &id]);
    assert_eq!((bench.standing(&id).as_str(), bench.partial_files().len()), ("cancelled", 0));
    assert!(!bench.path("copy").exists() && bench.path("long").exists());
    bench.ends(6, &["resume", &id]);
    bench.ends(0, &["free", &id]);
}

#[test]
fn what_was_copied_before_a_stop_is_not_copied_again() {
    let bench = Bench::new();
    let id = bench.slow(4);
    bench.ends(0, &["dispatch", &id, "--background"]);
    // The second chunk waits for its turn.
    poll("the first chunk", || (bench.partial_bytes() >= 4 << 20).then_some(()));
    bench.ends(0, &["stop", &id]);
    let view: Value = serde_json::from_str(&bench.ends(0, &["status", &id, "--format", "json"])).unwrap();
    let durable = view["bytes_done"].as_u64().unwrap();
    assert!(durable >= 4 << 20, "{view}");
    bench.ends(0, &["resume", &id]);
    assert!(fs::read(bench.path("copy")).unwrap() == fs::read(bench.path("long")).unwrap());
}

#[test]
fn a_signal_stops_it_where_it_can_be_resumed() {
    for signal in [Signal::INT, Signal::TERM] {
        let bench = Bench::new();
        let id = bench.slow(3);
        let child = bench.command(&["dispatch", &id]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        poll("it to begin", || (bench.standing(&id) == "running").then_some(()));
        kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{}", said(&ended));
        assert!(said(&ended).contains(&format!("ebb xfer resume {id}")), "{}", said(&ended));
        assert_eq!(bench.standing(&id), "stopped");
        bench.ends(0, &["resume", &id]);
        assert!(fs::read(bench.path("copy")).unwrap() == fs::read(bench.path("long")).unwrap());
    }
}

#[test]
fn a_killed_one_is_cut_off_and_resumed() {
    let bench = Bench::new();
    let id = bench.slow(3);
    let mut child = bench.command(&["dispatch", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    poll("it to begin", || (bench.standing(&id) == "running").then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.standing(&id), "cut-off");
    assert!(bench.ends(0, &["fsck", &id]).contains(&format!("ebb xfer resume {id}")));
    bench.ends(0, &["resume", &id]);
    assert!(fs::read(bench.path("copy")).unwrap() == fs::read(bench.path("long")).unwrap());
    assert_eq!(bench.ends(0, &["fsck"]), "");
}

#[test]
fn in_the_background_it_outlives_the_terminal() {
    let bench = Bench::new();
    let id = bench.slow(3);
    // A job of a shell: its own group, which is told when the terminal goes.
    let mut shell = bench.command(&["dispatch", &id, "--background"]);
    let mut shell = shell.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let group = Pid::from_raw(shell.id().cast_signed()).unwrap();
    assert!(shell.wait().unwrap().success());
    assert!(kill_process_group(group, Signal::HUP).is_err(), "somebody is left in the group of the shell");
    bench.ends(0, &["wait", &id]);
    assert_eq!(bench.standing(&id), "done");
    // A failure in the background is the verdict of the wait.
    let id = bench.ends(0, &["create"]);
    bench.ends(0, &["add", &id, "-T", "long", "copy"]);
    bench.ends(0, &["dispatch", &id, "--background"]);
    bench.ends(1, &["wait", &id]);
    assert!(bench.ends(1, &["fsck", &id]).contains("in the way"));
}

#[test]
fn corrupt_journals_are_listed_explained_and_forgotten() {
    let bench = Bench::new();
    let ids: Vec<_> = (0..3).map(|_| bench.ends(0, &["create"])).collect();
    let journal = |id: &str| bench.path("journals").join(format!("{id}.journal"));
    fs::write(journal(&ids[0]), b"nonsense").unwrap();
    let mut damaged = fs::read(journal(&ids[1])).unwrap();
    damaged[40] ^= 1;
    fs::write(journal(&ids[1]), damaged).unwrap();
    fs::write(bench.path("journals/.journal-x.partial"), b"").unwrap();
    fs::write(bench.path("journals/notes.txt"), b"mine").unwrap();

    let list = bench.ends(0, &["list"]);
    assert!(ids.iter().all(|id| list.contains(id)) && list.matches("unreadable").count() == 2, "{list}");
    let found: Value = serde_json::from_str(&bench.ends(7, &["fsck", "--format", "json"])).unwrap();
    let count = |what: &str| found.as_array().unwrap().iter().filter(|finding| finding["finding"] == what).count();
    assert_eq!(["unreadable", "unfinished", "leftover", "foreign"].map(count), [2, 1, 1, 1], "{found}");
    assert!(found[0]["next"].as_str().is_some_and(|next| !next.is_empty()));
    bench.ends(7, &["status", &ids[0]]);
    bench.ends(7, &["resume", &ids[1]]);
    bench.ends(7, &["fsck", "--fix"]);
    assert!(!bench.path("journals/.journal-x.partial").exists() && bench.path("journals/notes.txt").exists());
    bench.ends(0, &["forget", &ids[0], &ids[1]]);
    bench.ends(0, &["fsck"]);
    assert_eq!(bench.ends(4, &["fsck", &ids[0]]), "");
}

#[test]
fn without_room_nothing_is_written_and_what_is_missing_is_said() {
    let bench = Bench::new();
    let refused = bench.run(&["copy", "--reserve", "99%", "--keep", "from", "to"]);
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(8), "{text}");
    assert!(text.contains("bytes too few") && text.contains("stay free"), "{text}");
    assert!(!bench.path("to").exists());
    let listed: Value = serde_json::from_str(&bench.ends(0, &["list", "--format", "json"])).unwrap();
    assert_eq!((&listed[0]["standing"], &listed[0]["class"]), (&Value::from("failed"), &Value::from("no-space")));
    bench.ends(8, &["wait", listed[0]["id"].as_str().unwrap()]);
    bench.ends(0, &["copy", "--reserve", "1", "from", "to"]);
}

#[test]
fn sources_are_released_those_with_several_names_too() {
    let bench = Bench::new();
    let before = tree(&bench.path("from"));
    bench.ends(0, &["copy", "--release-sources", "from", "to"]);
    assert!(tree(&bench.path("to")) == before && !bench.path("from").exists());
}

/// The owner of a file may be kept out of it by its mode, from writing or from both.
#[test]
fn an_ordinary_user_finishes_files_that_their_mode_keeps_him_out_of() {
    const NOBODY: u32 = 65534;
    let root = rustix::process::geteuid().is_root();
    for mode in if root { &[0o400, 0o044][..] } else { &[0o400] } {
        let bench = Bench::new();
        let large = bench.path("from/large");
        rustix::fs::lsetxattr(&large, "user.ebb", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
        fs::set_permissions(&large, fs::Permissions::from_mode(*mode)).unwrap();
        let before = tree(&bench.path("from"));
        let id = bench.ends(0, &["create", "--kind", "sync"]);
        bench.ends(0, &["add", &id, "from", "to"]);
        let as_nobody = |arguments: &[&str]| {
            let mut command = bench.command(arguments);
            if root {
                command.uid(NOBODY).gid(NOBODY);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{mode:o}: {}", said(&output));
        };
        if root {
            let given = Command::new("chown").args(["-R", "65534:65534"]).arg(bench.folder.path()).status().unwrap();
            assert!(given.success());
            // Others may read it: the copy becomes a file of its maker, who may not.
            std::os::unix::fs::chown(&large, (*mode == 0o044).then_some(0), None).unwrap();
        }
        as_nobody(&["dispatch", &id]);
        bench.undo_the_name(&id, "to/large");
        as_nobody(&["resume", &id]);
        assert!(tree(&bench.path("to")) == before);
        let mut value = [0; 8];
        assert_eq!(rustix::fs::lgetxattr(bench.path("to/large"), "user.ebb", &mut value[..]), Ok(4));
    }
}

/// Someone who gives one answer to everything, and who asks there.
struct Parrot {
    server: String,
    bench: Bench,
    _runtime: Runtime,
}

impl Parrot {
    fn saying(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(async move || answer);
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let bench = Bench::new();
        fs::write(bench.path("token"), "a-token").unwrap();
        fs::set_permissions(bench.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { server, bench, _runtime: runtime }
    }

    /// As [`Bench::ends`], of somebody who is signed in.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let mut command = self.bench.command(arguments);
        command.env("EBB_SERVER", &self.server).env("EBB_TOKEN_FILE", self.bench.path("token"));
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {}", said(&ended));
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn who_waits_hears_what_who_works_heard() {
    let object = format!("boss:sha256:{:064x}", 1);
    for (status, word, code) in [
        (StatusCode::BAD_REQUEST, "bad_request", 2),
        (StatusCode::NOT_FOUND, "not_found", 4),
        (StatusCode::UNAUTHORIZED, "not_signed_in", 5),
        (StatusCode::FORBIDDEN, "not_allowed", 5),
        (StatusCode::CONFLICT, "wrong_state", 6),
        (StatusCode::UNPROCESSABLE_ENTITY, "verification_failed", 7),
        (StatusCode::INSUFFICIENT_STORAGE, "no_space", 8),
        (StatusCode::IM_A_TEAPOT, "nothing_of_boss", 1),
    ] {
        let parrot = Parrot::saying((status, Json(json!({"code": word, "message": "as the test wants it"}))));
        let id = parrot.ends(0, &["create"]);
        parrot.ends(0, &["add", &id, &object, "copy"]);
        parrot.ends(code, &["dispatch", &id]);
        parrot.ends(code, &["wait", &id]);
        parrot.ends(code, &["test", &id]);
    }
    // And so of what is here: its folder went.
    let bench = Bench::new();
    fs::create_dir(bench.path("folder")).unwrap();
    let id = bench.ends(0, &["create"]);
    bench.ends(0, &["add", &id, "from/large", "folder/copy"]);
    fs::remove_dir(bench.path("folder")).unwrap();
    bench.ends(4, &["dispatch", &id]);
    bench.ends(4, &["wait", &id]);
}

#[test]
fn once_what_boss_has_arrived_nobody_needs_to_be_signed_in() {
    // An object of one byte: to ask how large it is and to ask for it is the same.
    let parrot = Parrot::saying((StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, "bytes 0-0/1")], "x"));
    let object = "boss:sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let bench = &parrot.bench;
    fs::create_dir(bench.path("folder")).unwrap();
    let id = parrot.ends(0, &["create", "--kind", "sync"]);
    parrot.ends(0, &["add", &id, object, "copy"]);
    parrot.ends(0, &["add", &id, "from/large", "folder/copy"]);
    bench.ends(5, &["dispatch", &id, "--server", &parrot.server, "--token-file", "nowhere"]);
    fs::remove_dir(bench.path("folder")).unwrap();
    parrot.ends(4, &["dispatch", &id]);
    assert_eq!(fs::read(bench.path("copy")).unwrap(), b"x");
    fs::create_dir(bench.path("folder")).unwrap();
    bench.ends(0, &["resume", &id, "--server", &parrot.server, "--token-file", "nowhere"]);

    // What is shown of it makes another one of the same.
    let view: Value = serde_json::from_str(&bench.ends(0, &["status", &id, "--format", "json"])).unwrap();
    let text = |name: &str| view[name].as_str().unwrap();
    assert_eq!((text("boss"), text("source")), (parrot.server.as_str(), object));
    fs::remove_file(bench.path("copy")).unwrap();
    parrot.ends(0, &["copy", text("source"), text("destination")]);
    assert_eq!(fs::read(bench.path("copy")).unwrap(), b"x");
}
