//! The demo, in small: as whoever runs the tests and as an ordinary user; and that it can fail.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use ebb_tests::demo::Report;
use ebb_tests::site::{programs, tail};
use ebb_tests::{pg, suite, tools};

use crate::scene::alone;

const PROGRAMS: [&str; 6] = ["ebb-tests", "boss", "ebb", "node-agent", "create-swapimage", "imagezip"];

fn demo(program: &Path, out: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("demo").arg("--small").arg("--out").arg(out).args(options).stdin(Stdio::null());
    command.env_remove("DATABASE_URL").env_remove("EBB_DATABASE_URL");
    command
}

fn read_report(out: &Path) -> anyhow::Result<Report> {
    let path = out.join("report.json");
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).context("parse the report")
}

fn said(output: &Output, out: &Path) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{}\n{stdout}\n{stderr}\nboss's log ends:\n{}", output.status, tail(&out.join("boss.log")))
}

fn expect_success(output: &Output, out: &Path) -> anyhow::Result<Report> {
    ensure!(output.status.success(), "the demo failed: {}", said(output, out));
    let report = read_report(out)?;
    ensure!(report.ok && report.nodes.len() == 2, "{report:?}");
    for node in &report.nodes {
        ensure!(node.verdict == "identical" && node.saved_on != node.restored_on, "{node:?}");
        ensure!(node.scanned_bytes > 64 << 20, "{node:?}");
        ensure!(node.changed_bytes > 6 << 20 && node.changed_bytes < node.scanned_bytes, "{node:?}");
        ensure!(node.delta_bytes > 6 << 20 && node.compared_bytes > 64 << 20 && node.compared_files > 100, "{node:?}");
    }
    for name in ["base.zdi", "alpha.zdi", "beta.zdi", "alpha.before.img", "beta.before.img"] {
        ensure!(out.join("evidence").join(name).is_file(), "the evidence lacks {name}");
    }
    expect_nothing_left(out)?;
    Ok(report)
}

/// Whatever ran under this folder is gone.
fn expect_nothing_left(out: &Path) -> anyhow::Result<()> {
    let left = ebb_tests::processes::marked(&ebb_tests::site::mark_of(&out.canonicalize()?));
    ensure!(left.is_empty(), "still running: {left:?}");
    ensure!(!out.join("postgresql.note").exists(), "the database was not removed");
    Ok(())
}

#[test]
fn the_demo_works() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("demo");
    let output = demo(&programs()?.join("ebb-tests"), &out, &[]).output()?;
    let report = expect_success(&output, &out)?;
    let way = if tools::is_root() { "loop mounts" } else { "debugfs" };
    ensure!(report.way == way, "file systems were reached by {}", report.way);
    Ok(())
}

#[test]
fn the_demo_works_for_an_ordinary_user() -> anyhow::Result<()> {
    if !tools::is_root() {
        return suite::skip("demo_small::the_demo_works_for_an_ordinary_user", "becoming nobody needs root");
    }
    let _alone = alone();
    let (user, group) = pg::user_id("nobody")?;
    // Clones often lie where nobody else can go: a folder of its own, with copies of the programs.
    let folder = tempfile::Builder::new().prefix("ebb-nobody-").tempdir_in("/var/tmp")?;
    chown(folder.path(), Some(user), Some(group))?;
    for name in PROGRAMS {
        let to = folder.path().join(name);
        fs::copy(programs()?.join(name), &to).with_context(|| format!("copy {name}"))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    let out = folder.path().join("demo");
    let mut command = demo(&folder.path().join("ebb-tests"), &out, &[]);
    command.uid(user).gid(group).current_dir(folder.path()).env("HOME", folder.path()).env_remove("TMPDIR");
    let report = expect_success(&command.output()?, &out)?;
    ensure!(report.way == "debugfs", "file systems were reached by {}", report.way);
    Ok(())
}

#[test]
fn one_flipped_byte_fails_the_demo() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("demo");
    let output = demo(&programs()?.join("ebb-tests"), &out, &["--flip-byte"]).output()?;
    ensure!(output.status.code() == Some(1), "{}", said(&output, &out));
    let report = read_report(&out)?;
    let verdicts: Vec<_> = report.nodes.iter().map(|node| node.verdict.as_str()).collect();
    ensure!(!report.ok && report.problems.is_empty(), "{report:?}");
    ensure!(matches!(verdicts.as_slice(), [bad, "identical"] if bad.starts_with("DIFFERS")), "{verdicts:?}");
    expect_nothing_left(&out)
}
