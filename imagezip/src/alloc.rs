//! What is allocated on a disk, and the proof: partition tables and file systems read from untrusted bytes.
//!
//! The answer errs to one side only. A byte is called free when a parser proved it (decision 2 of the
//! architecture: every feature flag known, checksums valid or counts matching); everything else, gaps
//! between partitions and boot areas included, is allocated.
//!
//! - [`table`]: MBR and GPT, which only say where the partitions lie
//! - [`ext`]: ext2, ext3, ext4
//! - [`swap`]: Linux swap
//! - [`disk`]: puts them together into one answer for a whole disk
