//! The programs of this crate as processes, against a boss of the tests' own and real files as disks.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so by its panic")]

mod capture;
mod cli;
mod fake_boss;
mod fencing;
mod fixture;
mod refusals;
mod swap_command;
mod write;
mod xfer;
