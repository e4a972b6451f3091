//! Queries about points.
