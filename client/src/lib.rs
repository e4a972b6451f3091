//! Everything that is not the server: the agent of a node, the program that saves a disk, and the command line.
//!
//! - [`ebb`]: the command line of people
//! - [`disk`], [`imaging`], [`digest`]: what several of the programs need of disks and files
//! - [`exit`]: how a program ends
//!
//! The engine (`imagezip`) is plain threads; each side crosses to it in one function, on a named thread.

pub mod digest;
pub mod disk;
pub mod ebb;
pub mod exit;
pub mod imaging;
