//! Queries about users.
