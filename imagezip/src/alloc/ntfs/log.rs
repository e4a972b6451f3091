//! The log: whether it was closed. What is in it is not read.
//!
//! ```text
//! page: 0 "RSTR"  4 fixups  16 size of a page  24 place of the area
//! area: 0 number of the last entry  8 clients  12 client in use (0xFFFF: none)  14 flags (2: clean)
//! ```
//!
//! There are two restart pages, written in turns; the later one counts. A log of ones is an emptied one.

use super::NtfsDoubt;
use super::runs::Content;
use crate::alloc::bytes::{has, u16_at, u32_at, u64_at};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

const NO_CLIENT: u16 = 0xFFFF;
const CLEAN: u16 = 2;
const PAGE: u64 = 4096;

/// Looks at both restart pages.
pub(super) fn check(log: &Content, window: &Window<'_>) -> Result<(), Stop> {
    let first = log.fetch(window, 0, PAGE)?.ok_or(NtfsDoubt::Log("is too short"))?;
    if first.iter().all(|byte| *byte == 0xFF) {
        return Ok(());
    }
    if !has(&first, 0, b"RSTR") {
        return Err(NtfsDoubt::Log("does not start as a log does").into());
    }
    let size = u32_at(&first, 16).map(u64::from).filter(|size| size.is_power_of_two() && (512..=65536).contains(size));
    let size = size.ok_or(NtfsDoubt::Log("has an impossible size of a page"))?;
    let second = log.fetch(window, size, PAGE)?.ok_or(NtfsDoubt::Log("is too short"))?;
    let states = [state(&first), state(&second)];
    let (_, clean) =
        states.into_iter().flatten().max_by_key(|(number, _)| *number).ok_or(NtfsDoubt::Log("is malformed"))?;
    if clean { Ok(()) } else { Err(NtfsDoubt::Log("was not closed").into()) }
}

/// Returns the number of the last entry, and whether the log was closed.
fn state(page: &[u8]) -> Option<(u64, bool)> {
    if !has(page, 0, b"RSTR") {
        return None;
    }
    let area = page.get(usize::from(u16_at(page, 24)?)..)?;
    let clean = u16_at(area, 12)? == NO_CLIENT || u16_at(area, 14)? & CLEAN != 0;
    Some((u64_at(area, 0)?, clean))
}
