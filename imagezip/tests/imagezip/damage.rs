//! Images that were altered, cut, mixed up or made for something else are refused before the first write.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::sync::{Arc, Mutex};

use imagezip::image::{Chain, ImageError, ImageSource};
use imagezip::io::fake::{Action, MemoryDisk};
use imagezip::restore::{Failure, FreePolicy, Refusal, RestoreError, RestoreOptions, restore};
use sigs::manifest::Manifest;
use sigs::zdi::{Contents, HEADER_BYTES, encode_frame_table, header_bytes};
use sigs::{BlockCount, BlockSize, ByteLen, ByteOffset, Digest, ReadAt, Root, Signature};

use crate::support::{Made, Noise, THREADS, controlled, make_whole, open, open_maps, restore_to};

/// Three MiB of noise and zeros, and the same with a few blocks changed.
pub(crate) fn pair() -> (Vec<u8>, Vec<u8>) {
    let mut disk = vec![0; (3 << 20) + 777];
    let mut noise = Noise(3);
    noise.fill(&mut disk[..900_000]);
    noise.fill(&mut disk[2 << 20..(2 << 20) + 300_000]);
    disk[1 << 20..(1 << 20) + 5000].fill(7);
    let mut changed = disk.clone();
    noise.fill(&mut changed[400_000..430_000]);
    noise.fill(&mut changed[3 << 20..]);
    changed[2 << 20..(2 << 20) + 50_000].fill(0);
    (disk, changed)
}

fn made() -> (Made, Made) {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    (base, delta)
}

/// Restores, and says whether anything was done to the target.
fn touched(image: &[u8], bases: &[&[u8]], len: usize) -> Result<bool, ImageError> {
    let target = MemoryDisk::new(vec![0x55; len]);
    let chain = open(image, bases)?;
    drop(restore_to(&chain, &target, FreePolicy::Zero, false));
    Ok(!target.take_actions().is_empty())
}

#[test]
fn a_flipped_byte_anywhere_is_an_error_before_the_first_write() {
    let (base, delta) = made();
    let len = pair().0.len();
    assert!(touched(&delta.image, &[&base.image], len).unwrap(), "the images are good");
    // Every byte of header and tail, every 97th of the frames.
    let tail = delta.image.len().saturating_sub(3000);
    let places = (0..64).chain((64..tail).step_by(97)).chain(tail.max(64)..delta.image.len());
    for place in places {
        let mut bad = delta.image.clone();
        bad[place] ^= 0x04;
        assert!(touched(&bad, &[&base.image], len).is_err(), "flip at {place} of the delta");
    }
    for place in (0..base.image.len()).step_by(4999) {
        let mut bad = base.image.clone();
        bad[place] ^= 0x80;
        assert!(touched(&delta.image, &[&bad], len).is_err(), "flip at {place} of the base");
    }
}

#[test]
fn frames_that_were_not_checked_are_before_the_first_write() {
    let (base, delta) = made();
    let len = pair().0.len();
    let tail = delta.image.len() - 3000;
    for place in (100..tail).step_by(9973) {
        let mut bad = delta.image.clone();
        bad[place] ^= 0x04;
        let chain = open_maps(&bad, &[&base.image]).unwrap();
        let target = MemoryDisk::new(vec![0x55; len]);
        let error = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap_err();
        assert!(matches!(error, RestoreError::Refused(Refusal::Image(_))), "flip at {place}: {error}");
        assert!(target.take_actions().is_empty());
    }
}

#[test]
fn a_fresh_file_is_one_hole_again_when_a_frame_turns_out_to_be_damaged() {
    let mut disk = vec![0; 8 << 20];
    Noise(8).fill(&mut disk);
    let made = make_whole(&disk, &[]);
    let options = RestoreOptions { fresh: true, threads: THREADS, ..RestoreOptions::new(FreePolicy::Zero) };
    let run = |image: &[u8], target: &MemoryDisk| {
        let chain = open_maps(image, &[]).unwrap();
        controlled(|control| restore(&chain, target, &options, control))
    };
    let target = MemoryDisk::new(vec![0; disk.len()]);
    run(&made.image, &target).unwrap();
    assert!(target.content() == disk);
    let mut written = 0;
    // Of noise, the frames are about as large as what they hold; the last ones are needed last.
    for place in (100..made.image.len() - 300_000).step_by(500_003) {
        let mut bad = made.image.clone();
        bad[place] ^= 0x04;
        let target = MemoryDisk::new(vec![0; disk.len()]);
        let error = run(&bad, &target).unwrap_err();
        assert!(matches!(error, RestoreError::Refused(Refusal::Image(_))), "flip at {place}: {error}");
        assert!(target.content().iter().all(|byte| *byte == 0), "flip at {place}");
        written += target.take_actions().iter().filter(|action| matches!(action, Action::Write(_))).count();
    }
    assert!(written > 0, "frames are proved by what was read back, not before the first write");
    // One that is no frame any more is named as the damaged one it is, not as one that does not expand.
    let mut bad = made.image.clone();
    let frame = bad.windows(4).skip(4 << 20).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    bad[(4 << 20) + frame] ^= 1;
    let target = MemoryDisk::new(vec![0; disk.len()]);
    let Err(RestoreError::Refused(Refusal::Image(error))) = run(&bad, &target) else { panic!("no frame any more") };
    assert!(matches!(*error, ImageError::Frame { .. }), "{error}");
    // What fails for another reason is unfinished, as ever.
    let mut bad = made.image.clone();
    bad[4 << 20] ^= 0x04;
    let target = MemoryDisk::new(vec![0; disk.len()]);
    target.fail_after(0);
    let error = run(&bad, &target).unwrap_err();
    assert!(matches!(error, RestoreError::Unfinished(_)), "{error}");
}

