//! The independent reader against the golden files of the format.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::PathBuf;

use boss_verify::{Rebuilt, VerifyError, rebuild};
use sigs::Signature;

fn golden(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/golden").join(name)).unwrap()
}

fn run(image: Vec<u8>, bases: &[Vec<u8>]) -> Result<(Rebuilt, Vec<u8>), VerifyError> {
    let bases: Vec<_> = bases.iter().map(|base| Signature::open(base.clone()).unwrap()).collect();
    let mut signature = Vec::new();
    let rebuilt = rebuild(image, &bases, &mut signature)?;
    Ok((rebuilt, signature))
}

#[test]
fn golden_images_give_the_signatures_beside_them() {
    let (full, signature) = run(golden("base.zdi"), &[]).unwrap();
    assert_eq!(signature, golden("base.sig"));
    assert_eq!(full.root, Signature::open(signature).unwrap().root());
    let (delta, signature) = run(golden("delta.zdi"), &[golden("base.sig")]).unwrap();
    assert_eq!(signature, golden("delta.sig"));
    assert_eq!(delta.root, delta.manifest.target_root);
    assert!(delta.frames_read > 0 && delta.bytes_read.get() < 2000);
}

#[test]
fn golden_images_of_version_2_give_the_same_signatures() {
    let (full, signature) = run(golden("v2-base.zdi"), &[]).unwrap();
    assert_eq!(signature, golden("base.sig"));
    assert!(full.manifest.is_complete());
    let (_, signature) = run(golden("v2-delta.zdi"), &[golden("base.sig")]).unwrap();
    assert_eq!(signature, golden("delta.sig"));
    let (incomplete, _) = run(golden("v2-incomplete.zdi"), &[golden("base.sig")]).unwrap();
    assert_eq!(incomplete.manifest.bad_sectors().len(), 2);
}

#[test]
fn every_flipped_byte_is_noticed() {
    for (image, bases) in [
        ("base.zdi", vec![]),
        ("delta.zdi", vec![golden("base.sig")]),
        ("v2-base.zdi", vec![]),
        ("v2-incomplete.zdi", vec![golden("base.sig")]),
    ] {
        let good = golden(image);
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x04;
            assert!(run(bad, &bases).is_err(), "flip at {place} of {image}");
        }
        for len in (0..good.len()).step_by(7) {
            assert!(run(good[..len].to_vec(), &bases).is_err(), "{image} cut to {len}");
        }
    }
}

#[test]
fn another_base_is_refused() {
    assert!(run(golden("delta.zdi"), &[]).is_err());
    let refused = run(golden("delta.zdi"), &[golden("delta.sig")]).unwrap_err();
    assert!(matches!(refused, VerifyError::WrongBase { .. }), "{refused}");
    assert!(run(golden("base.zdi"), &[golden("base.sig")]).is_err(), "a full image has no base");
}
