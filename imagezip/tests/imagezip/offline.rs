//! `diff`, `squash` and `rebase` on files: which images they find, what they refuse, what they leave behind.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{fails, folder, ok};
use crate::support::Noise;

/// A base `a.zdi`, a delta `b.zdi` against it, a delta `c.zdi` against that, and `o.zdi`, which is something else.
fn chain() -> TempDir {
    let folder = folder();
    let at = folder.path();
    let mut c = fs::read(at.join("b.img")).unwrap();
    Noise(9).fill(&mut c[2_000_000..2_100_000]);
    fs::write(at.join("c.img"), &c).unwrap();
    c.truncate(2 << 20);
    Noise(11).fill(&mut c[..500_000]);
    fs::write(at.join("o.img"), &c).unwrap();
    ok(at, &["create", "a.img", "--out", "a.zdi", "--sig-out", "a.sig"]);
    ok(at, &["create", "b.img", "--out", "b.zdi", "--sig-out", "b.sig", "--base", "a.sig"]);
    ok(at, &["create", "c.img", "--out", "c.zdi", "--sig-out", "c.sig", "--base", "b.sig"]);
    ok(at, &["create", "o.img", "--out", "o.zdi", "--sig-out", "o.sig"]);
    folder
}

/// Restores images and compares what comes out with a plain disk.
fn gives(at: &Path, images: &[&str], disk: &str) {
    ok(at, &[&["verify"], images].concat());
    let restored = ok(at, &[&["restore"], images, &["--to", "restored.img"]].concat());
    assert_eq!(restored["verdict"], "identical");
    assert!(fs::read(at.join("restored.img")).unwrap() == fs::read(at.join(disk)).unwrap(), "{images:?} and {disk}");
    fs::remove_file(at.join("restored.img")).unwrap();
}

fn root(at: &Path, file: &str) -> Value {
    let info = ok(at, &["info", file]);
    if info["file"] == "signature" { info["root"].clone() } else { info["manifest"]["target_root"].clone() }
}

#[test]
fn a_delta_between_any_two_images() {
    let folder = chain();
    let at = folder.path();
    // Against an image or its signature it is the same delta, and only what differs is in it.
    let from_image = ok(at, &["diff", "a.zdi", "c.zdi", "--with", "b.zdi", "--out", "d.zdi", "--sig-out", "d.sig"]);
    ok(at, &["diff", "a.sig", "c.zdi", "--with", "b.zdi", "--with", "a.zdi", "--out", "e.zdi"]);
    assert!(fs::read(at.join("d.zdi")).unwrap() == fs::read(at.join("e.zdi")).unwrap());
    assert!(fs::read(at.join("d.sig")).unwrap() == fs::read(at.join("c.sig")).unwrap());
    assert_eq!(from_image["kind"], "delta");
    assert_eq!(from_image["root"], root(at, "c.zdi"));
    gives(at, &["a.zdi", "d.zdi"], "c.img");
    // Back again, between disks of different sizes, and nowhere.
    ok(at, &["diff", "c.zdi", "a.zdi", "--with", "b.zdi", "--out", "back.zdi"]);
    gives(at, &["a.zdi", "b.zdi", "c.zdi", "back.zdi"], "a.img");
    ok(at, &["diff", "o.zdi", "a.zdi", "--out", "bigger.zdi"]);
    gives(at, &["o.zdi", "bigger.zdi"], "a.img");
    ok(at, &["diff", "a.zdi", "o.zdi", "--out", "smaller.zdi"]);
    gives(at, &["a.zdi", "smaller.zdi"], "o.img");
    let same = ok(at, &["diff", "a.zdi", "a.zdi", "--out", "same.zdi"]);
    assert_eq!(same["stored_blocks"], 0);
    gives(at, &["a.zdi", "same.zdi"], "a.img");
}