/// An image that somebody writes to after it was checked.
#[derive(Debug)]
struct Alive(Mutex<Vec<u8>>);

impl ReadAt for Alive {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> std::io::Result<()> {
        self.0.lock().unwrap().read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        ReadAt::len(&*self.0.lock().unwrap())
    }
}

#[test]
fn an_image_that_changes_after_it_was_checked_is_named_instead_of_the_target() {
    let mut disk = vec![0; 6 << 20];
    Noise(21).fill(&mut disk);
    let base = make_whole(&disk, &[]);
    let alive = Arc::new(Alive(Mutex::new(base.image)));
    let source = ImageSource { name: "alive".to_owned(), bytes: Arc::<Alive>::clone(&alive) };
    let chain = controlled(|control| Chain::open(source, Vec::new()).unwrap().verify(THREADS, control)).unwrap();
    // Zstd keeps noise as it is: this still expands, to something else. It is far from both ends of the disk.
    alive.0.lock().unwrap()[3 << 20] ^= 1;
    let target = MemoryDisk::new(vec![0x55; disk.len()]);
    let error = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap_err();
    assert!(matches!(error, RestoreError::Unfinished(Failure::Image(ImageError::Frame { .. }))), "{error:?}");
    assert!(target.content()[..4096].iter().all(|byte| *byte == 0), "it does not boot");
}

#[test]
fn a_cut_image_is_refused() {
    let (base, _) = made();
    for len in (0..base.image.len()).step_by(6007).chain(base.image.len() - 200..base.image.len()) {
        assert!(open(&base.image[..len], &[]).is_err(), "cut to {len}");
    }
    let mut longer = base.image.clone();
    longer.push(0);
    assert!(open(&longer, &[]).is_err(), "a byte too many");
}

#[test]
fn frames_in_another_order_are_refused() {
    let (base, _) = made();
    let frames = &base.captured.contents.frames;
    let (first, second) = (frames[0].stored_bytes as usize, frames[1].stored_bytes as usize);
    let mut swapped = base.image.clone();
    swapped[64..64 + first + second].rotate_left(first);
    assert!(open(&swapped, &[]).is_err());
}

#[test]
fn a_delta_wants_its_own_base_and_nothing_else() {
    let (base, delta) = made();
    let other = make_whole(&vec![9; (3 << 20) + 777], &[]);
    let refused = |bases: &[&[u8]]| open(&delta.image, bases).unwrap_err();
    assert!(matches!(refused(&[]), ImageError::MissingBase { .. }));
    assert!(matches!(refused(&[&other.image]), ImageError::MissingBase { .. }));
    assert!(matches!(refused(&[&base.image, &other.image]), ImageError::Foreign { .. }));
    assert!(matches!(open(&base.image, &[&other.image]).unwrap_err(), ImageError::Foreign { .. }));
    let message = refused(&[&other.image]).to_string();
    assert!(message.contains(&base.captured.target_root.to_string()), "{message}");
}

#[test]
fn a_target_of_another_size_is_left_alone() {
    let (base, _) = made();
    let chain = open(&base.image, &[]).unwrap();
    for len in [0, (3 << 20) + 776, (3 << 20) + 778] {
        let target = MemoryDisk::new(vec![1; len]);
        let refused = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap_err();
        assert!(matches!(refused, RestoreError::Refused(Refusal::Size { .. })));
        assert!(target.take_actions().is_empty());
    }
}

