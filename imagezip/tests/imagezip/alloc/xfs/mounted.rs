//! What the kernel made of an XFS comes back as it was, and nothing that was deleted comes with it.

use std::fs;
use std::path::Path;

use imagezip::alloc::{Evidence, Survey};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen};

use super::volume::{MIB, Volume, allocated, evidence, make as make_file_system};
use crate::alloc::tools::{complement, pairs, run, survey_file};
use crate::mounted::{Mount, tree};
use crate::support::{Noise, make, open, restore_to};

pub(super) const STALE: &[u8; 16] = b"stale secret 42!";

/// Writes and deletes for a while; what the `seed` of the first time wrote may be deleted the next time.
pub(super) fn use_it(root: &Path, seed: u64) {
    let mut noise = Noise(seed);
    for number in 0..90_u64 {
        let file = root.join(format!("file{}", noise.next() % 60));
        match noise.next() % 8 {
            0..4 => {
                let mut content = vec![0; usize::try_from(noise.next() % 90_000).unwrap()];
                noise.fill(&mut content);
                fs::write(&file, content).unwrap();
            }
            4 => drop(fs::remove_file(&file)),
            5 => fs::create_dir_all(root.join(format!("folder{}/inner{number}", number % 7))).unwrap(),
            6 => drop(std::os::unix::fs::symlink("x".repeat(400), root.join(format!("link{number}")))),
            _ => {
                // Where blocks can be shared they are.
                let copy = root.join(format!("copy{number}"));
                drop(fs::copy(&file, copy));
            }
        }
    }
}

/// A file starts with a block, so what is repeated in it has its place.
pub(super) fn has_stale(bytes: &[u8]) -> bool {
    stale_pieces(bytes) > 0
}

pub(super) fn stale_pieces(bytes: &[u8]) -> usize {
    bytes.chunks(STALE.len()).filter(|piece| piece == STALE).count()
}

/// Captures the disk and returns it as restored over garbage, or into zeros; and the size of the image.
pub(super) fn restored(disk: &Vec<u8>, survey: &Survey, free: FreePolicy) -> (Vec<u8>, usize) {
    let layout = Layout::from_survey(ByteLen::of(disk), survey).unwrap();
    let made = make(disk, &layout, &[], BlockSize::DEFAULT).unwrap();
    let chain = open(&made.image, &[]).unwrap();
    let target = MemoryDisk::new(vec![0xA5; disk.len()]);
    restore_to(&chain, &target, free, false).unwrap();
    (target.content(), made.image.len())
}

#[test]
fn what_was_used_and_unmounted() {
    let matrix: &[(u64, &[&str])] = &[
        (64, &[]),
        (64, &["-b", "size=1024", "-m", "rmapbt=1"]),
        (64, &["-s", "size=4096", "-d", "agcount=1"]),
        (64, &["-m", "reflink=0,finobt=0,inobtcount=0"]),
        (320, &["-d", "size=300m,su=64k,sw=4"]),
    ];
    for (mib, options) in matrix {
        let what = format!("{options:?}");
        let volume = Volume::new(mib * MIB, options);
        let Some(mount) = Mount::new(&volume.path(), "nouuid") else { return };
        use_it(mount.path(), 1);
        for number in 0..10_usize {
            fs::write(mount.path().join(format!("secret{number}")), STALE.repeat(20_000)).unwrap();
        }
        run("sync", &["-f", mount.path().to_str().unwrap()]);
        for number in 0..10 {
            fs::remove_file(mount.path().join(format!("secret{number}"))).unwrap();
        }
        use_it(mount.path(), 2);
        let before = tree(mount.path());
        mount.unmount();
        volume.assert_exact(&what);
        let disk = volume.bytes();
        assert!(has_stale(&disk), "{what}: the test needs stale bytes to miss");
        for free in [FreePolicy::Keep, FreePolicy::Zero] {
            let (content, image) = restored(&disk, &volume.survey(), free);
            assert!(image < 24 << 20, "{what}: {image}");
            assert!(!has_stale(&content), "{what}");
            let copy = Volume::of(&content);
            copy.assert_sound(&what);
            let Some(mount) = Mount::new(&copy.path(), "nouuid") else { return };
            assert!(tree(mount.path()) == before, "{what}: the trees differ");
            mount.unmount();
        }
    }
}

#[test]
fn a_file_system_that_was_grown() {
    let volume = Volume::new(256 * MIB, &["-d", "size=100m"]);
    let Some(mount) = Mount::new(&volume.path(), "nouuid") else { return };
    use_it(mount.path(), 3);
    run("xfs_growfs", &["-D", "50000", mount.path().to_str().unwrap()]);
    use_it(mount.path(), 4);
    mount.unmount();
    let evidence = volume.assert_exact("grown");
    assert!(matches!(evidence, Evidence::XfsTrees { groups: 8, .. }), "{evidence:?}");
}

#[test]
fn more_than_16_tib() {
    // Not every file system holds a file as long as that; XFS does.
    let outer = Volume::new(3072 * MIB, &[]);
    let Some(mount) = Mount::new(&outer.path(), "nouuid") else { return };
    let file = mount.path().join("large");
    fs::File::create(&file).unwrap().set_len(24 << 40).unwrap();
    make_file_system(&file, &["-l", "size=256m"]);
    let survey = survey_file(&file);
    let Evidence::XfsTrees { groups, free, .. } = evidence(&survey, "large") else { panic!("another owner") };
    assert!(groups == 24 && free.get() > 23 << 40);
    assert_eq!(pairs(survey.allocated.iter()), allocated(&file));
    let len = fs::metadata(&file).unwrap().len();
    assert!(complement(&pairs(survey.allocated.iter()), len).len() < 100);
    mount.unmount();
}
