//! Files in the formats of others, opened as disks and read.

use std::sync::{Arc, LazyLock};

use imagezip::foreign::{ndz, qcow2};
use sha1::{Digest as _, Sha1};
use sigs::{ByteLen, ByteOffset, ByteRange, ReadAt};

use crate::image::{Disk, Image};

const CHUNK: u64 = 1 << 20;
const MOST_CHUNKS: usize = 8;
/// How many ranges of a disk are read: enough to get through what a short input can describe.
const MOST_READS: usize = 16;
const READ: u64 = 256 << 10;

static NOTHING: LazyLock<Image> = LazyLock::new(|| Image::zeros(0));

/// An image of Emulab: for each chunk `0 length of the header (16)  2 length of the stream (16)  4 both of them`. The
/// length of the stream, and SHA-1 where the header wants it, are put right unless bit 15 of the first number is set.
pub fn ndz(mut input: &[u8]) -> bool {
    let mut file = Disk::new(&NOTHING);
    for chunk in (0..).map(|number| number * CHUNK).take(MOST_CHUNKS) {
        let Some(([h0, h1, s0, s1], rest)) = input.split_first_chunk() else { break };
        let (flags, stream) = (u16::from_le_bytes([*h0, *h1]), u16::from_le_bytes([*s0, *s1]));
        let (header, rest) = rest.split_at(usize::from(flags & 0x0FFF).min(rest.len()));
        let (stream, rest) = rest.split_at(usize::from(stream).min(rest.len()));
        input = rest;
        file.len = chunk + CHUNK;
        file.write(chunk, header);
        file.write(chunk + 4096, stream);
        if flags >> 15 == 0 {
            seal_chunk(&mut file, chunk, stream);
        }
    }
    let Ok(disk) = ndz::Disk::open(Arc::new(file), ndz::Options::default()) else { return false };
    let Ok(layout) = disk.layout() else { return false };
    let mut reached = 0;
    let mut sound = true;
    for range in layout.allocated().iter() {
        assert!(range.start.get() >= reached && !range.len.is_zero());
        reached = range.checked_end().unwrap().get();
        assert!(reached <= disk.len().get());
    }
    for range in layout.allocated().iter().take(MOST_READS) {
        sound &= read(&disk, range.start.get(), range.len.get().min(READ));
    }
    sound
}

fn seal_chunk(file: &mut Disk<'_>, chunk: u64, stream: &[u8]) {
    file.write(chunk + 4, &u32::try_from(stream.len()).unwrap().to_le_bytes());
    let header = file.read(chunk, 4096);
    if header[..4] == *b"liii" && header[38..40] == [1, 0] {
        file.write(chunk + 72, &[0; 32]);
        let header = file.read(chunk, 4096);
        let sum = Sha1::new().chain_update(&header).chain_update(stream).finalize();
        file.write(chunk + 72, &sum);
    }
}

/// An image of QEMU: the file as it is.
pub fn qcow2(input: &[u8]) -> bool {
    let Ok(disk) = qcow2::Disk::open(Arc::new(input.to_vec())) else { return false };
    let len = disk.len().get();
    let (mut at, mut sound) = (0, true);
    for _ in 0..MOST_READS {
        let Some(left) = len.checked_sub(at).filter(|left| *left > 0) else { break };
        let rest = ByteRange { start: ByteOffset::new(at), len: ByteLen::new(left) };
        let Ok(Some(data)) = disk.next_data(rest) else { break };
        assert!(data.get() >= at && data.get() < len, "data outside of what was asked for");
        let piece = (len - data.get()).min(READ);
        sound &= read(&disk, data.get(), piece);
        at = data.get() + piece;
    }
    sound
}

fn read(disk: &dyn ReadAt, start: u64, len: u64) -> bool {
    let mut buf = vec![0; usize::try_from(len).unwrap()];
    disk.read_exact_at(&mut buf, ByteOffset::new(start)).is_ok()
}
