//! What is allocated on a disk, and the proof: partition tables and file systems read from untrusted bytes.
//!
//! The answer errs to one side only. A byte is called free when a parser proved it (decision 2 of the
//! architecture: every feature flag known, checksums valid or counts matching); everything else, gaps
//! between partitions and boot areas included, is allocated. Strange content is never an error: it is a
//! doubt, and a doubt makes the partition, or the whole disk, data. The only errors are those of reading.
//!
//! - [`disk`]: puts the parts together into one answer for a whole disk
//! - [`table`]: MBR and GPT, which only say where the partitions lie
//! - [`filesystem`]: the seam between a disk and what it knows of file systems, and the one place where they are tried
//! - [`ext`]: ext2, ext3, ext4
//! - [`jbd2`]: the journal of ext3 and ext4, read without replaying it
//! - [`btrfs`]: btrfs on one device, with its tree log
//! - [`xfs`]: the file system XFS
//! - [`fat`]: FAT12, FAT16, FAT32
//! - `ntfs`, `exfat`: what these say of themselves; proof is that and the map of partclone
//! - [`partclone`]: a second opinion, from the map that `partclone` prints
//! - `clusters`: a bitmap of clusters
//! - [`swap`]: Linux swap
//! - [`lvm`]: LVM2 on one disk, and what is in its logical volumes
//! - [`content`]: what can be recognised by its magic, understood or not
//! - [`window`]: a part of a disk that reads like a disk
//!
//! Deliberately absent: any use of a backup superblock in place of a damaged one, and any replay of a log on the disk:
//! logs are read into overlays beside it.

pub mod btrfs;
pub(crate) mod bytes;
mod clusters;
pub mod content;
pub(crate) mod crc;
pub mod disk;
pub mod doubt;
pub mod exfat;
pub mod ext;
pub mod fat;
pub mod filesystem;
pub mod jbd2;
pub mod lvm;
pub mod ntfs;
pub mod partclone;
pub mod swap;
pub mod table;
pub mod window;
pub mod xfs;

pub use content::Content;
pub use disk::{PartitionReport, Survey, SurveyOptions, Treatment, Unreadable, partition_range, survey};
pub use doubt::{Doubt, SurveyError};
pub use filesystem::{CrossCheck, Evidence, FileSystem, XfsLog};
pub use lvm::VolumeReport;
pub use partclone::Partclone;
pub use table::TableKind;
pub use window::Window;
