//! The state in an image stored against other bases: whatever it is stored against, it stays the same state.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::sync::Arc;

use imagezip::capture::Base;
use imagezip::image::{Chain, ImageDisk, Verified};
use imagezip::io::fake::MemoryDisk;
use imagezip::restore::FreePolicy;
use imagezip::rewrite::{RewriteError, RewriteOptions, hash_image, rewrite};
use imagezip::verify::verify_content;
use proptest::prelude::*;
use sigs::manifest::{ImageKind, Manifest, ManifestFormat, PartitionSummary};
use sigs::{BlockSize, ByteLen, ByteOffset, ByteRange, Root, Signature};

use crate::damage::{forge, pair};
use crate::golden::read;
use crate::round_trip::case;
use crate::support::{Frames, Made, THREADS, controlled, layout, make, make_whole, open, restore_to};

/// Stores the state of a chain against other states.
fn stored(chain: Chain<Verified>, bases: &[&Made]) -> Result<Made, RewriteError> {
    let disk = ImageDisk::new(Arc::new(chain));
    let signatures: Vec<_> = bases.iter().map(|base| Signature::open(base.signature.clone()).unwrap()).collect();
    let bases: Vec<&dyn Base> = signatures.iter().map(|signature| -> &dyn Base { signature }).collect();
    let options = RewriteOptions { bases: &bases, threads: THREADS, ..RewriteOptions::default() };
    let (mut frames, mut signature) = (Frames::default(), Vec::new());
    let captured = controlled(|control| rewrite(&disk, &options, &mut frames, Some(&mut signature), control))?;
    Ok(Made { image: frames.into_image(&captured), signature, captured })
}

/// What a restore onto a disk of zeros writes; the content has been proved against the root.
fn restored(chain: &Chain<Verified>) -> Vec<u8> {
    controlled(|control| verify_content(chain, THREADS, control)).unwrap();
    let target = MemoryDisk::new(vec![0; chain.geometry().disk_bytes.to_usize().unwrap()]);
    restore_to(chain, &target, FreePolicy::Zero, false).unwrap();
    target.content()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_state_stays_what_it_is_whatever_it_is_stored_against((first, second) in case(), (other, _) in case()) {
        let base = first.make(&[]);
        let delta = second.make(&[&base]);
        let chain = || open(&delta.image, &[&base.image]).unwrap();
        let wanted = restored(&chain());
        let root = delta.captured.target_root;

        let squashed = stored(chain(), &[]).unwrap();
        prop_assert_eq!(squashed.captured.manifest.kind, ImageKind::Full);
        prop_assert_eq!(squashed.captured.target_root, root);
        prop_assert_eq!(&squashed.signature, &delta.signature);
        prop_assert_eq!(restored(&open(&squashed.image, &[]).unwrap()), wanted.clone());
        // Nothing of the base survives that the delta freed or replaced.
        prop_assert_eq!(squashed.captured.manifest.stored_blocks, delta.captured.counts.data);

        // Between two images that stand alone: what the delta against the signature would have been.
        let between = stored(open(&squashed.image, &[]).unwrap(), &[&base]).unwrap();
        prop_assert_eq!(&between.captured.contents.frames, &delta.captured.contents.frames);
        prop_assert_eq!(restored(&open(&between.image, &[&base.image]).unwrap()), wanted.clone());
        prop_assert_eq!(&between.captured.manifest, &delta.captured.manifest, "a delta is a delta");

        let other = make(&other.disk, &other.layout(), &[], second.block_size).unwrap();
        let rebased = stored(chain(), &[&other]).unwrap();
        prop_assert_eq!(rebased.captured.target_root, root);
        prop_assert_eq!(&rebased.captured.manifest.base_roots, &vec![other.captured.target_root]);
        prop_assert_eq!(restored(&open(&rebased.image, &[&other.image]).unwrap()), wanted);
    }
}

