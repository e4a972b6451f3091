//! boss against a scripted agent: the real handlers, reconciler, store and database, with a power driver and a clock of
//! the test. The images are the golden files of the formats.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

mod agent;
mod agents;
mod doubt;
mod fencing;
mod held;
mod lost_commit;
mod processes;
mod settings;
mod site;
mod staging;
mod swapping;
