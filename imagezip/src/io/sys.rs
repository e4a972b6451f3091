//! The one system call that has no safe wrapper.
#![expect(unsafe_code, reason = "BLKDISCARD is an ioctl, and ioctls have no safe interface")]

use std::fs::File;
use std::io;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use sigs::ByteRange;

/// `BLKDISCARD` of `linux/fs.h`: `_IO(0x12, 119)`, taking two `u64`: start and length in bytes.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);

/// Discards a range of a block device.
pub(super) fn discard_device(device: &File, range: ByteRange) -> io::Result<()> {
    let argument: [u64; 2] = [range.start.get(), range.len.get()];
    // SAFETY: the kernel reads exactly two u64 from the pointer that Setter passes for this opcode, and writes nothing.
    // On a descriptor that is not a block device the call fails with ENOTTY.
    let result = unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new(argument)) };
    result.map_err(io::Error::from)
}
