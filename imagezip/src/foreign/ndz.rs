//! The images of Emulab's imagezip, versions 1 to 4, unencrypted: read only.
//!
//! ```text
//! chunk 0 | chunk 1 | ...                                    1 MiB each; the last one may lack its padding
//! chunk:  header, regions {first sector, sectors}, relocations: 4096 bytes | one zlib stream | padding
//! ```
//! All integers are little endian, a sector has 512 bytes. The stream of a chunk expands to its regions one after the
//! other; what no region covers was free. There is no header of the whole, no length, and before version 4 no checksum,
//! so everything that can be checked is: see `docs/formats/foreign.md`.
//!
//! - [`header`]: one chunk: what its header says, and what is refused for it
//! - [`index`]: all headers: that they are one image, whole and in order
//! - [`stream`]: the content of one chunk, expanded piece by piece
//! - [`disk`]: the file as a disk
//! - [`reach`]: whether what is on the disk reaches further than the image

mod disk;
mod header;
mod index;
mod reach;
mod stream;

pub use disk::{Disk, OpenError, Options};
pub use header::{ChunkDefect, Version};
pub use index::{Refused, Summary};

/// The size of a chunk.
const CHUNK_BYTES: u64 = 1 << 20;
/// The size of the header area of a chunk.
const HEADER_BYTES: u64 = 4096;
/// The only sector size there is.
const SECTOR_BYTES: u64 = 512;
/// The first byte that no sector number reaches: 2 TiB.
const MOST_DISK_BYTES: u64 = SECTOR_BYTES << 32;

/// Returns a size as an index; saturated where memory could not hold it anyway.
fn index_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
