//! Queries about settings.
