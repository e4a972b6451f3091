//! End to end, through the built programs; and what needs no site: who imports whom, disks, edits, the judge.

mod bad_input;
mod demo_small;
mod imports;
mod judging;
mod kills;
mod model;
mod scene;
mod seals;
mod store;
mod syscalls;
mod torture;
mod transfers;
