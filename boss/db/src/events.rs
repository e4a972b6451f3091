//! Queries about events.
