//! `imagezip serve`: how it begins, how it ends, and what it refuses.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use imagezip::capture::{BadSectors, CaptureOptions};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use serde_json::Value;
use sigs::{ByteLen, ByteOffset, ByteRange};

use super::client::{Client, READ};
use super::{PATIENCE, Pair};
use crate::command::fails;
use crate::support::make_from;

/// The program while it serves.
pub(super) struct Serving {
    child: Child,
    /// What it printed when it began to listen.
    pub(super) report: Value,
}

impl Serving {
    pub(super) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imagezip"))
            .current_dir(folder)
            .arg("serve")
            .args(arguments)
            .args(["--json", "--progress", "none"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let report = serde_json::from_str(&line).unwrap_or(Value::Null);
        let serving = Self { child, report };
        assert!(serving.report.is_object(), "{arguments:?}: {line:?}");
        serving
    }

    pub(super) fn uri(&self) -> &str {
        self.report["uri"].as_str().unwrap()
    }

    /// Ends it with a signal; returns what it said. It must end well.
    pub(super) fn end(mut self, signal: &str) -> String {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn connect(folder: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(folder.join("s")).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    Client::new(stream)
}

#[test]
fn it_says_where_it_listens_and_a_signal_ends_it_with_0_and_no_socket_left() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let pair = Pair::new();
    pair.write(at);
    for signal in ["-TERM", "-INT", "-HUP"] {
        let serving = Serving::start(at, &["base.zdi", "delta.zdi", "--nbd", "unix:s"]);
        let socket = at.join("s");
        assert_eq!(serving.uri(), format!("nbd+unix:///?socket={}", socket.display()));
        assert_eq!(serving.report["root"], pair.delta.captured.target_root.to_string());
        assert_eq!(serving.report["disk_bytes"], pair.state.len());
        assert_eq!(serving.report["complete"], true);
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = connect(at);
        client.go(true);
        assert_eq!(client.read(0, 4000, 200), pair.state[4000..4200]);
        assert_eq!(serving.end(signal), "");
        client.expect_end();
        assert!(!socket.exists());
    }
}

#[test]
fn damage_that_happens_while_it_serves_is_told_to_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let pair = Pair::new();
    pair.write(at);
    let serving = Serving::start(at, &["base.zdi", "delta.zdi", "--nbd", "unix:s"]);
    let mut client = connect(at);
    client.go(true);
    let mut image = pair.delta.image.clone();
    image[80] ^= 1;
    fs::write(at.join("delta.zdi"), image).unwrap();
    assert_eq!(client.refused(0, READ, 300_000, 50_000), 5);
    assert_eq!(client.read(0, 0, 4096), pair.state[..4096]);
    let said = serving.end("-TERM");
    assert!(said.contains("cannot be read") && said.contains("delta.zdi"), "{said}");
}

#[test]
fn an_address_that_is_taken_is_left_alone_and_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    Pair::new().write(at);
    let message = fails(at, &["serve", "base.zdi", "--nbd", "unix:base.zdi"], 1);
    assert!(message.contains("is not a socket"), "{message}");
    let message = fails(at, &["serve", "base.zdi", "--nbd", "unix:absent/s"], 4);
    assert!(message.contains("listen at unix:absent/s"), "{message}");
    let long = format!("unix:{}", "s".repeat(200));
    fails(at, &["serve", "base.zdi", "--nbd", &long], 1);

    let first = Serving::start(at, &["base.zdi", "--nbd", "unix:s"]);
    let message = fails(at, &["serve", "base.zdi", "--nbd", "unix:s"], 1);
    assert!(message.contains("a program answers there"), "{message}");
    connect(at).go(true);
    assert_eq!(first.end("-TERM"), "", "that somebody asked is no trouble");
    let first = Serving::start(at, &["base.zdi", "--nbd", "unix:s"]);
    // Killed, it leaves the socket behind.
    drop(first);
    assert!(at.join("s").exists());
    let second = Serving::start(at, &["base.zdi", "--nbd", "unix:s"]);
    connect(at).go(true);
    // A socket that somebody else has put there is not removed at the end.
    fs::remove_file(at.join("s")).unwrap();
    let other = UnixListener::bind(at.join("s")).unwrap();
    second.end("-TERM");
    assert!(at.join("s").exists());
    drop(other);

    let first = Serving::start(at, &["base.zdi", "--nbd", "127.0.0.1:0"]);
    let port = first.uri().strip_prefix("nbd://").unwrap().to_owned();
    let message = fails(at, &["serve", "base.zdi", "--nbd", &port], 1);
    assert!(message.contains(&format!("listen at {port}")), "{message}");
    first.end("-TERM");
}

#[test]
fn other_machines_are_let_in_only_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    Pair::new().write(at);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let message = fails(at, &["serve", "base.zdi", "--nbd", address], 2);
        assert!(message.contains("asks nobody for a name or a password"), "{message}");
    }
    for address in ["nonsense", "unix:", "127.0.0.1", "127.0.0.1:99999"] {
        fails(at, &["serve", "base.zdi", "--nbd", address], 2);
    }
    let serving = Serving::start(at, &["base.zdi", "--nbd", "0.0.0.0:0", "--public"]);
    assert!(serving.uri().starts_with("nbd://0.0.0.0:"), "{}", serving.uri());
    serving.end("-TERM");
    fails(at, &["serve", "delta.zdi", "--nbd", "unix:s"], 7);
}

#[test]
fn an_incomplete_image_is_served_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let disk = MemoryDisk::new(vec![7; 1 << 20]);
    disk.fail_reads(ByteRange { start: ByteOffset::new(8192), len: ByteLen::new(1024) }, None);
    let options = CaptureOptions { bad_sectors: BadSectors::List { most: 100 }, ..CaptureOptions::default() };
    let made = make_from(&disk, &Layout::whole(&disk), &[], options).unwrap();
    fs::write(at.join("x.zdi"), &made.image).unwrap();
    let serving = Serving::start(at, &["x.zdi", "--nbd", "unix:s"]);
    assert_eq!(serving.report["complete"], false);
    let said = serving.end("-TERM");
    assert!(said.contains("INCOMPLETE: 2 unreadable sectors at offset 8192 count as zeros"), "{said}");
}
