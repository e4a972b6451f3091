//! The imaging engine.

pub mod alloc;
pub mod io;
