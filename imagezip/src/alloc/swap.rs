//! Linux swap: the first page is a header, the rest is worth nothing after a reboot, unless somebody hibernated.
//!
//! ```text
//! 1024 version (1)  1028 last page  1032 number of bad pages  1036 UUID  1052 label
//! page size - 10 "SWAPSPACE2"
//! ```
//!
//! A hibernation image replaces the signature (or, TuxOnIce, the start of the page).

use std::iter;

use sigs::{BlockSize, ByteLen, ByteOffset, ByteRange};

use super::bytes::{has, u32_at};
use super::content::Content;
use super::doubt::{Stop, SurveyError};
use super::filesystem::{Evidence, FileSystem};
use super::window::Window;

const PAGE_SIZES: [u32; 5] = [4096, 8192, 16384, 32768, 65536];
const SIGNATURE: &[u8] = b"SWAPSPACE2";
const OLD_SIGNATURE: &[u8] = b"SWAP-SPACE";
const HIBERNATED: &[&[u8]] = &[b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];
const TUX_ON_ICE: &[u8] = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c";

/// Why a swap area is not plain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapDoubt {
    /// The memory of a machine that means to go on.
    #[error("the swap area holds a hibernation image")]
    Hibernated,
    /// The format from before 1998.
    #[error("the swap area has the old format")]
    Old,
    /// Signatures for several page sizes: some are stale.
    #[error("the swap area has signatures for several page sizes")]
    SeveralPageSizes,
    /// Not version 1, or of the other byte order.
    #[error("the swap area has the unknown version {0}")]
    Version(u32),
    /// There is a list of bad pages.
    #[error("the swap area lists {0} bad pages")]
    BadPages(u32),
    /// The header is larger than the partition, or the area is.
    #[error("the swap area does not fit its partition")]
    Size,
}

/// A plain swap area.
#[derive(Debug)]
pub struct Swap {
    page_size: BlockSize,
    partition: u64,
    end: u64,
}

/// A signature and the page size it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Plain(u32),
    Old,
    Hibernated,
}

/// Returns true if any sign of a swap area is there, a hibernated one included.
pub(crate) fn claims(window: &Window<'_>) -> Result<bool, SurveyError> {
    Ok(!marks(&head(window)?).is_empty())
}

fn head(window: &Window<'_>) -> Result<Vec<u8>, SurveyError> {
    window.fetch(0, 65536)
}

fn marks(head: &[u8]) -> Vec<Mark> {
    let mut marks = Vec::new();
    if has(head, 0, TUX_ON_ICE) {
        marks.push(Mark::Hibernated);
    }
    for page_size in PAGE_SIZES {
        let Some(at) = usize::try_from(page_size).ok().and_then(|size| size.checked_sub(SIGNATURE.len())) else {
            continue;
        };
        if has(head, at, SIGNATURE) {
            marks.push(Mark::Plain(page_size));
        } else if has(head, at, OLD_SIGNATURE) {
            marks.push(Mark::Old);
        } else if HIBERNATED.iter().any(|signature| has(head, at, signature)) {
            marks.push(Mark::Hibernated);
        }
    }
    marks
}

impl Swap {
    /// Reads the header of a swap area that [`claims`] to be one.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let head = head(window)?;
        let marks = marks(&head);
        if marks.contains(&Mark::Hibernated) {
            return Err(SwapDoubt::Hibernated.into());
        }
        let page_size = match marks.as_slice() {
            [Mark::Plain(page_size)] => *page_size,
            [Mark::Old] => return Err(SwapDoubt::Old.into()),
            _ => return Err(SwapDoubt::SeveralPageSizes.into()),
        };
        let field = |at| u32_at(&head, at).ok_or(SwapDoubt::Size);
        let version = field(1024)?;
        if version != 1 {
            return Err(SwapDoubt::Version(version).into());
        }
        let bad_pages = field(1032)?;
        if bad_pages != 0 {
            return Err(SwapDoubt::BadPages(bad_pages).into());
        }
        let partition = window.range().len.get();
        let end = (u64::from(field(1028)?) + 1) * u64::from(page_size);
        let page_size = BlockSize::new(page_size).map_err(|_| SwapDoubt::Size)?;
        if end > partition || end <= u64::from(page_size.bytes()) {
            return Err(SwapDoubt::Size.into());
        }
        Ok(Self { page_size, partition, end })
    }
}

impl FileSystem for Swap {
    fn name(&self) -> Content {
        Content::Swap
    }

    fn evidence(&self) -> Evidence {
        let free = ByteLen::new(self.end.saturating_sub(u64::from(self.page_size.bytes())));
        Evidence::SwapHeader { page_size: self.page_size, free }
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        let header = ByteRange { start: ByteOffset::ZERO, len: ByteLen::new(u64::from(self.page_size.bytes())) };
        let tail = ByteRange::between(ByteOffset::new(self.end), ByteOffset::new(self.partition));
        Box::new(iter::once(header).chain(tail.filter(|tail| !tail.len.is_zero())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(page_size: usize, pages: u32) -> Vec<u8> {
        let mut bytes = vec![0; page_size * usize::try_from(pages).unwrap() + 1000];
        bytes[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
        bytes[1028..1032].copy_from_slice(&(pages - 1).to_le_bytes());
        bytes[page_size - 10..page_size].copy_from_slice(SIGNATURE);
        bytes
    }

    fn read(bytes: &Vec<u8>) -> Result<Vec<(u64, u64)>, String> {
        match Swap::read(&Window::whole(bytes)) {
            Ok(swap) => Ok(swap.allocated().map(|range| (range.start.get(), range.len.get())).collect()),
            Err(Stop::Doubt(doubt)) => Err(doubt.to_string()),
            Err(Stop::Read(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn header_and_tail_are_data() {
        for page_size in [4096_usize, 8192, 16384, 32768, 65536] {
            let size = u64::try_from(page_size).unwrap();
            assert_eq!(read(&header(page_size, 10)), Ok(vec![(0, size), (10 * size, 1000)]));
        }
    }

    #[test]
    fn anything_unusual_is_whole() {
        let changed = |at: usize, bytes: &[u8]| {
            let mut swap = header(4096, 40);
            swap[at..at + bytes.len()].copy_from_slice(bytes);
            read(&swap).unwrap_err()
        };
        for signature in HIBERNATED {
            assert!(changed(4086, signature).contains("hibernation"));
        }
        assert!(changed(0, TUX_ON_ICE).contains("hibernation"));
        assert!(changed(8182, b"S1SUSPEND").contains("hibernation"));
        assert!(changed(4086, OLD_SIGNATURE).contains("old format"));
        assert!(changed(8182, SIGNATURE).contains("several page sizes"));
        assert!(changed(1024, &[0, 0, 0, 1]).contains("version 16777216"));
        assert!(changed(1032, &[1]).contains("1 bad pages"));
        assert!(changed(1028, &[40]).contains("does not fit"));
        assert!(changed(1028, &[0]).contains("does not fit"));
        assert!(changed(1028, &[255; 4]).contains("does not fit"));
    }
}
