//! Every SQL query of boss, one module per aggregate. Functions take a `&mut PgConnection`; the caller owns the
//! transaction. No business rule lives here: transitions are decided in `boss-model` and arrive as (from, to).
//!
//! Queries are checked against the migrations while compiling; `.sqlx/` holds what that needs without a database.

mod begin;
pub mod boots;
pub mod captures;
mod columns;
pub mod error;
pub mod events;
pub mod experiments;
pub mod images;
pub mod jobs;
pub mod keys;
pub mod nodes;
pub mod objects;
pub mod points;
pub mod projects;
pub mod segments;
pub mod sessions;
pub mod settings;
pub mod term;
pub mod users;
pub mod views;
pub mod waivers;
pub mod writes;

pub use begin::begin;
pub use error::{DbError, Outcome};
pub use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// The migrations, embedded.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");
