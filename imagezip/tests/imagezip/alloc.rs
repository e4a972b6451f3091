//! What is allocated: our answer against that of `dumpe2fs`, `e2fsck` and `partx`, and against hostile bytes.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

mod btrfs;
mod ext;
mod ext_matrix;
mod ext_round_trip;
mod fat;
mod hostile;
mod journal;
pub(crate) mod lvm;
mod partclone;
mod swap;
pub(crate) mod tables;
mod tools;
mod xfs;
