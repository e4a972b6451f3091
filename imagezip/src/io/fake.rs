//! A disk in memory that records what is done to it and fails when told to: for tests of whoever writes to disks.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use sigs::{ByteLen, ByteOffset, ByteRange};

use super::{DiskIo, ReadAt};

/// Something that was done to a [`MemoryDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bytes were written.
    Write(ByteRange),
    /// A range was zeroed.
    Zero(ByteRange),
    /// A range was discarded.
    Discard(ByteRange),
    /// Everything was made durable.
    Flush,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    actions: Vec<Action>,
    /// How many more actions succeed; all later ones fail.
    left: Option<usize>,
    /// A byte of the disk whose writes do not arrive.
    stuck: Option<usize>,
    /// Ranges that cannot be read.
    unreadable: Vec<Unreadable>,
    /// How many reads there were.
    reads: usize,
}

/// A range whose reading fails.
#[derive(Clone, Copy, Debug)]
struct Unreadable {
    range: ByteRange,
    /// How many more reads of it fail; without a number all do.
    left: Option<usize>,
}

/// A disk in memory.
#[derive(Debug)]
pub struct MemoryDisk {
    len: ByteLen,
    state: Mutex<State>,
}

impl MemoryDisk {
    /// Makes a disk with this content.
    pub fn new(bytes: Vec<u8>) -> Self {
        let len = ByteLen::of(&bytes);
        let state = State { bytes, actions: Vec::new(), left: None, stuck: None, unreadable: Vec::new(), reads: 0 };
        Self { len, state: Mutex::new(state) }
    }

    /// Lets `actions` more actions succeed and all later ones fail, as when the power goes.
    pub fn fail_after(&self, actions: usize) {
        self.state().left = Some(actions);
    }

    /// Makes every action succeed again.
    pub fn heal(&self) {
        let mut state = self.state();
        (state.left, state.stuck) = (None, None);
        state.unreadable.clear();
    }

    /// Makes reads that touch a range fail, for ever or so many times.
    pub fn fail_reads(&self, range: ByteRange, times: Option<usize>) {
        self.state().unreadable.push(Unreadable { range, left: times });
    }

    /// Returns how many reads there were.
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    /// Lets writes to one byte be lost without an error, as a failing medium does.
    pub fn lose_writes_at(&self, place: usize) {
        self.state().stuck = Some(place);
    }

    /// Returns what was done so far, in order, and forgets it.
    pub fn take_actions(&self) -> Vec<Action> {
        std::mem::take(&mut self.state().actions)
    }

    /// Returns what is on the disk.
    pub fn content(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, action: Action, change: impl FnOnce(&mut [u8]), range: ByteRange) -> io::Result<()> {
        let mut state = self.state();
        match &mut state.left {
            Some(0) => return Err(io::Error::other("the fake disk was told to fail")),
            Some(left) => *left -= 1,
            None => {}
        }
        let place = span(range).filter(|(_, end)| *end <= state.bytes.len());
        let (start, end) = place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let kept = state.stuck.and_then(|place| Some((place, *state.bytes.get(place)?)));
        change(&mut state.bytes[start..end]);
        if let Some((place, byte)) = kept {
            state.bytes[place] = byte;
        }
        state.actions.push(action);
        Ok(())
    }
}

fn span(range: ByteRange) -> Option<(usize, usize)> {
    Some((usize::try_from(range.start.get()).ok()?, usize::try_from(range.checked_end()?.get()).ok()?))
}

impl ReadAt for MemoryDisk {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let mut state = self.state();
        state.reads += 1;
        let end = offset.checked_add(ByteLen::of(buf)).unwrap_or(ByteOffset::MAX);
        let touches = |range: ByteRange| range.start < end && range.checked_end().is_none_or(|end| end > offset);
        let failing = state.unreadable.iter_mut().find(|bad| touches(bad.range) && bad.left != Some(0));
        if let Some(bad) = failing {
            bad.left = bad.left.map(|left| left.saturating_sub(1));
            return Err(Errno::IO.into());
        }
        state.bytes.read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        self.len
    }
}

impl DiskIo for MemoryDisk {
    fn write_all_at(&self, bytes: &[u8], offset: ByteOffset) -> io::Result<()> {
        let range = ByteRange { start: offset, len: ByteLen::of(bytes) };
        self.act(Action::Write(range), |target| target.copy_from_slice(bytes), range)
    }

    fn zero(&self, range: ByteRange) -> io::Result<()> {
        self.act(Action::Zero(range), |target| target.fill(0), range)
    }

    fn deallocate(&self) -> io::Result<()> {
        let all = ByteRange { start: ByteOffset::ZERO, len: self.len };
        self.act(Action::Zero(all), |target| target.fill(0), all)
    }

    fn discard(&self, range: ByteRange) -> io::Result<()> {
        // What a discarded range reads as is up to the medium: make it something nobody expects.
        self.act(Action::Discard(range), |target| target.fill(0xd5), range)
    }

    fn flush(&self) -> io::Result<()> {
        self.act(Action::Flush, |_| {}, ByteRange { start: ByteOffset::ZERO, len: ByteLen::ZERO })
    }

    fn drop_cache(&self, _range: ByteRange) -> io::Result<()> {
        Ok(())
    }
}
