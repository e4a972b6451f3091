//! The engine against real images made by the tools of Debian, and against naive models.

mod alloc;
mod command;
mod damage;
mod golden;
mod interrupted;
mod round_trip;
mod stale;
mod support;
