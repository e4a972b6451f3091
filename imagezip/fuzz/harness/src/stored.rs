//! An image in a file, read by the engine and by boss: one never takes what the other refuses without having to.
//!
//! The input is the file; the digests in it are put right first, or nothing but them would be read.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use boss_verify::{VerifyError, rebuild};
use imagezip::control::{Control, Progress};
use imagezip::fit::Fit;
use imagezip::image::{Chain, ImageDisk, ImageSource, Verified};
use imagezip::nbd::{Export, handshake, transmit};
use sha2::{Digest as _, Sha256};
use sigs::zdi::Container;
use sigs::{ByteLen, ReadAt as _, Signature};

const TRAILER: usize = 96;
const READ: usize = 64 << 10;
const MOST_READS: usize = 16;
/// Where a client of NBD stops to listen.
const MOST_ANSWER: u64 = 64 << 20;
const BASE: &[u8] = include_bytes!("../../../../docs/formats/golden/v2-base.zdi");
const BASE_SIGNATURE: &[u8] = include_bytes!("../../../../docs/formats/golden/base.sig");

/// The container, and the chain of images that the engine makes of it.
pub fn zdi(input: &[u8]) -> bool {
    let file = sealed(input);
    let opened = Container::open(file.clone());
    if let Ok(container) = &opened {
        let mut stored = Vec::new();
        for frame in 0..u32::try_from(container.contents().frames.len()).unwrap() {
            container.read_frame(frame, &mut stored).unwrap();
        }
    }
    let accepted = engine_takes(&file);
    assert!(opened.is_ok() || !accepted);
    accepted
}

/// The reader of boss. What it takes, the root put right, the engine takes.
pub fn boss_verify(input: &[u8]) -> bool {
    let mut file = sealed(input);
    let bases = || vec![Signature::open(BASE_SIGNATURE.to_vec()).unwrap()];
    let take = |file: &Vec<u8>| match rebuild(file.clone(), &[] as &[Signature<Vec<u8>>], io::sink()) {
        Err(VerifyError::WrongBase { .. }) => rebuild(file.clone(), &bases(), io::sink()),
        other => other,
    };
    let mut answer = take(&file);
    if let Err(VerifyError::WrongRoot { found, .. }) = &answer
        && let Some(changed) = with_root(&file, &found.to_string())
    {
        file = sealed(&changed);
        answer = take(&file);
        assert!(!matches!(answer, Err(VerifyError::WrongRoot { .. })), "another root for the same content");
    }
    let accepted = answer.is_ok();
    assert!(!accepted || engine_takes(&file), "boss takes an image that cannot be restored");
    accepted
}

/// A client that opens an image over NBD: all that it says.
pub fn nbd(input: &[u8]) -> bool {
    static EXPORT: LazyLock<Export> = LazyLock::new(|| Export::new(ImageDisk::new(Arc::new(verified(BASE).unwrap()))));
    let (mut said, mut answer) = (input, Counted(0));
    let Ok(Some(agreed)) = handshake(&mut said, &mut answer, &EXPORT) else { return false };
    let ended = transmit(&mut said, &mut answer, &EXPORT, agreed, &|_| {});
    ended.is_ok()
}

/// What an answer is written to: it only counts, and so shows that a short question has no endless answer.
#[derive(Debug)]
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += ByteLen::of(bytes).get();
        if self.0 > MOST_ANSWER { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens and verifies an image as before a restore, and goes over what it restores.
fn engine_takes(file: &[u8]) -> bool {
    let Some(chain) = verified(file) else { return false };
    let len = chain.geometry().disk_bytes;
    for other in [len.get() / 2, len.get().saturating_add(1 << 20)] {
        let _ = Fit::new(&chain, ByteLen::new(other));
    }
    let disk = ImageDisk::new(Arc::new(chain));
    let layout = disk.layout().unwrap();
    let mut buf = vec![0; READ];
    for range in layout.allocated().iter().take(MOST_READS) {
        let piece = range.len.to_usize().unwrap_or(READ).min(READ);
        // Of a frame only the digest was checked, which was put right: it may hold anything.
        let _ = disk.read_exact_at(&mut buf[..piece], range.start);
    }
    true
}

pub(crate) fn verified(file: &[u8]) -> Option<Chain<Verified>> {
    let source = |name: &str, bytes: &[u8]| ImageSource { name: name.to_owned(), bytes: Arc::new(bytes.to_vec()) };
    let control = Control { progress: &Progress::default(), cancel: &AtomicBool::new(false) };
    let chain = Chain::open_among(source("image", file), vec![source("base", BASE)]).ok()?;
    chain.verify(NonZeroUsize::MIN, control).ok()
}

/// Returns the file with valid digests: of frames, of their table, of the map, and of the tail.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut file = input.to_vec();
    // A file without the parts is refused for that.
    let _ = seal_parts(&mut file);
    file
}

fn seal_parts(file: &mut [u8]) -> Option<()> {
    let trailer = file.len().checked_sub(TRAILER)?;
    let number = |file: &[u8], at: usize| {
        let bytes = file.get(at..)?.first_chunk()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    };
    let (tail, frames) = (number(file, trailer)?, number(file, trailer + 8)?);
    let (stored_map, map) = (number(file, trailer + 16)?, number(file, trailer + 24)?);
    let placement = tail.checked_add(frames.checked_mul(40)?)?;
    let map_at = placement.checked_add(frames.checked_mul(8)?)?;
    let manifest_at = map_at.checked_add(stored_map)?;
    file.get(manifest_at..trailer)?;
    for frame in 0..frames {
        let (record, start) = (tail + frame * 40, number(file, placement + frame * 8)?);
        let len = usize::try_from(u32::from_le_bytes(*file.get(record + 32..)?.first_chunk()?)).ok()?;
        let digest = Sha256::digest(file.get(start..start.checked_add(len)?)?);
        file[record..record + 32].copy_from_slice(&digest);
    }
    let table = hex::encode(Sha256::digest(&file[tail..placement]));
    set_hex(&mut file[manifest_at..trailer], "frame_table", &table);
    if let Ok(map) = zstd::bulk::decompress(&file[map_at..manifest_at], map.min(1 << 20)) {
        set_hex(&mut file[manifest_at..trailer], "map", &hex::encode(Sha256::digest(&map)));
    }
    let digest = Sha256::digest(&file[tail..trailer]);
    file[trailer + 56..trailer + 88].copy_from_slice(&digest);
    Some(())
}

fn with_root(file: &[u8], root: &str) -> Option<Vec<u8>> {
    let mut file = file.to_vec();
    set_hex(&mut file, "target_root", root).then_some(file)
}

/// Sets the 64 digits of a field of a manifest.
fn set_hex(manifest: &mut [u8], field: &str, digits: &str) -> bool {
    let key = format!("\"{field}\":\"");
    let found = manifest.windows(key.len()).rposition(|window| window == key.as_bytes());
    let place = found.and_then(|at| manifest.get_mut(at + key.len()..at + key.len() + 64));
    let Some(place) = place.filter(|_| digits.len() == 64) else { return false };
    place.copy_from_slice(digits.as_bytes());
    true
}
