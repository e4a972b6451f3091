//! Emulab's images: those its own tool made, and made-up ones with one thing wrong.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

mod defects;
mod emulab;
mod maker;
mod model;
