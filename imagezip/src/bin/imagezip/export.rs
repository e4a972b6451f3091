//! `imagezip export`: an image into a plain disk image.

use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use imagezip::foreign::proof::prove;
use imagezip::foreign::qcow2;
use imagezip::foreign::qcow2::export::{ExportOptions, export};
use imagezip::image::{Chain, Verified};
use imagezip::io::{Disk, DiskIo as _, ReadAt};
use imagezip::package::Draft;
use imagezip::restore::{FreePolicy, RestoreError, RestoreOptions, Verdict, restore};
use serde::Serialize;
use sigs::{ByteLen, ByteOffset, ByteRange, Root};

use crate::exit::Usage;
use crate::incomplete;
use crate::open;
use crate::replacing::{Replacing, refused};
use crate::session::{Session, human};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The image; of a delta image its base first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write
    #[arg(long, value_name = "OUT")]
    to: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
    /// Compress the clusters of a qcow2 file with zstd
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The bytes of the disk, with holes
    Raw,
    /// For virtual machines: QEMU's, version 3
    Qcow2,
}

#[derive(Serialize)]
struct Qcow2Report {
    root: Root,
    verdict: Verdict,
    disk_bytes: ByteLen,
    /// The size of the disk in the file: a multiple of 512.
    exported_disk_bytes: ByteLen,
    file_bytes: ByteLen,
    clusters: u64,
}

/// The zstd level of compressed clusters.
const LEVEL: i32 = 3;

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.compress && arguments.format == Format::Raw {
        return Err(Usage("--compress is for qcow2: a raw image has no room for it".to_owned()).into());
    }
    open::distinct(&arguments.to, &arguments.images)?;
    let draft = arguments.replacing.draft(&arguments.to)?;
    match arguments.format {
        // The root of what was read back proves the frames: a file that is made has nothing to lose.
        Format::Raw => raw(session, arguments, &open::chain_maps(&arguments.images)?, draft),
        Format::Qcow2 => qcow2(session, arguments, &open::chain(session, &arguments.images)?, draft),
    }
}

fn raw(session: &Session, arguments: &Arguments, chain: &Chain<Verified>, draft: Draft) -> anyhow::Result<()> {
    draft.set_len(chain.geometry().disk_bytes)?;
    let target = Disk::open_for_writing(draft.temporary_path())?;
    let options = RestoreOptions { fresh: true, threads: session.threads(), ..RestoreOptions::new(FreePolicy::Zero) };
    let report = session.watched(|| restore(chain, &target, &options, session.control()));
    let report = report.map_err(cause).with_context(|| format!("export to {}", arguments.to.display()))?;
    drop(target);
    session.check_interrupted()?;
    draft.publish().map_err(refused)?;
    session.print(&report, &format!("root {}\n{}", report.root, report.verdict))?;
    incomplete::check(session, chain.manifest())
}

/// Leaves out what a restore says of its target: the file of an export is removed when it fails, and made from the
/// beginning next time.
fn cause(error: RestoreError) -> anyhow::Error {
    match error {
        RestoreError::Refused(refusal) => refusal.into(),
        RestoreError::Unfinished(failure) => failure.into(),
    }
}

fn qcow2(session: &Session, arguments: &Arguments, chain: &Chain<Verified>, draft: Draft) -> anyhow::Result<()> {
    let context = || format!("export to {}", arguments.to.display());
    let compress = arguments.compress.then_some(LEVEL);
    let cluster_bits = qcow2::Layout::DEFAULT_CLUSTER_BITS;
    let options = ExportOptions { cluster_bits, compress, threads: session.threads() };
    let out = BufWriter::with_capacity(1 << 20, draft);
    let (out, exported) = session.watched(|| export(chain, out, &options, session.control())).with_context(context)?;
    let draft = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(context)?;
    // Read back from the medium, by the reader that imports such files.
    let file = Disk::open_for_writing(draft.temporary_path())?;
    let all = ByteRange { start: ByteOffset::ZERO, len: file.len() };
    file.flush().and_then(|()| file.drop_cache(all)).with_context(context)?;
    let disk = qcow2::Disk::open(Arc::new(file)).with_context(context)?;
    let root = session.watched(|| prove(chain, &disk, session.threads(), session.control())).with_context(context)?;
    drop(disk);
    session.check_interrupted()?;
    draft.publish().map_err(refused)?;
    let disk_bytes = chain.geometry().disk_bytes;
    let report = Qcow2Report {
        root,
        verdict: Verdict::Identical,
        disk_bytes,
        exported_disk_bytes: exported.disk_bytes,
        file_bytes: exported.file_bytes,
        clusters: exported.clusters,
    };
    let more = exported.disk_bytes.get() - disk_bytes.get();
    let padded = if more > 0 {
        format!("\nthe disk is {more} bytes longer there, all zeros: qcow2 counts in sectors of 512 bytes")
    } else {
        String::new()
    };
    let size = human(exported.file_bytes.get());
    session.print(&report, &format!("root {root}\nidentical: read back and proved\n{size} written{padded}"))
}
