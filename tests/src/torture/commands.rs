//! Things that go wrong while a command makes an image: under its name is nothing or all of it, and the same command
//! run again makes it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::arming::{Arming, Fault, VARIABLE};
use super::oracle::Ledger;
use super::points::Point;
use super::turnover::Trouble;
use crate::{site, tools};

const BLOCKS: u64 = 1024;

/// Makes an image in `folder`, which is removed when all is well.
///
/// # Errors
/// When nothing went wrong, or what is there is not what must be.
pub fn run(folder: &Path, point: &Point, fault: Fault) -> anyhow::Result<Trouble> {
    let programs = site::programs()?;
    let arming = Arming::new(&folder.join("failpoints"))?;
    let (disk, image) = (folder.join("disk.img"), folder.join("disk.zdi"));
    let mut ledger = Ledger::zeros(BLOCKS);
    ledger.write(&disk, "c/sda", 1, |_| true)?;
    arming.arm(point.name, fault, point.at)?;
    let create = |more: &[&str]| {
        let mut command = Command::new(programs.join("imagezip"));
        command.args(["create", "--progress", "none"]).args(more).arg(&disk).arg("--out").arg(&image);
        command.env(VARIABLE, arming.path());
        command
    };
    let ended = create(&[]).output().context("start imagezip")?;
    ensure!(arming.has_fired(point.name), "never hit");
    let crashed = ended.status.signal().is_some();
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(crashed == (fault == Fault::Crash), "it ended with {}: {said}", ended.status);
    ensure!(ended.status.success() == (fault == Fault::Delay), "it ended with {}: {said}", ended.status);
    if image.exists() {
        whole(&programs, &image, &ledger, "c/sda").context("what is under the name after it went wrong")?;
    }
    tools::run(&mut create(&["--force"])).context("run the same again")?;
    whole(&programs, &image, &ledger, "c/sda")?;
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(Trouble::default())
}

/// Checks that an image restores to what a ledger says.
///
/// # Errors
/// When it cannot be restored, or differs.
pub fn whole(programs: &Path, image: &Path, ledger: &Ledger, disk: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let to = folder.path().join("restored.img");
    let mut command = Command::new(programs.join("imagezip"));
    tools::run(command.args(["restore", "--progress", "none"]).arg(image).arg("--to").arg(&to))?;
    let differs = ledger.differences(&to, disk)?;
    ensure!(differs.is_empty(), "{}", differs.join("; "));
    Ok(())
}