#[test]
fn the_hash_of_an_image_is_the_signature_of_its_state() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make_whole(&changed, &[&base]);
    let image = ImageDisk::new(Arc::new(open(&delta.image, &[&base.image]).unwrap()));
    let mut signature = Vec::new();
    let hashed = controlled(|control| hash_image(&image, THREADS, &mut signature, control)).unwrap();
    assert_eq!(hashed.root, delta.captured.target_root);
    assert_eq!(signature, delta.signature);
}

#[test]
fn between_identical_states_there_is_an_empty_delta() {
    let (disk, _) = pair();
    let made = make_whole(&disk, &[]);
    let empty = stored(open(&made.image, &[]).unwrap(), &[&made]).unwrap();
    assert!(empty.captured.contents.frames.is_empty());
    assert!(empty.image.len() < 2000, "{}", empty.image.len());
    assert_eq!(restored(&open(&empty.image, &[&made.image]).unwrap()), disk);
}

/// What a manifest may say of a state that the content alone does not tell.
fn say_more(manifest: &mut Manifest) {
    let len = manifest.geometry.disk_bytes;
    manifest.min_disk_bytes = ByteLen::new(2 << 20);
    let bad = ByteRange { start: ByteOffset::new(512), len: ByteLen::new(1024) };
    manifest.bad_sectors = Some(vec![bad]);
    manifest.partitions = vec![PartitionSummary {
        number: 1,
        start: ByteOffset::ZERO,
        len,
        kind: "Linux".to_owned(),
        content: "ext4".to_owned(),
        allocated: len,
        whole: Some("a reason".to_owned()),
        evidence: None,
    }];
}

#[test]
fn what_the_manifest_says_of_the_state_is_carried_over() {
    let (disk, changed) = pair();
    let base = make_whole(&disk, &[]);
    let delta = make(&changed, &layout(&changed, vec![(0, 1 << 20)]), &[&base], BlockSize::DEFAULT).unwrap();
    let mut original = delta.captured.manifest.clone();
    say_more(&mut original);
    assert_ne!(original.min_disk_bytes, delta.captured.manifest.min_disk_bytes);
    let chain = open(&forge(&delta, say_more, None), &[&base.image]).unwrap();
    let squashed = stored(chain, &[]).unwrap();
    let manifest = Manifest::parse(&squashed.captured.contents.manifest).unwrap();
    assert_eq!(manifest, squashed.captured.manifest);
    assert_eq!(manifest.partitions, original.partitions);
    assert_eq!(manifest.min_disk_bytes, original.min_disk_bytes);
    assert_eq!((manifest.geometry, manifest.counts), (original.geometry, original.counts));
    assert_eq!(manifest.bad_sectors(), original.bad_sectors());
    assert!(!manifest.is_complete(), "what was not read is not known any better now");
}

#[test]
fn an_image_of_the_first_format_becomes_one_of_the_newest() {
    let [base, delta] = ["base.zdi", "delta.zdi"].map(read);
    let chain = open(&delta, &[&base]).unwrap();
    let (wanted, old) = (restored(&chain), chain.manifest().clone());
    assert_eq!(old.format, ManifestFormat::V1);
    let squashed = stored(chain, &[]).unwrap();
    let manifest = Manifest::parse(&squashed.captured.contents.manifest).unwrap();
    assert_eq!((manifest.format, manifest.target_root), (ManifestFormat::V2, old.target_root));
    assert!(manifest.is_complete() && manifest.bad_sectors.is_some());
    assert_eq!(restored(&open(&squashed.image, &[]).unwrap()), wanted);
}

#[test]
fn an_image_that_lies_about_its_root_is_not_made_into_another() {
    let (disk, _) = pair();
    let made = make_whole(&disk, &[]);
    let lie = |manifest: &mut Manifest| manifest.target_root = Root::from_bytes([1; 32]);
    let chain = || open(&forge(&made, lie, None), &[]).unwrap();
    assert!(matches!(stored(chain(), &[]).unwrap_err(), RewriteError::WrongRoot { .. }));
    let image = ImageDisk::new(Arc::new(chain()));
    let hashed = controlled(|control| hash_image(&image, THREADS, &mut Vec::new(), control));
    assert!(matches!(hashed.unwrap_err(), RewriteError::WrongRoot { .. }));
}
