//! Single files out of disks that lie: names, sizes, targets and content, all of them read.

use std::io;

use imagezip::control::{Control, Progress};
use imagezip::files::{FilesError, Kind, Sink, Volume, Walk, places, shown};
use sigs::{ByteLen, ReadAt};

const MOST_STEPS: usize = 256;
/// How much is read of one file; holes count, for a file may be said to have 16 TiB of them.
const MOST_BYTES: u64 = 1 << 20;

/// Takes what is in a file until it is too much.
#[derive(Debug, Default)]
struct Bounded(u64);

impl Bounded {
    fn take(&mut self, len: ByteLen) -> io::Result<()> {
        self.0 = self.0.saturating_add(len.get());
        if self.0 > MOST_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }
}

impl Sink for Bounded {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(ByteLen::of(bytes))
    }

    fn hole(&mut self, len: ByteLen) -> io::Result<()> {
        self.take(len)
    }
}

/// Reads all files of a disk; returns whether that met with nothing wrong.
pub fn read_all(disk: &dyn ReadAt) -> Result<bool, FilesError> {
    let control = Control { progress: &Progress::default(), cancel: &false.into() };
    let mut sound = true;
    for place in places(disk)?.into_iter().filter(imagezip::files::Place::is_ext) {
        let volume = Volume::open(place)?;
        let root = volume.find(b"/", control)?;
        for step in Walk::new(&volume, &root, true)?.take(MOST_STEPS) {
            assert!(!shown(&step.path).to_string().contains(char::is_control), "a name that commands a terminal");
            let Ok(node) = step.node else {
                sound = false;
                continue;
            };
            let mut sink = Bounded::default();
            let read = match node.kind() {
                Kind::File => volume.read(&node, &mut sink, control),
                Kind::Link => volume.target(&node, control).map(drop),
                _ => Ok(()),
            };
            assert!(read.is_err() || node.kind() != Kind::File || sink.0 == node.size().get(), "another length");
            sound &= read.is_ok() || sink.0 > MOST_BYTES;
            sound &= volume.find(&step.path, control).is_ok() || node.kind() == Kind::Link;
        }
    }
    Ok(sound)
}
