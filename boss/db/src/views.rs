//! Queries about views.
