//! Queries about images.
