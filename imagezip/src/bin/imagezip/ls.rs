//! `imagezip ls`: the files in an image.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use clap::Args;
use imagezip::files::{FilesError, Found, Kind, Modified, Node, Step, Volume, Walk, shown};
use serde::Serialize;
use time::OffsetDateTime;

use crate::inside::{self, Inside};
use crate::session::{self, Session};

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal names are escaped, as in \\n and \\xff; elsewhere they are the bytes in the image, a line each:

  imagezip ls base.zdi
  imagezip ls base.zdi today.zdi --partition 2 --path /etc -l
  imagezip ls base.zdi -R --json | jq '.entries[].path'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    inside: Inside,
    /// The folder or file
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: OsString,
    /// Show permissions, owner and group, size, time of change in UTC, and where symbolic links lead
    #[arg(short = 'l', long)]
    long: bool,
    /// Go down into folders, and show whole paths
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Text that may be no text: then the bytes are there, too.
#[derive(Serialize)]
struct Entry {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(flatten)]
    about: About,
}

#[derive(Serialize)]
#[serde(untagged)]
enum About {
    Node {
        inode: u32,
        kind: Kind,
        /// Octal, as people write it.
        mode: String,
        owner: u32,
        group: u32,
        size_bytes: u64,
        modified_seconds: i64,
        modified_nanoseconds: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_hex: Option<String>,
    },
    Error {
        error: String,
    },
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    inside::with(session, &arguments.inside, |volume| {
        let control = session.control();
        let found = volume.find(inside::bytes(&arguments.path), control)?;
        let mut list = List::new(session, arguments, volume)?;
        if found.node.kind() == Kind::Folder {
            for step in Walk::new(volume, &found, arguments.recursive)? {
                session.check_interrupted()?;
                list.add(&step)?;
            }
        } else {
            let Found { node, path } = found;
            list.add(&Step { path, node: Ok(node) })?;
        }
        list.end()
    })
}

/// A list that is printed as it is made.
struct List<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    volume: &'a Volume<'a>,
    out: BufWriter<StdoutLock<'static>>,
    escape: bool,
    first: bool,
    failed: u64,
}

impl<'a> List<'a> {
    fn new(session: &'a Session, arguments: &'a Arguments, volume: &'a Volume<'a>) -> anyhow::Result<Self> {
        let escape = io::stdout().is_terminal();
        let mut out = BufWriter::new(io::stdout().lock());
        if session.is_json() {
            out.write_all(b"{\"entries\":[")?;
        }
        Ok(Self { session, arguments, volume, out, escape, first: true, failed: 0 })
    }

    fn add(&mut self, step: &Step) -> anyhow::Result<()> {
        let (path, told) = (step.path.as_slice(), self.look(step));
        if let Err(error) = &told {
            self.failed += 1;
            self.session.say(&format!("{}: {error}", shown(path)));
        }
        if self.session.is_json() {
            let comma = if std::mem::replace(&mut self.first, false) { "" } else { "," };
            write!(self.out, "{comma}{}", session::json(&entry(path, told))?)?;
            return Ok(());
        }
        let Ok((node, target)) = told else { return Ok(()) };
        let name = path.rsplit(|byte| *byte == b'/').next().filter(|_| !self.arguments.recursive).unwrap_or(path);
        if self.arguments.long {
            write!(self.out, "{} ", long(node))?;
        }
        self.name(name)?;
        if let Some(target) = target.filter(|_| self.arguments.long) {
            self.out.write_all(b" -> ")?;
            self.name(&target)?;
        }
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// Finds out what is shown of an entry.
    fn look<'s>(&self, step: &'s Step) -> Result<(&'s Node, Option<Vec<u8>>), String> {
        let node = step.node.as_ref().map_err(with_causes)?;
        let wanted = node.kind() == Kind::Link && (self.arguments.long || self.session.is_json());
        let target = wanted.then(|| self.volume.target(node, self.session.control())).transpose();
        Ok((node, target.map_err(|error| with_causes(&error))?))
    }

    fn name(&mut self, name: &[u8]) -> io::Result<()> {
        if self.escape { self.out.write_all(shown(name).as_bytes()) } else { self.out.write_all(name) }
    }

    fn end(mut self) -> anyhow::Result<()> {
        if self.session.is_json() {
            self.out.write_all(b"]}\n")?;
        }
        self.out.flush()?;
        match self.failed {
            0 => Ok(()),
            failed => anyhow::bail!("{failed} entries could not be read, as said above"),
        }
    }
}

fn with_causes(error: &FilesError) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn entry(path: &[u8], told: Result<(&Node, Option<Vec<u8>>), String>) -> Entry {
    let (path, path_hex) = text(path);
    let about = match told {
        Err(error) => About::Error { error },
        Ok((node, target)) => {
            let Modified { seconds, nanoseconds } = node.modified();
            let (target, target_hex) = target.map(|target| text(&target)).unzip();
            About::Node {
                inode: node.number(),
                kind: node.kind(),
                mode: format!("{:04o}", node.mode()),
                owner: node.owner(),
                group: node.group(),
                size_bytes: node.size().get(),
                modified_seconds: seconds,
                modified_nanoseconds: nanoseconds,
                target,
                target_hex: target_hex.flatten(),
            }
        }
    };
    Entry { path, path_hex, about }
}

/// Returns bytes as text, and in hex when that is not all there is to them.
fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(hex::encode(bytes))),
    }
}

/// Returns what stands before the name in a long list.
fn long(node: &Node) -> String {
    let owner = format!("{}/{}", node.owner(), node.group());
    let (size, time) = (node.size(), time_of(node.modified().seconds));
    format!("{}{} {owner:>9} {size:>12} {time}", node.kind().letter(), permissions(node.mode()))
}

/// Writes permissions as `ls -l` does.
fn permissions(mode: u16) -> String {
    let special = [(0o4000, 's'), (0o2000, 's'), (0o1000, 't')];
    let triple = |(shift, (bit, letter)): (u32, (u16, char))| {
        let bits = mode >> shift;
        let execute = match (bits & 1 != 0, mode & bit != 0) {
            (false, false) => '-',
            (true, false) => 'x',
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
        };
        [if bits & 4 != 0 { 'r' } else { '-' }, if bits & 2 != 0 { 'w' } else { '-' }, execute]
    };
    [6, 3, 0].into_iter().zip(special).flat_map(triple).collect()
}

fn time_of(seconds: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds) else { return format!("@{seconds}") };
    let (date, (hour, minute, second)) = (time.date(), time.to_hms());
    let (year, month, day) = date.to_calendar_date();
    format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}", u8::from(month))
}
