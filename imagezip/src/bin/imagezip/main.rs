//! `imagezip`: hash, create, restore and verify disk images.
fn main() {}
