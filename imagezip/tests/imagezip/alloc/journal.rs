//! ext file systems that were in use: what the restored disk shows after its journal is replayed is what the original
//! shows, and free space is not in the image all the same.

mod crash;
mod judge;
mod kernel;
mod made;
