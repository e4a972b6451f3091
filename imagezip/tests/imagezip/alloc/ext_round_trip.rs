//! The whole way of an ext file system: full of secrets, most of them deleted; captured, and restored over garbage.

use std::fs;

use imagezip::alloc::{SurveyOptions, survey};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen};

use super::tools::{Image, Pairs, pairs, run_any};
use crate::support::{make, open, restore_to};

const STALE: &[u8; 16] = b"stale secret 42!";
const GARBAGE: &[u8; 16] = b"of a past owner.";

/// Fills what is free with a secret and deletes it, with some other files.
pub(super) fn fill_and_delete(image: &Image) {
    let free: u64 = super::tools::complement(&image.truth(), u64::MAX)
        .iter()
        .filter(|(_, end)| *end < u64::MAX)
        .map(|(start, end)| end - start)
        .sum();
    let secret = image.folder().join("secret");
    // A bit less, for the blocks that say where the others are.
    let times = usize::try_from(free * 9 / 10).unwrap() / STALE.len();
    fs::write(&secret, STALE.repeat(times)).unwrap();
    let mut script = format!("write {} /secret\nrm /secret\n", secret.display());
    for index in (2..90).step_by(6) {
        script.push_str(&format!("rm /file{index}\n"));
    }
    image.debugfs(&script);
    fs::remove_file(secret).unwrap();
}

/// Captures and restores the disk, and has the result checked; returns what was allocated.
pub(super) fn round_trip(image: &Image, what: &str) -> Pairs {
    let disk = image.bytes();
    let before = image.tree();
    let checked = run_any("e2fsck", &["-f", "-n", &image.text()]);
    let survey = survey(&disk, SurveyOptions::default()).unwrap();
    let layout = Layout::from_survey(ByteLen::of(&disk), &survey).unwrap();
    let made = make(&disk, &layout, &[], BlockSize::DEFAULT).unwrap();
    let chain = open(&made.image, &[]).unwrap();

    let expanded = MemoryDisk::new(vec![0; disk.len()]);
    restore_to(&chain, &expanded, FreePolicy::Keep, false).unwrap();
    assert!(!contains(&expanded.content(), STALE), "{what}: the image has what was deleted");

    let target = MemoryDisk::new(GARBAGE.repeat(disk.len().div_ceil(GARBAGE.len()))[..disk.len()].to_vec());
    restore_to(&chain, &target, FreePolicy::Zero, false).unwrap();
    let restored = target.content();
    assert!(!contains(&restored, STALE), "{what}: the target has what was deleted");
    assert!(!contains(&restored, GARBAGE), "{what}: the target has what was there before");
    let allocated = pairs(&survey.allocated);
    for (start, end) in &allocated {
        let place = usize::try_from(*start).unwrap()..usize::try_from(*end).unwrap();
        assert!(restored[place.clone()] == disk[place], "{what}: bytes {start} to {end}");
    }

    fs::write(image.path(), restored).unwrap();
    // debugfs keeps no quotas, which e2fsck notices; but then it has to notice the same.
    assert!(checked.0 == 0 || checked.1.contains("QUOTA WARNING"), "{what}: {}", checked.1);
    assert_eq!(run_any("e2fsck", &["-f", "-n", &image.text()]), checked, "{what}");
    assert!(before.len() > 60, "{what}: {} files", before.len());
    assert!(image.tree() == before, "{what}: the files are not as they were");
    allocated
}

/// Returns true if the bytes have the marker where a block can begin.
fn contains(bytes: &[u8], marker: &[u8; 16]) -> bool {
    bytes.as_chunks::<16>().0.contains(marker)
}

/// Returns true if what was deleted is on the disk.
pub(super) fn has_stale(image: &Image) -> bool {
    contains(&image.bytes(), STALE)
}
