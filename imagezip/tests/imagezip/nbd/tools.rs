//! What the tools of QEMU and libnbd read is the state.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::Pair;
use super::program::Serving;
use crate::skips::skip;
use crate::support::patchwork;

/// Returns true when the tools are there.
fn tools_are_here() -> bool {
    let here =
        ["qemu-img", "nbdinfo", "nbdcopy"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !here {
        skip("qemu-img, nbdinfo and nbdcopy are not installed (Debian: qemu-utils, libnbd-bin)");
    }
    here
}

fn try_run(tool: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(tool).current_dir(folder).args(arguments).output().unwrap()
}

/// Runs a tool and returns what it prints; it must succeed.
fn run(tool: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = try_run(tool, folder, arguments);
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(tool: &str, folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(tool, folder, arguments)).unwrap()
}

#[test]
fn base_and_delta_are_read_right_by_all_of_them() {
    if !tools_are_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let pair = Pair::new();
    pair.write(at);
    fs::write(at.join("state.img"), &pair.state).unwrap();
    let over_unix = Serving::start(at, &["base.zdi", "delta.zdi", "--nbd", "unix:with space"]);
    let over_tcp = Serving::start(at, &["base.zdi", "delta.zdi", "--nbd", "localhost:0"]);
    for serving in [&over_unix, &over_tcp] {
        let uri = serving.uri();
        run("qemu-img", at, &["compare", "-f", "raw", "-F", "raw", "state.img", uri]);
        run("qemu-img", at, &["convert", "-f", "raw", "-O", "raw", uri, "converted.img"]);
        assert!(fs::read(at.join("converted.img")).unwrap() == pair.state);
        run("qemu-img", at, &["convert", "-f", "raw", "-O", "qcow2", uri, "converted.qcow2"]);
        run("qemu-img", at, &["compare", "-f", "raw", "-F", "qcow2", "state.img", "converted.qcow2"]);
        for connections in ["--connections=1", "--connections=4"] {
            run("nbdcopy", at, &[connections, uri, "copied.img"]);
            assert!(fs::read(at.join("copied.img")).unwrap() == pair.state, "{connections}");
            fs::remove_file(at.join("copied.img")).unwrap();
        }
    }
    over_tcp.end("-TERM");
    assert_eq!(over_unix.end("-TERM"), "");
}

#[test]
fn what_they_say_about_it_is_so() {
    if !tools_are_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let pair = Pair::new();
    pair.write(at);
    let serving = Serving::start(at, &["base.zdi", "delta.zdi", "--nbd", "unix:s"]);
    let uri = serving.uri();
    let info = json("nbdinfo", at, &["--json", uri]);
    assert_eq!(
        (&info["protocol"], &info["structured"], &info["TLS"]),
        (&json!("newstyle-fixed"), &json!(true), &json!(false))
    );
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], pair.state.len());
    assert_eq!(export["contexts"], json!(["base:allocation"]));
    let (yes, no) = (["is_read_only", "can_df", "can_multi_conn"], ["can_flush", "can_trim", "can_zero", "can_cache"]);
    assert!(yes.iter().all(|what| export[*what] == json!(true)), "{export}");
    assert!(no.iter().all(|what| export[*what] == json!(false)), "{export}");
    assert_eq!(export["block_size_maximum"], 32 << 20);
    let listed = json("nbdinfo", at, &["--json", "--list", uri]);
    assert_eq!(listed["exports"].as_array().unwrap().len(), 1);
    assert_eq!(listed["exports"][0]["export-name"], "");
    let map = json("nbdinfo", at, &["--json", "--map", uri]);
    let map: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| (extent["length"].as_u64().unwrap(), u32::try_from(extent["type"].as_u64().unwrap()).unwrap()))
        .collect();
    assert_eq!(map, pair.extents());
    // Another name is another disk, and nobody can write to this one.
    let other = uri.replace(":///?", ":///other?");
    assert!(!try_run("nbdinfo", at, &[&other]).status.success());
    assert!(!try_run("qemu-img", at, &["compare", "-f", "raw", &other, uri]).status.success());
    fs::write(at.join("zeros"), vec![1; 4096]).unwrap();
    assert!(!try_run("nbdcopy", at, &["zeros", uri]).status.success());
    assert_eq!(serving.end("-TERM"), "");
}

#[test]
fn a_full_image_with_a_crooked_end_is_read_right() {
    if !tools_are_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let disk = patchwork((9 << 20) + 777, 21);
    fs::write(at.join("disk.img"), &disk).unwrap();
    crate::command::ok(at, &["create", "disk.img", "--out", "disk.zdi"]);
    let serving = Serving::start(at, &["disk.zdi", "--nbd", "unix:s"]);
    run("nbdcopy", at, &[serving.uri(), "copied.img"]);
    assert!(fs::read(at.join("copied.img")).unwrap() == disk);
    run("qemu-img", at, &["compare", "-f", "raw", "-F", "raw", "disk.img", serving.uri()]);
    // QEMU counts in sectors.
    run("qemu-img", at, &["convert", "-f", "raw", "-O", "raw", serving.uri(), "converted.img"]);
    let converted = fs::read(at.join("converted.img")).unwrap();
    assert!(converted.starts_with(&disk) && converted[disk.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(serving.end("-TERM"), "");
}
