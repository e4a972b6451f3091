//! The engine against real images made by the tools of Debian, and against naive models.

mod alloc;
mod round_trip;
mod support;
