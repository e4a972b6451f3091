//! boss: tracks what every disk was loaded from, saves experiments when they swap out and puts them back.
//!
//! - [`config`], [`app`], [`error`], [`clock`]: what everything needs
//! - [`auth`], [`user_api`], [`pages`], [`router`]: people, on the user listener; [`standstill`]: who stands still is hung up on
//! - [`agent_api`]: agents, on a listener of their own
//! - [`swap`]: what people may ask for; [`reconcile`]: the loop that makes it so
//! - [`store`]: images and swap state on disk; [`power`]: machines on and off
//! - [`takeover`]: how a boss comes to rule
//! - [`sealing`]: boss's own key; [`provenance`]: the `swapinfo/` view

pub mod agent_api;
pub mod app;
pub mod auth;
pub mod clock;
pub mod config;
pub mod error;
pub mod keeping;
pub mod pace;
pub mod pages;
pub mod power;
pub mod provenance;
pub mod reconcile;
pub mod router;
pub mod sealing;
pub(crate) mod serving;
pub mod standstill;
pub(crate) mod steps;
pub mod store;
pub mod swap;
pub mod takeover;
pub mod user_api;

#[cfg(test)]
mod people_tests;
#[cfg(test)]
pub(crate) mod test_support;
