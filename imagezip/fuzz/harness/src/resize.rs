//! A disk saved, and laid out on disks of other sizes: its backup GPT is read once more, and made anew.

use std::io;

use imagezip::capture::{CaptureOptions, FrameSink, capture};
use imagezip::control::{Control, Progress};
use imagezip::fit::Fit;
use imagezip::layout::Layout;
use sigs::zdi::{FrameRecord, HEADER_BYTES, header_bytes};
use sigs::{ByteLen, ByteOffset};

use crate::image::Disk;
use crate::stored::verified;

#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    placement: Vec<ByteOffset>,
}

impl FrameSink for Frames {
    fn put(&mut self, _record: FrameRecord, stored: &[u8]) -> io::Result<()> {
        self.placement.push(ByteOffset::new(HEADER_BYTES + ByteLen::of(&self.bytes).get()));
        self.bytes.extend_from_slice(stored);
        Ok(())
    }
}

/// Returns the image of a disk.
pub fn save(disk: &Disk<'_>, layout: &Layout) -> Vec<u8> {
    let mut frames = Frames::default();
    let options = CaptureOptions { threads: std::num::NonZeroUsize::MIN, level: 1, ..CaptureOptions::default() };
    let control = Control { progress: &Progress::default(), cancel: &false.into() };
    let captured = capture(disk, layout, &options, &mut frames, None, control).unwrap();
    let end = ByteOffset::new(HEADER_BYTES + ByteLen::of(&frames.bytes).get());
    let tail = captured.contents.encode_tail(&frames.placement, end);
    [&header_bytes()[..], &frames.bytes, &tail].concat()
}

/// Lays a disk out on others, larger and smaller: what is made anew lies inside.
pub(crate) fn fit(disk: &Disk<'_>, layout: &Layout) {
    let chain = verified(&save(disk, layout)).unwrap();
    for len in [disk.len + 4096, disk.len.saturating_mul(3) + 512, disk.len / 2, disk.len - 512] {
        let Ok(fit) = Fit::new(&chain, ByteLen::new(len)) else { continue };
        for made in fit.fix_ups() {
            assert!(made.range.checked_end().is_some_and(|end| end.get() <= len), "{made:?} leaves the disk");
        }
    }
}
