//! What is fuzzed: one function for each parser, from any bytes to an assertion.
//!
//! The functions know nothing of libFuzzer, so that an ordinary test can replay what was found (`tests/seeds.rs`). Each
//! returns whether the input got past the first refusals, by which a test sees that a seed still does what it is for.
//! What is asserted: no panic; of a disk, that its answer is well formed; of two readers, that they agree. Time and memory
//! are limited by whoever runs this.
//!
//! - [`input`]: bytes as changes to a disk
//! - [`image`]: the disks that are changed, in few bytes
//! - [`seal`]: checksums put right after a change, without which a parser would refuse everything
//! - [`disk`]: file systems, partition tables, whole disks
//! - [`files`]: single files out of a disk
//! - [`resize`]: a disk on disks of other sizes
//! - [`words`]: the formats of `sigs`
//! - [`stored`]: an image through both of its readers
//! - [`foreign`]: the formats of others

#![expect(clippy::unwrap_used, reason = "a panic is how a fuzz target reports")]

pub mod disk;
pub mod files;
pub mod foreign;
pub mod image;
pub mod input;
pub mod resize;
pub mod seal;
pub mod stored;
pub mod words;

/// A fuzz target: its name, and what it does with any bytes.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: &[Target] = &[
    ("survey", disk::survey),
    ("table", disk::table),
    ("ext", disk::ext),
    ("btrfs", disk::btrfs),
    ("xfs", disk::xfs),
    ("files", disk::files),
    ("ntfs", disk::ntfs),
    ("exfat", disk::exfat),
    ("fat", disk::fat),
    ("swap", disk::swap),
    ("lvm", disk::lvm),
    ("ndz", foreign::ndz),
    ("qcow2", foreign::qcow2),
    ("signature", words::signature),
    ("manifest", words::manifest),
    ("image_map", words::image_map),
    ("total_map", words::total_map),
    ("seals", words::seals),
    ("zdi", stored::zdi),
    ("boss_verify", stored::boss_verify),
    ("nbd", stored::nbd),
];
