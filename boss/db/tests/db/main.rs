//! Queries on a real database.

mod people;