#[test]
fn a_squashed_image_stands_alone() {
    let folder = chain();
    let at = folder.path();
    let full = ok(at, &["squash", "a.zdi", "b.zdi", "c.zdi", "--out", "full.zdi", "--sig-out", "full.sig"]);
    assert_eq!((&full["kind"], &full["root"]), (&Value::from("full"), &root(at, "c.zdi")));
    assert_eq!(full["base_roots"], Value::Array(Vec::new()));
    gives(at, &["full.zdi"], "c.img");
    assert_eq!(root(at, "full.sig"), root(at, "c.zdi"));
    ok(at, &["squash", "c.zdi", "--with", "b.zdi", "--with", "o.zdi", "--with", "a.zdi", "--out", "again.zdi"]);
    assert!(fs::read(at.join("again.zdi")).unwrap() == fs::read(at.join("full.zdi")).unwrap());
    // It stands in for the delta as a base, and is preferred where both are offered.
    ok(at, &["diff", "o.zdi", "c.zdi", "--with", "full.zdi", "--with", "a.zdi", "--with", "b.zdi", "--out", "x.zdi"]);
    ok(at, &["diff", "x.zdi", "a.zdi", "--with", "o.zdi", "--out", "y.zdi"]);
    gives(at, &["full.zdi", "y.zdi"], "a.img");
}

#[test]
fn a_rebased_delta_needs_only_its_new_base() {
    let folder = chain();
    let at = folder.path();
    for onto in ["o.zdi", "o.sig"] {
        let rebased = ok(at, &["rebase", "a.zdi", "b.zdi", "--onto", onto, "--out", "r.zdi", "--force"]);
        assert_eq!(rebased["root"], root(at, "b.zdi"));
        assert_eq!(rebased["base_roots"], Value::Array(vec![root(at, "o.zdi")]));
        gives(at, &["o.zdi", "r.zdi"], "b.img");
        fails(at, &["restore", "a.zdi", "r.zdi", "--to", "x.img"], 7);
    }
    // Onto a delta, and onto two bases at once.
    ok(at, &["rebase", "o.zdi", "--onto", "b.zdi", "--with", "a.zdi", "--out", "r2.zdi"]);
    gives(at, &["a.zdi", "b.zdi", "r2.zdi"], "o.img");
    ok(at, &["rebase", "a.zdi", "b.zdi", "c.zdi", "--onto", "o.zdi", "--onto", "a.zdi", "--out", "r3.zdi"]);
    gives(at, &["o.zdi", "a.zdi", "r3.zdi"], "c.img");
}

#[test]
fn what_cannot_be_meant_is_refused_and_leaves_nothing() {
    let folder = chain();
    let at = folder.path();
    fails(at, &["diff", "a.zdi", "b.zdi"], 2);
    fails(at, &["diff", "a.zdi", "b.zdi", "--out", "b.zdi"], 2);
    fails(at, &["diff", "a.zdi", "b.zdi", "--out", "x.zdi", "--sig-out", "x.zdi"], 2);
    fails(at, &["squash", "c.zdi", "--with", "a.zdi", "--out", "a.zdi"], 2);
    fails(at, &["rebase", "a.zdi", "b.zdi", "--out", "x.zdi"], 2);
    fails(at, &["diff", "absent.zdi", "a.zdi", "--out", "x.zdi"], 4);
    fails(at, &["squash", "a.img", "--out", "x.zdi"], 7);
    fails(at, &["squash", "a.sig", "--out", "x.zdi"], 7);
    // In the wrong order another state would be stored than the one that is meant.
    let message = fails(at, &["squash", "b.zdi", "a.zdi", "--out", "x.zdi"], 7);
    assert!(message.contains("b.zdi") && message.contains("is not a base of a.zdi"), "{message}");
    fails(at, &["rebase", "b.zdi", "a.zdi", "--onto", "o.zdi", "--out", "x.zdi"], 7);
    let message = fails(at, &["squash", "a.zdi", "c.zdi", "--out", "x.zdi"], 7);
    assert!(message.contains("c.zdi needs the base with root") && message.contains("a.zdi has"), "{message}");
    ok(at, &["hash", "a.img", "--block-size", "8192", "--out", "wide.sig"]);
    let message = fails(at, &["diff", "wide.sig", "b.zdi", "--with", "a.zdi", "--out", "x.zdi"], 2);
    assert!(message.contains("block size"), "{message}");

    // A frame damaged on the medium is found before anything gets its name.
    let mut bad = fs::read(at.join("a.zdi")).unwrap();
    bad[70] ^= 1;
    fs::write(at.join("bad.zdi"), bad).unwrap();
    let message = fails(at, &["squash", "bad.zdi", "b.zdi", "--out", "x.zdi", "--sig-out", "x.sig"], 7);
    assert!(message.contains("bad.zdi"), "{message}");
}
