//! Single files out of a disk with ext2, ext3 or ext4, without mounting it.
//!
//! - [`place`]: where on a disk a file system is: partitions, logical volumes, or all of it
//! - [`volume`]: an open file system; the journal of one that was in use is read, and nothing is replayed
//! - [`node`]: one inode: what it is, whose, how long
//! - [`folder`]: the names in a folder
//! - [`content`], [`inline`]: what is in a file
//! - [`path`]: from a path to an inode, symbolic links followed inside the file system only
//! - [`walk`]: everything in a folder, or below it; [`seen`] makes that end in a damaged tree, too
//! - [`copy`]: files and trees onto the file system of who asks
//! - [`bad`]: whether anything that was read lies where the disk could not be read
//! - [`mod@shown`]: names for people: nothing in them can command a terminal
//!
//! It stands on the parsers that prove what is allocated ([`crate::alloc`]): every byte counts as written by an enemy.
//! Memory: the map of one file (24 MiB at most), the names of one folder, a log that has to be replayed (50 MiB).
//!
//! Non-goals: other file systems, owners and extended attributes in copies, anything encrypted.

mod bad;
mod content;
mod copy;
mod error;
mod folder;
mod inline;
mod node;
mod path;
mod place;
mod seen;
mod shown;
mod volume;
mod walk;

pub use bad::BadWatch;
pub use content::Sink;
pub use copy::{CopyOptions, CopyReport, copy_file, copy_tree};
pub use error::FilesError;
pub use folder::Entry;
pub use node::{Kind, Modified, Node};
pub use path::Found;
pub use place::{Place, Wanted, choose, places};
pub use seen::Seen;
pub use shown::shown;
pub use volume::Volume;
pub use walk::{Step, Walk};
