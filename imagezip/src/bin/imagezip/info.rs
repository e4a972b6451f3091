//! `imagezip info`: what a file is.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use imagezip::alloc::Evidence;
use serde::Serialize;
use sigs::manifest::Manifest;
use sigs::map::ChunkSummary;
use sigs::zdi::Container;
use sigs::{ByteLen, ByteOffset, Geometry, ReadAt, Root, Signature};

use crate::exit::Usage;
use crate::session::{Session, human};
use crate::{incomplete, map, open};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// An image or a signature
    file: PathBuf,
}

#[derive(Serialize)]
struct ImageInfo<'a> {
    file: &'static str,
    file_bytes: ByteLen,
    frames: usize,
    stored_bytes: ByteLen,
    complete: bool,
    manifest: &'a Manifest,
}

#[derive(Serialize)]
struct SignatureInfo<'a> {
    file: &'static str,
    file_bytes: ByteLen,
    root: Root,
    geometry: &'a Geometry,
    data_blocks: u64,
    mixed_chunks: u64,
    zero_chunks: u64,
    free_chunks: u64,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let path = &arguments.file;
    let file = Arc::new(open::file(path)?);
    let mut magic = [0; 8];
    let short = file.read_exact_at(&mut magic, ByteOffset::ZERO).is_err();
    match &magic {
        b"EBBZDI\r\n" => image(session, &Container::open(file).with_context(|| format!("open {}", path.display()))?),
        b"EBBSIG\r\n" => {
            let file_bytes = file.len();
            let opened = Signature::open(file).with_context(|| format!("open {}", path.display()))?;
            signature(session, &opened, file_bytes)
        }
        _ if short => Err(Usage(format!("{} is too short to be an image or a signature", path.display())).into()),
        _ => Err(Usage(format!("{} is neither an image nor a signature", path.display())).into()),
    }
}

fn image<R: ReadAt>(session: &Session, container: &Container<R>) -> anyhow::Result<()> {
    let (manifest, contents) = (container.manifest(), container.contents());
    let stored: u64 = contents.frames.iter().map(|frame| u64::from(frame.stored_bytes)).sum();
    let file_bytes = container.source().len();
    let geometry = &manifest.geometry;
    let mut text = format!(
        "{} of {}, made by {}\nroot {}\n",
        manifest.kind,
        human(file_bytes.get()),
        manifest.tool,
        manifest.target_root
    );
    for root in &manifest.base_roots {
        let _ = writeln!(text, "base {root}");
    }
    let counts = manifest.counts;
    let _ = writeln!(
        text,
        "disk {} bytes, sectors of {}, blocks of {}\nblocks {} data ({} of them stored), {} zero, {} free\nframes {}, {} stored",
        geometry.disk_bytes,
        geometry.sector_size,
        geometry.block_size,
        counts.data,
        manifest.stored_blocks,
        counts.zero,
        counts.free,
        contents.frames.len(),
        human(stored)
    );
    for partition in &manifest.partitions {
        let how = match (&partition.whole, &partition.evidence) {
            (Some(reason), _) => format!("whole: {reason}"),
            (None, evidence) => proof(evidence.as_deref()),
        };
        let (number, content, allocated) = (partition.number, &partition.content, human(partition.allocated.get()));
        let _ = writeln!(text, "partition {number}: {content}, {allocated} allocated, {how}");
        let evidence = partition.evidence.as_deref().and_then(Evidence::parse);
        let volumes = evidence.as_ref().map_or(&[][..], Evidence::volumes);
        volumes.iter().for_each(|volume| text.push_str(&map::volume(volume)));
    }
    for line in incomplete::lines(manifest) {
        let _ = writeln!(text, "INCOMPLETE: {line}");
    }
    let complete = manifest.is_complete();
    let (stored_bytes, frames) = (ByteLen::new(stored), contents.frames.len());
    session.print(&ImageInfo { file: "image", file_bytes, frames, stored_bytes, complete, manifest }, &text)
}

/// Says in words what a proof rests on; one of a later version is a proof all the same.
fn proof(evidence: Option<&str>) -> String {
    let evidence = evidence.and_then(Evidence::parse);
    evidence.map_or("free space proven".to_owned(), |evidence| evidence.to_string())
}

fn signature<R: ReadAt>(session: &Session, signature: &Signature<R>, file_bytes: ByteLen) -> anyhow::Result<()> {
    let geometry = signature.geometry();
    let (mut data_blocks, mut mixed_chunks, mut zero_chunks, mut free_chunks) = (0, 0, 0, 0);
    for record in &signature.table().records {
        match record.summary {
            ChunkSummary::Free => free_chunks += u64::from(record.chunks),
            ChunkSummary::Zero => zero_chunks += u64::from(record.chunks),
            ChunkSummary::Mixed { data_blocks: blocks, .. } => {
                data_blocks += u64::from(blocks);
                mixed_chunks += u64::from(record.chunks);
            }
        }
    }
    let root = signature.root();
    let text = format!(
        "signature\nroot {root}\ndisk {} bytes, sectors of {}, blocks of {}\n{data_blocks} data blocks; chunks {mixed_chunks} mixed, {zero_chunks} zero, {free_chunks} free",
        geometry.disk_bytes, geometry.sector_size, geometry.block_size
    );
    let info = SignatureInfo {
        file: "signature",
        file_bytes,
        root,
        geometry,
        data_blocks,
        mixed_chunks,
        zero_chunks,
        free_chunks,
    };
    session.print(&info, &text)
}
