//! Queries about writes.
