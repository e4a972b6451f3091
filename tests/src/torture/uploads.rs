//! Things that go wrong while an image is uploaded: it is repeated until it is there, and then it is whole.

use std::fs;

use anyhow::{Context, ensure};

use super::arming::Fault;
use super::commands::whole;
use super::oracle::Ledger;
use super::points::Point;
use super::turnover::{Trouble, Turnover};

const BLOCKS: u64 = 300;
/// How often it is repeated.
const ATTEMPTS: usize = 5;

/// Uploads an image that nobody uploaded before.
///
/// # Errors
/// When nothing went wrong, or the image is not whole in the end.
pub fn run(turnover: &Turnover, point: &Point, fault: Fault, index: usize) -> anyhow::Result<Trouble> {
    let (site, name) = (turnover.site(), format!("upload-{index}"));
    let disk = site.folder().join(format!("{name}.img"));
    let mut ledger = Ledger::zeros(BLOCKS);
    ledger.write(&disk, &format!("u/{index}"), 1, |_| true)?;
    turnover.arming().clear()?;
    turnover.arming().arm(point.name, fault, point.at)?;
    let [path, key] =
        [disk.clone(), site.folder().join("keys/image-key")].map(|path| path.to_string_lossy().into_owned());
    let (mut trouble, mut said) = (Trouble::default(), Vec::new());
    for _ in 0..ATTEMPTS {
        let output = site.try_ebb(["image", "create", &path, "--name", &name, "--key", &key])?;
        turnover.keep_boss(&mut trouble)?;
        if output.status.success() {
            ensure!(turnover.arming().has_fired(point.name), "never hit");
            turnover.arming().clear()?;
            whole(site.programs(), &site.image_file(&name), &ledger, &name)?;
            fs::remove_file(disk).context("remove the disk")?;
            return Ok(trouble);
        }
        said.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    anyhow::bail!("{ATTEMPTS} attempts to upload failed: {said:#?}")
}
