//! Deltas and signatures.

use std::fs;
use std::io;
use std::process::Command;

use imagezip::capture::{Base, CaptureOptions, capture};
use imagezip::io::ReadAt;
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen, ByteOffset, Signature};

use super::disks::{MIB, folder, noise, number, restored, save};
use crate::command::{fails, imagezip, ok};
use crate::support::{Frames, THREADS, controlled, layout, make, open, restore_to};

/// A disk that cannot be read at one place.
#[derive(Debug)]
struct Broken(Vec<u8>);

impl ReadAt for Broken {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let bad = 2 * u64::try_from(MIB).unwrap() + 5000;
        if offset.get() <= bad && bad < offset.get() + ByteLen::of(buf).get() {
            return Err(io::Error::other("medium error"));
        }
        self.0.read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        ByteLen::of(&self.0)
    }
}

#[test]
fn a_read_error_is_never_taken_for_content() {
    let disk = noise(4 * MIB, 1);
    let base = make(&disk, &Layout::whole(&disk), &[], BlockSize::DEFAULT).unwrap();
    let signature = Signature::open(base.signature).unwrap();
    let broken = Broken(disk);
    let bases: [&[&dyn Base]; 2] = [&[], &[&signature]];
    for bases in bases {
        let options = CaptureOptions { bases, threads: THREADS, ..CaptureOptions::default() };
        let mut frames = Frames::default();
        let layout = Layout::whole(&broken);
        let result = controlled(|control| capture(&broken, &layout, &options, &mut frames, None, control));
        assert!(result.is_err(), "neither zeros nor no differences");
    }
}

