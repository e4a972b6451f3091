//! End-to-end tests, the demo and the benchmark. Imported by nobody, and it touches the product only from outside:
//! through its programs and its HTTP interface. Only [`model`] imports rules of boss, to explore them.
//!
//! - [`pg`]: a PostgreSQL of our own, never the system's
//! - [`site`]: a boss with its database, machines and users
//! - [`disk`], [`tree`], [`edit`]: system disks made of files of this machine, and changes to them
//! - [`judge`], [`dumpe2fs`]: whether two disks are equal, decided by programs that are not ours
//! - [`demo`]: the main job once; [`mod@bench`]: our times against limits; [`suite`]: what `make test` runs
//! - [`torture`]: what goes wrong, and that nothing is lost by it
//! - [`mod@model`]: the rules of boss in a small site, explored until no state is left
//! - [`cleanup`], [`processes`], [`tools`], [`talk`]: what all of them need

pub mod bench;
pub mod cleanup;
pub mod demo;
pub mod disk;
pub mod dumpe2fs;
pub mod edit;
pub mod judge;
pub mod model;
pub mod pg;
pub mod processes;
pub mod site;
pub mod suite;
pub mod talk;
pub mod tools;
pub mod torture;
pub mod tree;
