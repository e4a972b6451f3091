//! Saying that an image is not complete: sectors of its disk could not be read.

use sigs::manifest::Manifest;

use crate::exit::Incomplete;
use crate::session::Session;

/// How many ranges are named; all are in the JSON object and in the manifest.
const MOST_NAMED: usize = 100;

/// Returns a sentence for each range of bad sectors, none for a complete image.
pub(crate) fn lines(manifest: &Manifest) -> Vec<String> {
    let sector = u64::from(manifest.geometry.sector_size.bytes());
    let bad = manifest.bad_sectors();
    let name = |range: &sigs::ByteRange| {
        format!("{} unreadable sectors at offset {} count as zeros", range.len.get().div_ceil(sector), range.start)
    };
    let mut lines: Vec<_> = bad.iter().take(MOST_NAMED).map(name).collect();
    if bad.len() > MOST_NAMED {
        lines.push(format!("and {} more ranges; `imagezip info --json` lists all", bad.len() - MOST_NAMED));
    }
    lines
}

/// Names the bad sectors of an image, and makes the run end as partly done when there are any.
pub(crate) fn check(session: &Session, manifest: &Manifest) -> anyhow::Result<()> {
    if manifest.is_complete() {
        return Ok(());
    }
    lines(manifest).iter().for_each(|line| session.say(line));
    let sector = u64::from(manifest.geometry.sector_size.bytes());
    let sectors: u64 = manifest.bad_sectors().iter().map(|range| range.len.get().div_ceil(sector)).sum();
    Err(Incomplete { sectors }.into())
}
