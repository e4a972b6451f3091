//! What is allocated: our answer against that of `dumpe2fs`, `e2fsck` and `partx`, and against hostile bytes.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

mod ext;
mod hostile;
mod swap;
mod tables;
mod tools;
