//! An image a command makes, perhaps with its signature: published together, then reported.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use imagezip::capture::{Captured, FrameSink};
use imagezip::package::{Draft, ImageFile};
use serde::Serialize;
use sigs::manifest::ImageKind;
use sigs::source::FileSource;
use sigs::zdi::Container;
use sigs::{BlockCount, BlockCounts, ByteLen, ByteRange, Root};

use crate::exit::Usage;
use crate::incomplete;
use crate::open;
use crate::replacing::{Replacing, refused};
use crate::session::{Session, human};

/// Files under construction. Nothing is left of them unless they are published.
pub(crate) struct Output {
    image: ImageFile,
    signature: Option<BufWriter<Draft>>,
}

#[derive(Serialize)]
struct Report {
    kind: ImageKind,
    root: Root,
    base_roots: Vec<Root>,
    counts: BlockCounts,
    stored_blocks: BlockCount,
    stored_bytes: ByteLen,
    image_bytes: ByteLen,
    scanned_bytes: ByteLen,
    complete: bool,
    bad_sectors: Vec<ByteRange>,
}

impl Output {
    /// Begins an image at `out`, and its signature at `sig_out`; neither may be one of `inputs`.
    pub(crate) fn create<'a>(
        out: &'a PathBuf,
        sig_out: Option<&Path>,
        inputs: impl IntoIterator<Item = &'a PathBuf> + Clone,
        replacing: Replacing,
    ) -> anyhow::Result<Self> {
        open::distinct(out, inputs.clone())?;
        if let Some(sig_out) = sig_out {
            open::distinct(sig_out, inputs.into_iter().chain([out]))?;
        }
        let image = replacing.image(out)?;
        let draft = sig_out.map(|path| replacing.draft(path)).transpose()?;
        Ok(Self { image, signature: draft.map(|draft| BufWriter::with_capacity(1 << 20, draft)) })
    }

    /// Returns where the frames and the signature go.
    pub(crate) fn sinks(&mut self) -> (&mut dyn FrameSink, Option<&mut (dyn Write + Send)>) {
        (&mut self.image, self.signature.as_mut().map(|out| -> &mut (dyn Write + Send) { out }))
    }

    /// Makes the files final, and says what they are.
    pub(crate) fn publish(self, session: &Session, captured: &Captured, scanned: ByteLen) -> anyhow::Result<()> {
        session.check_interrupted()?;
        self.spare_a_base(&captured.manifest.base_roots)?;
        // The image first: a signature of an image that is not there would be believed.
        let image_bytes = self.image.finish(&captured.contents).map_err(refused)?;
        if let Some(mut out) = self.signature {
            out.flush().context("write the signature")?;
            let draft = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            draft.publish().map_err(refused)?;
        }
        let (manifest, counts) = (&captured.manifest, captured.counts);
        let report = Report {
            kind: manifest.kind,
            root: captured.target_root,
            base_roots: manifest.base_roots.clone(),
            counts,
            stored_blocks: manifest.stored_blocks,
            stored_bytes: captured.stored_bytes,
            image_bytes,
            scanned_bytes: scanned,
            complete: manifest.is_complete(),
            bad_sectors: manifest.bad_sectors().to_vec(),
        };
        let text = format!(
            "root {}\n{} of {}: {} scanned\nblocks {} data ({} of them stored), {} zero, {} free",
            captured.target_root,
            manifest.kind,
            human(image_bytes.get()),
            human(scanned.get()),
            counts.data,
            manifest.stored_blocks,
            counts.zero,
            counts.free
        );
        session.print(&report, &text)?;
        incomplete::check(session, manifest)
    }

    /// Refuses to put a delta in the place of a base: what it needs would be gone.
    fn spare_a_base(&self, base_roots: &[Root]) -> Result<(), Usage> {
        let path = self.image.path();
        let there = FileSource::open(path).ok().and_then(|file| Container::open(file).ok());
        let is_base = there.is_some_and(|there| base_roots.contains(&there.manifest().target_root));
        let refuse =
            || Usage(format!("{0} is a base of what would be written over it: name another file", path.display()));
        if is_base { Err(refuse()) } else { Ok(()) }
    }
}
