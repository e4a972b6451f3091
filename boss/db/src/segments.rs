//! Queries about segments.
