//! The bytes of a superblock, of which there may be too few.

use super::ExtDoubt;
use crate::alloc::bytes::{u16_at, u32_at, u64_at};

/// The bytes as they were read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn get<T>(&self, value: Option<T>) -> Result<T, ExtDoubt> {
        value.ok_or(ExtDoubt::Geometry("length of the superblock"))
    }

    pub(crate) fn u16(&self, at: usize) -> Result<u16, ExtDoubt> {
        self.get(u16_at(self.0, at))
    }

    pub(crate) fn u32(&self, at: usize) -> Result<u32, ExtDoubt> {
        self.get(u32_at(self.0, at))
    }

    pub(crate) fn u64(&self, at: usize) -> Result<u64, ExtDoubt> {
        self.get(u64_at(self.0, at))
    }
}
