//! Peak memory on disks of any size: what it may be does not depend on the disk.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::measure::{Program, remove, say, tool};
use super::row::{Row, mib};
use super::workload::write_pages;

const FILES: u64 = 48;
const PAGES_A_FILE: u64 = 1024;

/// What a command may use with as many threads as there are cores.
pub(super) fn limit(cores: usize) -> anyhow::Result<f64> {
    Ok(128.0 + 16.0 * f64::from(u32::try_from(cores)?))
}

pub(super) fn row(name: &'static str, peak_bytes: u64, cores: usize) -> anyhow::Result<Row> {
    Ok(Row::new(name, (mib(peak_bytes)?, "MiB"), limit(cores)?, 1.0, "128 MiB and 16 MiB for each thread"))
}

/// Measures an ext4 of 32 GiB and one of 1 TiB, both sparse.
pub(super) fn rows(program: &Program, out: &Path, cores: usize) -> anyhow::Result<Vec<Row>> {
    let once = Program { runs: 1, ..program.clone() };
    let mut rows = Vec::new();
    for (name, gib) in [("peak_memory_32g", 32), ("peak_memory_1t", 1024)] {
        rows.push(row(name, peak(&once, &out.join("sparse"), gib)?, cores)?);
    }
    Ok(rows)
}

fn peak(program: &Program, folder: &Path, gib: u64) -> anyhow::Result<u64> {
    let arg = Path::new;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let path = |name: &str| folder.join(name);
    let (disk, sig, full, delta, target) =
        (path("disk.img"), path("disk.sig"), path("full.zdi"), path("delta.zdi"), path("target.img"));
    make_disk(folder, &disk, gib)?;
    let force = arg("--force");
    let commands: [(&str, &[&Path]); 5] = [
        ("hash", &[arg("hash"), &disk, arg("--out"), &sig, force]),
        ("create", &[arg("create"), &disk, arg("--out"), &full, force]),
        ("create a delta", &[arg("create"), &disk, arg("--base"), &sig, arg("--out"), &delta, force]),
        ("restore", &[arg("restore"), &full, &delta, arg("--to"), &target]),
        (
            "restore in place",
            &[arg("restore"), &full, &delta, arg("--to"), &target, arg("--in-place"), arg("--sig"), &sig],
        ),
    ];
    let mut peak = 0;
    for (name, arguments) in commands {
        peak = program.median(&format!("{gib} GiB: {name}"), arguments, || Ok(()))?.peak_bytes.max(peak);
    }
    fs::remove_dir_all(folder)?;
    Ok(peak)
}

/// A sparse disk with some files on it.
fn make_disk(folder: &Path, disk: &Path, gib: u64) -> anyhow::Result<()> {
    say(&format!("making a sparse disk of {gib} GiB"));
    let tree = folder.join("tree");
    fs::create_dir_all(&tree)?;
    for number in 0..FILES {
        write_pages(&tree.join(number.to_string()), number + 1, PAGES_A_FILE)?;
    }
    remove(disk)?;
    File::create(disk)?.set_len(gib << 30)?;
    let lazy = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
    tool(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-E", lazy, "-d"]).arg(&tree).arg(disk))?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}
