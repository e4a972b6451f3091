//! Queries about nodes.
