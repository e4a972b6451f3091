//! Queries about experiments.