#[test]
fn an_unchanged_disk_gives_a_valid_and_tiny_delta() {
    let (disk, _) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&disk, &[&base]);
    assert!(delta.image.len() < 64 * 1024, "{} bytes", delta.image.len());
    assert!(delta.captured.contents.frames.is_empty());
    let target = MemoryDisk::new(vec![3; disk.len()]);
    restore_to(&open(&delta.image, &[&base.image]).unwrap(), &target, FreePolicy::Zero, false).unwrap();
    assert_eq!(target.content(), disk);
}

#[test]
fn bases_with_other_blocks_are_an_error_and_deltas_of_deltas_are_not() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let layout = imagezip::layout::Layout::whole(&changed);
    let small = crate::support::make(&changed, &layout, &[&base], BlockSize::new(512).unwrap()).unwrap_err();
    assert!(small.to_string().contains("use the same block size"), "{small}");

    let first = make_whole(&changed, &[&base]);
    let mut last = changed.clone();
    last[2_000_000..2_100_000].fill(0x31);
    let second = make_whole(&last, &[&first]);
    let chain = open(&second.image, &[&base.image, &first.image]).unwrap();
    let target = MemoryDisk::new(vec![3; disk.len()]);
    restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    assert_eq!(target.content(), last);

    let two = make_whole(&last, &[&base, &first]);
    let chain = open(&two.image, &[&base.image, &first.image]).unwrap();
    restore_to(&chain, &target, FreePolicy::Zero, true).unwrap();
    assert_eq!(target.content(), last);
    assert_eq!(Signature::open(two.signature).unwrap().root(), two.captured.target_root);
}

/// Makes an image with correct digests out of a good one, its manifest and its frames altered.
pub(crate) fn forge(made: &Made, alter: impl FnOnce(&mut Manifest), frames: Option<Vec<u8>>) -> Vec<u8> {
    let mut contents = made.captured.contents.clone();
    let stored = |contents: &Contents| contents.frames.iter().map(|frame| frame.stored_bytes).collect::<Vec<_>>();
    let total: u32 = stored(&contents).iter().sum();
    let mut body = made.image[64..64 + usize::try_from(total).unwrap()].to_vec();
    if let Some(frame) = frames {
        let old = usize::try_from(contents.frames[0].stored_bytes).unwrap();
        contents.frames[0].digest = Digest::of(&frame);
        contents.frames[0].stored_bytes = u32::try_from(frame.len()).unwrap();
        body.splice(..old, frame);
    }
    let mut manifest = made.captured.manifest.clone();
    manifest.frame_table = Digest::of(&encode_frame_table(&contents.frames));
    alter(&mut manifest);
    contents.manifest = manifest.to_bytes();
    let mut at = HEADER_BYTES;
    let mut placement = Vec::new();
    for len in stored(&contents) {
        placement.push(ByteOffset::new(at));
        at += u64::from(len);
    }
    [header_bytes().to_vec(), body, contents.encode_tail(&placement, ByteOffset::new(at))].concat()
}

#[test]
fn an_image_that_lies_under_correct_digests_is_found_out() {
    let (base, delta) = made();
    assert!(open(&forge(&delta, |_| {}, None), &[&base.image]).is_ok(), "the forger is good");

    let miscounted = forge(
        &delta,
        |manifest| {
            manifest.counts.zero = BlockCount::new(manifest.counts.zero.get() - 1);
            manifest.counts.free = BlockCount::new(manifest.counts.free.get() + 1);
        },
        None,
    );
    assert!(matches!(open(&miscounted, &[&base.image]).unwrap_err(), ImageError::Counts { .. }));

    for raw in [vec![0; 5000], vec![0; 2 << 20]] {
        let frame = zstd::bulk::compress(&raw, 3).unwrap();
        let wrong = forge(&delta, |_| {}, Some(frame));
        assert!(matches!(open(&wrong, &[&base.image]).unwrap_err(), ImageError::Expand { .. }), "{} bytes", raw.len());
    }
    let not_zstd = forge(&delta, |_| {}, Some(vec![7; 100]));
    assert!(matches!(open(&not_zstd, &[&base.image]).unwrap_err(), ImageError::Expand { .. }));

    let other_root = forge(&delta, |manifest| manifest.target_root = Root::from_bytes([1; 32]), None);
    let chain = open(&other_root, &[&base.image]).unwrap();
    let target = MemoryDisk::new(vec![9; pair().0.len()]);
    let error = restore_to(&chain, &target, FreePolicy::Zero, false).unwrap_err();
    assert!(matches!(error, RestoreError::Unfinished(Failure::WrongRoot { .. })), "{error}");
    assert!(target.content()[..1 << 20].iter().all(|byte| *byte == 0), "and it does not boot");
}
