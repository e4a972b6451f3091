//! Everything that is not the server: the agent of a node, the program that saves a disk, and the command line.
//!
//! - [`agent`]: the agent of a node
//! - [`ebb`]: the command line of people
//! - [`swapimage`]: saves one disk
//! - [`transfer`]: copies files such that a crash costs time and nothing else
//! - [`disk`], [`imaging`], [`digest`]: what several of the programs need of disks and files
//! - [`exit`], [`retry`], [`log`]: how a program ends, goes on while boss is away, and says what happens
//!
//! The engine (`imagezip`) is plain threads; each side crosses to it in one function, on a named thread.

pub mod agent;
pub mod digest;
pub mod disk;
pub mod ebb;
pub mod exit;
pub mod imaging;
pub mod log;
pub mod retry;
pub mod swapimage;
pub mod transfer;
