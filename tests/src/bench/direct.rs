//! Hashing a device past the page cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::limits::{Limits, median, timed};
use super::measure::{Program, remove, tool};
use super::row::{Row, bytes};
use super::workload::Workload;

/// A loop device that reads its file with direct IO.
struct Loop(PathBuf);

impl Loop {
    fn over(image: &Path) -> anyhow::Result<Self> {
        let mut losetup = Command::new("losetup");
        let name = tool(losetup.args(["--find", "--show", "--read-only", "--direct-io=on"]).arg(image))?;
        Ok(Self(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nothing can be done where it fails; the kernel lets it go when nobody has it open.
        drop(tool(Command::new("losetup").arg("--detach").arg(&self.0)));
    }
}

/// Measures it, or says why it cannot be measured here.
pub(super) fn row(
    program: &Program,
    workload: &Workload,
    limits: &Limits,
    out: &Path,
) -> anyhow::Result<Result<Row, String>> {
    let device = match Loop::over(&workload.base) {
        Ok(device) => device,
        Err(error) => return Ok(Err(format!("no loop device with direct IO can be made: {error:#}"))),
    };
    let allocated = bytes(workload.figures.base_allocated)?;
    let data = File::open(&workload.allocated_sample)?;
    data.sync_all()?;
    let dense = Loop::over(&workload.allocated_sample)?;
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", dense.0.display())).args(["of=/dev/null", "bs=1M", "iflag=direct"]);
    let mut seconds = Vec::new();
    let sig = out.join("direct.sig");
    let arguments = [Path::new("hash"), &device.0, Path::new("--direct"), Path::new("--out"), &sig];
    let run = program.median("hash with direct IO", &arguments, || {
        seconds.push(timed(&mut dd)?);
        remove(&sig)
    })?;
    // Of nothing but data: a disk in a file has holes, which cost nothing.
    let read = allocated * median(&seconds)? / bytes(data.metadata()?.len())?;
    let hash = allocated / limits.sha256;
    let limit_is = format!("the slower of SHA-256 {hash:.2} s and dd iflag=direct {read:.2} s of the allocated bytes");
    Ok(Ok(Row::new("hash_direct", (run.seconds, "s"), hash.max(read), 1.25, limit_is)))
}
