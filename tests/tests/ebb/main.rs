//! End to end, through the built programs; and what needs no site: who imports whom, disks, edits, the judge.

mod imports;
mod judging;
