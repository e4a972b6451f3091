//! Queries on a real database.

mod begin;
mod people;
mod ruling;
