//! `imagezip cat`: a file in an image to stdout.

use std::ffi::OsString;
use std::io::{self, StdoutLock, Write as _};

use anyhow::Context as _;
use clap::Args;
use imagezip::files::{FilesError, Kind, Sink, shown};
use sigs::ByteLen;

use crate::exit::Usage;
use crate::inside::{self, Inside};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "\
The content comes as it is, holes as zeros. Symbolic links are followed inside the image:

  imagezip cat base.zdi --path /etc/fstab
  imagezip cat base.zdi today.zdi --partition 2 --path /var/log/syslog | less")]
pub(crate) struct Arguments {
    #[command(flatten)]
    inside: Inside,
    /// The file
    #[arg(long, value_name = "PATH")]
    path: OsString,
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    if session.is_json() {
        return Err(Usage("--json is not for cat: what it writes is the file itself".to_owned()).into());
    }
    let path = inside::bytes(&arguments.path);
    inside::with(session, &arguments.inside, |volume| {
        let found = volume.find(path, session.control())?;
        if found.node.kind() != Kind::File {
            return Err(Usage(format!("{} is {}: cat is for files", shown(path), found.node.kind())).into());
        }
        let mut out = Stdout(io::stdout().lock(), session);
        match volume.read(&found.node, &mut out, session.control()) {
            // By itself, so that a reader that has seen enough is told from a full disk.
            Err(FilesError::Sink(error)) => Err(error.into()),
            result => result.with_context(|| format!("read {}", shown(path))),
        }?;
        Ok(out.0.flush()?)
    })
}

struct Stdout<'a>(StdoutLock<'a>, &'a Session);

impl Sink for Stdout<'_> {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn hole(&mut self, len: ByteLen) -> io::Result<()> {
        let mut left = len;
        while !left.is_zero() {
            self.1.check_interrupted().map_err(io::Error::other)?;
            let piece = ZEROS.get(..left.to_usize().unwrap_or(usize::MAX).min(ZEROS.len())).unwrap_or(&ZEROS);
            self.0.write_all(piece)?;
            left = ByteLen::new(left.get().saturating_sub(ByteLen::of(piece).get()));
        }
        Ok(())
    }
}
