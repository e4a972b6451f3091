//! What boss and its clients say to each other: ids, names, requests and answers, all JSON.
//!
//! No behaviour but parsing. The typed HTTP client is behind the feature `client`.
//!
//! - [`ids`], [`names`]: what things are called
//! - [`error`]: the one shape of an error
//! - [`user`]: what `ebb` and other programs ask of boss
//! - [`agent`]: what a node's agent asks of boss, on a listener of its own

pub mod agent;
pub mod error;
pub mod ids;
pub mod names;
pub mod user;

#[cfg(feature = "client")]
pub mod client;

pub use error::{ApiError, ErrorCode};
pub use names::{BadName, ExperimentName, Name};
