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
//! - [`swap`]: Linux swap
//! - [`content`]: what can be recognised by its magic, understood or not
//! - [`window`]: a part of a disk that reads like a disk
//!
//! Deliberately absent: any use of a backup superblock, of a journal, or of what another tool says.

mod bytes;
pub mod content;
mod crc;
pub mod disk;
pub mod doubt;
pub mod ext;
pub mod filesystem;
mod ranges;
pub mod swap;
pub mod table;
pub mod window;

pub use content::Content;
pub use disk::{PartitionReport, Survey, SurveyOptions, Treatment, partition_range, survey};
pub use doubt::{Doubt, SurveyError};
pub use filesystem::{Evidence, FileSystem};
pub use table::TableKind;
pub use window::Window;
