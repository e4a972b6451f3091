//! The engine against real images made by the tools of Debian, and against naive models.

mod alloc;
mod bad_sectors;
mod command;
mod damage;
mod emulab;
mod files;
mod golden;
mod holes;
mod image_disk;
mod interrupted;
mod known;
mod medium;
mod mounted;
mod nbd;
mod ndz;
mod offline;
mod other_size;
mod place;
mod plan;
mod qcow2;
mod rewrite;
mod round_trip;
mod skips;
mod stale;
mod support;
