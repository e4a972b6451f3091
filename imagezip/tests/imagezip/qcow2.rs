//! qcow2 files: ours judged by QEMU, QEMU's read by us, and both against naive models.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::path::Path;
use std::process::Command;

use crate::skips::skip;

mod hostile;
mod import;
mod model;
mod qemu;

/// Runs a tool and returns what it says; it must succeed.
fn run(tool: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(tool).current_dir(folder).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{tool} {arguments:?}: {text}");
    text
}

/// Returns true when QEMU's tools are there.
fn qemu_is_here() -> bool {
    let here = ["qemu-img", "qemu-io"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !here {
        skip("qemu-img and qemu-io are not installed (Debian: qemu-utils)");
    }
    here
}
