//! Reading and writing a disk or an image of one: the seam behind which files, devices and failing fakes look alike.

pub use sigs::source::ReadAt;
