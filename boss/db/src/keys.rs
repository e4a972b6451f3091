//! Queries about keys.
