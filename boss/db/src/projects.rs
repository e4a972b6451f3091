//! Queries about projects.