#[test]
fn a_damaged_signature_is_never_no_differences() {
    let folder = folder("a.img", &noise(2 * MIB, 2));
    let at = folder.path();
    save(at, "a");
    let mut changed = fs::read(at.join("a.img")).unwrap();
    changed[MIB..MIB + 8192].fill(0x33);
    fs::write(at.join("b.img"), &changed).unwrap();
    let good = fs::read(at.join("a.sig")).unwrap();
    let mut refused = 0;
    for place in (0..good.len()).step_by(good.len() / 30) {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(at.join("bad.sig"), bad).unwrap();
        let arguments = ["create", "b.img", "--out", "b.zdi", "--base", "bad.sig"];
        let output = imagezip(at, &arguments);
        // A page that is not needed is not read, so nothing is wrong then; what is said to be the same is the same.
        if output.status.success() {
            assert!(restored(at, &["a.zdi", "b.zdi"]) == changed, "byte {place}");
            fs::remove_file(at.join("b.zdi")).unwrap();
        } else {
            fails(at, &arguments, 7);
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused}");
    for len in [0, 8, 100, good.len() / 2, good.len() - 1] {
        fs::write(at.join("bad.sig"), &good[..len]).unwrap();
        fails(at, &["create", "b.img", "--out", "b.zdi", "--base", "bad.sig"], 7);
    }
}

#[test]
fn an_empty_delta_is_a_valid_image() {
    let disk = noise(2 * MIB, 3);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    let delta = ok(at, &["create", "a.img", "--out", "same.zdi", "--base", "a.sig"]);
    assert_eq!(number(&delta["stored_blocks"]), 0);
    assert!((1..8192).contains(&number(&delta["image_bytes"])), "{delta}");
    assert!(restored(at, &["a.zdi", "same.zdi"]) == disk);
}

#[test]
fn raw_and_delta_go_together() {
    let mut disk = noise(2 * MIB + 700, 4);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    disk[2 * MIB + 600] ^= 1;
    fs::write(at.join("b.img"), &disk).unwrap();
    let delta = ok(at, &["create", "b.img", "--raw", "--out", "b.zdi", "--base", "a.sig"]);
    assert_eq!(number(&delta["stored_blocks"]), 1);
    assert!(restored(at, &["a.zdi", "b.zdi"]) == disk);
}

#[test]
fn data_behind_everything_the_base_had_is_saved() {
    let disk = noise(4 * MIB, 5);
    let base = make(&disk, &layout(&disk, vec![(0, 100_000)]), &[], BlockSize::DEFAULT).unwrap();
    let delta = make(&disk, &layout(&disk, vec![(0, 4 << 20)]), &[&base], BlockSize::DEFAULT).unwrap();
    let target = MemoryDisk::new(vec![1; disk.len()]);
    restore_to(&open(&delta.image, &[&base.image]).unwrap(), &target, FreePolicy::Zero, false).unwrap();
    assert!(target.content() == disk);
}

#[test]
fn what_was_freed_or_became_zero_is_known() {
    let disk = noise(3 * MIB, 6);
    let base = make(&disk, &Layout::whole(&disk), &[], BlockSize::DEFAULT).unwrap();
    let mut changed = disk.clone();
    changed[MIB..2 * MIB].fill(0);
    // The last MiB was freed; its old content is still there.
    let delta = make(&changed, &layout(&changed, vec![(0, 2 << 20)]), &[&base], BlockSize::DEFAULT).unwrap();
    let counts = delta.captured.counts;
    assert_eq!((counts.data.get(), counts.zero.get(), counts.free.get()), (256, 256, 256));
    assert_eq!(delta.captured.manifest.stored_blocks.get(), 0);
    let chain = open(&delta.image, &[&base.image]).unwrap();
    for (free, last) in [(FreePolicy::Zero, vec![0; MIB]), (FreePolicy::Keep, vec![1; MIB])] {
        let target = MemoryDisk::new(vec![1; disk.len()]);
        restore_to(&chain, &target, free, true).unwrap();
        assert!(target.content()[..2 * MIB] == changed[..2 * MIB]);
        assert!(target.content()[2 * MIB..] == last, "{free:?}");
    }
    // The full image of the state is the same state: no freed block of the base is in it.
    let full = make(&changed, &layout(&changed, vec![(0, 2 << 20)]), &[], BlockSize::DEFAULT).unwrap();
    assert_eq!(full.captured.target_root, delta.captured.target_root);
}

#[test]
fn one_changed_byte_stores_one_block() {
    let mut disk = noise(2 * MIB, 7);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    disk[1_234_567] ^= 1;
    fs::write(at.join("b.img"), &disk).unwrap();
    let delta = ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    assert_eq!(number(&delta["stored_blocks"]), 1);
    assert!(number(&delta["stored_bytes"]) < 4200, "{delta}");
}

#[test]
fn a_new_file_in_front_moves_nothing() {
    let disk = noise(2 * MIB, 8);
    let base = make(&disk, &layout(&disk, vec![(1 << 20, 1 << 20)]), &[], BlockSize::DEFAULT).unwrap();
    let now = layout(&disk, vec![(300_000, 10_000), (1 << 20, 1 << 20)]);
    let delta = make(&disk, &now, &[&base], BlockSize::DEFAULT).unwrap();
    assert_eq!(delta.captured.manifest.stored_blocks.get(), 3, "the new one, in three blocks");
}

#[test]
fn a_signature_is_the_same_however_it_is_made() {
    let mut disk = noise(2 * MIB, 9);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    disk[77_777] ^= 1;
    fs::write(at.join("b.img"), &disk).unwrap();
    ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig", "--sig-out", "delta.sig"]);
    ok(at, &["create", "b.img", "--out", "full.zdi", "--sig-out", "full.sig"]);
    ok(at, &["hash", "b.img", "--out", "hash.sig"]);
    let [delta, full, hash] = ["delta.sig", "full.sig", "hash.sig"].map(|name| fs::read(at.join(name)).unwrap());
    assert!(delta == full && full == hash);
}

#[test]
fn a_signature_is_known_by_its_root_not_by_its_time() {
    let mut disk = noise(2 * MIB, 10);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    disk[5] ^= 1;
    fs::write(at.join("b.img"), &disk).unwrap();
    let touched = Command::new("touch").args(["-d", "2001-01-01"]).arg(at.join("a.sig")).status().unwrap();
    assert!(touched.success());
    let delta = ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    assert_eq!(number(&delta["stored_blocks"]), 1);
    assert_eq!(delta["base_roots"][0], ok(at, &["info", "a.sig"])["root"]);
    assert!(restored(at, &["a.zdi", "b.zdi"]) == disk);
}

#[test]
fn an_image_whose_signature_cannot_be_written_fails() {
    let folder = folder("a.img", &noise(MIB, 11));
    fails(folder.path(), &["create", "a.img", "--out", "a.zdi", "--sig-out", "absent/a.sig"], 4);
    assert!(!folder.path().join("a.zdi").exists());
}
