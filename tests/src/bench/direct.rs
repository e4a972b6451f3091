//! Hashing a device past the page cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::limits::Limits;
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
    let (hash, read) = (allocated / limits.sha256, allocated / dd(&workload.allocated_sample)?);
    let sig = out.join("direct.sig");
    let arguments = [Path::new("hash"), &device.0, Path::new("--direct"), Path::new("--out"), &sig];
    let run = program.median("hash with direct IO", &arguments, || remove(&sig))?;
    let limit_is = format!("the slower of SHA-256 {hash:.2} s and dd iflag=direct {read:.2} s of the allocated bytes");
    Ok(Ok(Row::new("hash_direct", (run.seconds, "s"), hash.max(read), 1.25, limit_is)))
}

/// Bytes a second that `dd` reads directly from a device of nothing but data: a disk in a file has holes, which cost nothing.
fn dd(data: &Path) -> anyhow::Result<f64> {
    let file = File::open(data)?;
    file.sync_all()?;
    let device = Loop::over(data)?;
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let begin = Instant::now();
        let input = format!("if={}", device.0.display());
        tool(Command::new("dd").args([&input, "of=/dev/null", "bs=1M", "iflag=direct"]))?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(bytes(file.metadata()?.len())? / seconds[1])
}
