//! The imaging engine: hashes, captures, restores and verifies disks. Plain threads and blocking calls.
//!
//! Non-goals: SQL, networking but for [`nbd`], knowing what boss or an experiment is, and writing to a disk nobody named.
//!
//! - [`io`]: reading and writing disks, behind one seam
//! - [`alloc`]: what is allocated on a disk, proved; [`layout`] is what the rest of the engine needs of it
//! - [`capture`]: one pass over a disk that gives signature, map and frames
//! - [`package`]: putting those into files that appear complete or not at all
//! - [`image`]: opening an image with its bases, checked before anything is written; reading it like a disk
//! - [`restore`]: writing a state to a disk that cannot boot until it is proved
//! - [`files`]: single files out of a disk, without mounting it
//! - [`fit`]: how a state lies on a disk of another size
//! - [`rewrite`]: the state in an image stored against other bases, or none
//! - [`verify`]: re-reading images, and comparing them with a disk
//! - [`extents`]: byte ranges in disk order, in few bytes each
//! - [`foreign`]: disk images in the formats of others, written and read
//! - [`nbd`]: a state served to other programs as a disk
//! - [`control`]: progress and cancelling
//!
//! Memory is bounded by the number of threads, never by the disk: see [`capture`] and [`image::ContentReader`].

pub mod alloc;
pub mod capture;
pub mod control;
pub mod extents;
pub mod files;
pub mod fit;
pub mod foreign;
pub mod image;
pub mod io;
pub mod layout;
pub mod nbd;
pub mod package;
mod parallel;
pub mod restore;
pub mod rewrite;
pub mod verify;
