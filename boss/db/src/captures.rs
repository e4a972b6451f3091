//! Queries about captures.
