//! Hash, full image, delta and restores of the workload, and how small the delta is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::limits::{Limits, Medium};
use super::measure::{Program, Run, remove, tool};
use super::row::{Row, bytes};
use super::workload::Workload;

/// The files that are made from the workload.
pub(super) struct Made {
    pub(super) base_sig: PathBuf,
    state_sig: PathBuf,
    full: PathBuf,
    pub(super) delta: PathBuf,
    target: PathBuf,
    /// What `dd` writes, to compare with.
    other: PathBuf,
}

impl Made {
    pub(super) fn within(out: &Path) -> Self {
        let path = |name: &str| out.join(name);
        Self {
            base_sig: path("base.sig"),
            state_sig: path("state.sig"),
            full: path("base.zdi"),
            delta: path("delta.zdi"),
            target: path("restored.img"),
            other: path("dd.img"),
        }
    }
}

/// Seconds that the parts of the work take at best.
struct Parts {
    hash_base: f64,
    hash_changed: f64,
    pack_base: f64,
    pack_changed: f64,
}

impl Parts {
    fn of(workload: &Workload, limits: &Limits, sha256: f64) -> anyhow::Result<Self> {
        let figures = workload.figures;
        Ok(Self {
            hash_base: bytes(figures.base_allocated)? / sha256,
            hash_changed: bytes(figures.changed_allocated)? / sha256,
            pack_base: bytes(figures.base_allocated)? / limits.zstd_allocated,
            pack_changed: bytes(figures.changed_bytes)? / limits.zstd_changed,
        })
    }
}

/// Measures everything with the processor as it is; returns the rows and the highest memory.
pub(super) fn rows(
    program: &Program,
    workload: &Workload,
    limits: &Limits,
    made: &Made,
) -> anyhow::Result<(Vec<Row>, u64)> {
    let arg = Path::new;
    let parts = Parts::of(workload, limits, limits.sha256)?;
    let hash = hash(program, workload, made)?;
    let full = [arg("create"), &workload.base, arg("--out"), &made.full];
    let full = program.median("full image", &full, || remove(&made.full))?;
    let delta = delta(program, workload, made)?;
    let restore = [arg("restore"), &made.full, &made.delta, arg("--to"), &made.target];
    let (mut fresh, mut held) = (Medium::default(), Medium::default());
    let len = workload.figures.changed_allocated;
    let restore = program.median("restore", &restore, || {
        remove(&made.target)?;
        fresh.measure(&workload.base, &made.other, len)
    })?;
    let in_place = in_place(program, workload, made, || held.measure(&workload.base, &made.other, len))?;
    let delta_bytes = std::fs::metadata(&made.delta)?.len();
    let stored = delta_bytes + std::fs::metadata(&made.full)?.len();
    let changed_allocated = bytes(workload.figures.changed_allocated)?;
    let write = fresh.write_seconds()?;
    let unpack = changed_allocated / limits.unzstd_allocated + bytes(stored)? / limits.sha256;
    let restore_is = format!(
        "the slower of fsynced write {write:.2} s and decompress + digests {unpack:.2} s; the read-back, {:.2} s more, \
         is not counted",
        restore.read_back
    );
    let differing = held.write_seconds()? * bytes(workload.figures.changed_bytes)? / changed_allocated;
    let read = held.read_seconds()?;
    let in_place_is = format!(
        "the slower of SHA-256 {:.2} s and dd iflag=direct {read:.2} s of allocated, and write of what differs \
         ({differing:.2} s); the read-back of that, {:.2} s more, is not counted",
        parts.hash_changed, in_place.read_back
    );
    let seconds = |run: &Run| (run.seconds, "s");
    let packed = bytes(limits.zstd_of_changed_bytes)? / 1024.0 / 1024.0;
    let peak = [&hash, &full, &delta, &restore, &in_place].iter().map(|run| run.peak_bytes).max().unwrap_or(0);
    let rows = vec![
        Row::new("hash", seconds(&hash), parts.hash_base, 1.25, "SHA-256 of the allocated bytes"),
        Row::new("full", seconds(&full), parts.hash_base + parts.pack_base, 1.25, "that and zstd -3 of them"),
        delta_row("delta", &delta, &parts, "SHA-256 of allocated, zstd -3 of changed"),
        Row::new("restore", seconds(&restore), write.max(unpack), 1.3, restore_is),
        Row::new("in_place", seconds(&in_place), parts.hash_changed.max(read) + differing, 1.3, in_place_is),
        Row::new("delta_size", (super::row::mib(delta_bytes)?, "MiB"), packed, 1.08, "zstd -3 of the changed blocks"),
    ];
    remove(&made.target)?;
    Ok((rows, peak))
}

/// Measures a build without SHA instructions against an `openssl` without them.
pub(super) fn soft_rows(
    program: &Program,
    workload: &Workload,
    limits: &Limits,
    made: &Made,
) -> anyhow::Result<Vec<Row>> {
    let parts = Parts::of(workload, limits, limits.sha256_soft)?;
    let (hash, delta) = (hash(program, workload, made)?, delta(program, workload, made)?);
    let limit_is = "SHA-256 without SHA instructions of the allocated bytes";
    Ok(vec![
        Row::new("hash_soft", (hash.seconds, "s"), parts.hash_base, 1.25, limit_is),
        delta_row("delta_soft", &delta, &parts, "SHA-256 without SHA instructions of allocated, zstd -3 of changed"),
    ])
}

fn delta_row(name: &'static str, run: &Run, parts: &Parts, limit_is: &str) -> Row {
    Row::new(name, (run.seconds, "s"), parts.hash_changed + parts.pack_changed, 1.25, limit_is)
}

fn hash(program: &Program, workload: &Workload, made: &Made) -> anyhow::Result<Run> {
    let hash = [Path::new("hash"), &workload.base, Path::new("--out"), &made.base_sig];
    program.median("hash", &hash, || remove(&made.base_sig))
}

fn delta(program: &Program, workload: &Workload, made: &Made) -> anyhow::Result<Run> {
    let arg = Path::new;
    let delta = [arg("create"), &workload.changed, arg("--base"), &made.base_sig, arg("--out"), &made.delta];
    program.median("delta", &delta, || remove(&made.delta))
}

/// Restores the state onto a file that holds the base.
fn in_place(
    program: &Program,
    workload: &Workload,
    made: &Made,
    mut before: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Run> {
    let arg = Path::new;
    program.once(&[
        arg("create"),
        &workload.changed,
        arg("--base"),
        &made.base_sig,
        arg("--out"),
        &made.delta,
        arg("--sig-out"),
        &made.state_sig,
        arg("--force"),
    ])?;
    let options = ["--in-place", "--free", "keep", "--sig"].map(arg);
    let restore = [arg("restore"), &made.full, &made.delta, arg("--to"), &made.target];
    program.median("in place", &[&restore[..], &options, &[&made.state_sig]].concat(), || {
        before()?;
        let copy = ["--sparse=always", "--reflink=never"];
        tool(Command::new("cp").args(copy).arg(&workload.base).arg(&made.target))?;
        Ok(std::fs::File::open(&made.target)?.sync_all()?)
    })
}
