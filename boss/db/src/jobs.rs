//! Queries about jobs.
