//! Disk images in the formats of others: written from an image of ours, or read like a disk to be captured.
//!
//! A reader is a [`ReadAt`](crate::io::ReadAt), so that an import is a capture of what it shows, and nothing else of the
//! engine knows of it. All of a foreign file is hostile: what is read into memory is bounded before it is read, and
//! what is not understood is refused as a whole before the first byte of it is believed.
//!
//! - [`mod@format`]: which format a file has
//! - [`ndz`]: the images of Emulab, versions 1 to 4
//! - [`qcow2`]: the images of QEMU, versions 2 and 3
//! - [`proof`]: the root of what a written file holds, read back
//!
//! Deliberately absent: following the name of another file that stands inside a file (a backing file, a data file).

pub mod format;
mod kept;
pub mod ndz;
pub mod proof;
pub mod qcow2;
