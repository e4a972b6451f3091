//! Queries about sessions.
