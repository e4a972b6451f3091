//! Queries about boots.
