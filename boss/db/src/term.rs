//! Queries about term.
