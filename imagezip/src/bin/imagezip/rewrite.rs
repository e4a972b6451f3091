//! What `diff`, `squash` and `rebase` share: the state in an image, stored against other bases, or none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use imagezip::capture::{Base, CaptureOptions};
use imagezip::image::ImageDisk;
use imagezip::rewrite::{RewriteOptions, hash_image, rewrite};
use sigs::Signature;
use sigs::source::FileSource;

use crate::open::{self, Own};
use crate::output::Output;
use crate::replacing::Replacing;
use crate::session::Session;

/// Where an image goes that stores a known state, and how.
#[derive(Debug, Args)]
pub(crate) struct Storing {
    /// Where to write the image
    #[arg(long, value_name = "IMG.zdi")]
    out: PathBuf,
    /// Where to write the signature of its state
    #[arg(long, value_name = "NEW.sig")]
    sig_out: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
    /// A further image the ones named may need as a base, found by its root; may be given several times
    #[arg(long, value_name = "IMG.zdi")]
    with: Vec<PathBuf>,
    /// The zstd level
    #[arg(long, value_name = "N", default_value_t = CaptureOptions::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
}

/// Stores the state in `image` again, compared with `against`. It needs all of its `bases`; that finds out who names
/// base and delta in the wrong order, and would store the wrong state. Whatever else is named is used when needed.
pub(crate) fn run(
    session: &Session,
    image: &Path,
    bases: &[&PathBuf],
    against: &[PathBuf],
    storing: &Storing,
) -> anyhow::Result<()> {
    let image = image.to_path_buf();
    let mut inputs: Vec<&PathBuf> = bases.iter().copied().chain(against).chain(&storing.with).collect();
    inputs.push(&image);
    let sig_out = storing.sig_out.as_deref();
    let mut output = Output::create(&storing.out, sig_out, inputs.iter().copied(), storing.replacing)?;
    let mut offered = Vec::new();
    for path in inputs {
        if !is_signature(path)? {
            offered.push(path);
        }
    }
    let folder = storing.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut signatures = Vec::with_capacity(against.len());
    for path in against {
        signatures.push(signature_of(session, path, &offered, folder)?);
    }
    let compared: Vec<&dyn Base> = signatures.iter().map(|signature| -> &dyn Base { signature }).collect();
    let disk = ImageDisk::new(Arc::new(open::chain_among(session, &image, bases, &offered)?));
    let options = RewriteOptions { bases: &compared, level: storing.level, threads: session.threads() };
    let stored = session.watched(|| {
        let (frames, signature) = output.sinks();
        rewrite(&disk, &options, frames, signature, session.control())
    });
    let stored = stored.with_context(|| format!("store the state of {} again", image.display()))?;
    output.publish(session, &stored, disk.chain().plan().used_bytes())
}

/// Opens a signature, or makes that of an image, in a file without a name.
fn signature_of(
    session: &Session,
    path: &Path,
    offered: &[&PathBuf],
    folder: &Path,
) -> anyhow::Result<Signature<FileSource>> {
    if is_signature(path)? {
        return open::signature(path);
    }
    let disk = ImageDisk::new(Arc::new(open::chain_among(session, path, &[], offered)?));
    let file = tempfile::tempfile_in(folder).with_context(|| format!("create a file in {}", folder.display()))?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    let hashed = session.watched(|| hash_image(&disk, session.threads(), &mut out, session.control()));
    hashed.with_context(|| format!("hash the state of {}", path.display()))?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).context("write a signature")?;
    let source = FileSource::from_file(file).context("read a signature back")?;
    Signature::open(source).context("read a signature back")
}

fn is_signature(path: &Path) -> anyhow::Result<bool> {
    // A file that is neither is an image that its reader will refuse.
    Ok(open::own(&open::file(path)?) == Some(Own::Signature))
}
