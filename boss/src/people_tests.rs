//! The user listener as programs and browsers see it: whole requests through the router, on a real database.

mod access;
mod api;
mod held;
mod images;
mod objects;
mod pages;
mod signing_in;
mod uploads;
