//! By hand, without boss: the image becomes a file.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use imagezip::package::ImageFile;
use serde::Serialize;
use sigs::{ByteLen, Root};

use super::{Shared, Source, engine_broke, open, spawn_engine};
use crate::exit::{Code, Exit, code_of_file, io_exit};

#[derive(Debug, Serialize)]
struct Report {
    target_root: Root,
    scanned_bytes: ByteLen,
    changed_bytes: ByteLen,
    zdi_bytes: ByteLen,
}

pub(super) async fn run(source: Source, out: &Path) -> Result<(), Exit> {
    let opened = open(&source)?;
    if imagezip::package::same_file(&source.disk, out) {
        return Err(Exit::new(Code::Usage, "the image would be written over the disk").next("name another file"));
    }
    let shared = Arc::new(Shared::default());
    let sink = ImageFile::create(out).map_err(|error| Exit::because(code_of_file(&error), &error))?;
    let mut engine = spawn_engine(opened, source, sink, &shared)?;
    let (captured, sink) = loop {
        tokio::select! {
            ended = &mut engine => break ended.map_err(|_| engine_broke())?,
            _ = tokio::signal::ctrl_c() => shared.cancel.store(true, Ordering::Relaxed),
        }
    };
    let captured = captured?;
    let zdi_bytes = sink.finish(&captured.contents).map_err(|error| Exit::because(code_of_file(&error), &error))?;
    let now = shared.progress.snapshot();
    let report = Report {
        target_root: captured.target_root,
        scanned_bytes: now.done_bytes,
        changed_bytes: now.changed_bytes,
        zdi_bytes,
    };
    let json = serde_json::to_string(&report).map_err(|error| Exit::because(Code::Failed, &error))?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| io_exit("write to stdout", &error))
}
