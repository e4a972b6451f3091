//! Disks whose log has to be replayed: the kernel replays it on the original and on what was restored, and sees the
//! same; whatever it then has allocated is in our answer.

use std::fs;

use imagezip::alloc::{Evidence, XfsLog};
use imagezip::restore::FreePolicy;

use super::mounted::{STALE, restored, stale_pieces, use_it};
use super::volume::{MIB, Volume, allocated, evidence};
use crate::alloc::tools::{covers, pairs, run};
use crate::mounted::{Mount, tree};

const MATRIX: &[&[&str]] = &[&[], &["-b", "size=1024", "-m", "rmapbt=1"], &["-s", "size=4096", "-l", "su=32k"]];

pub(super) fn assert_comes_back(disk: &Vec<u8>, what: &str) {
    let original = Volume::of(disk);
    let survey = original.survey();
    let Evidence::XfsTrees { log: XfsLog::Replayed { transactions }, .. } = evidence(&survey, what) else {
        panic!("{what}: not dirty")
    };
    assert!(transactions > 0, "{what}");
    let Some(mount) = Mount::new(&original.path(), "nouuid") else { return };
    let before = tree(mount.path());
    assert!(before.len() > 20, "{what}");
    mount.unmount();
    let after = allocated(&original.path());
    assert!(covers(&pairs(survey.allocated.iter()), &after), "{what}: the kernel has something that we call free");
    for free in [FreePolicy::Keep, FreePolicy::Zero] {
        let (content, image) = restored(disk, &survey, free);
        assert!(image < disk.len() / 3, "{what}: {image}");
        let copy = Volume::of(&content);
        let Some(mount) = Mount::new(&copy.path(), "nouuid") else { return };
        assert!(tree(mount.path()) == before, "{what}: the trees differ");
        mount.unmount();
        copy.assert_sound(what);
        assert_eq!(allocated(&copy.path()), after, "{what}");
    }
}

#[test]
fn shut_down_by_force() {
    for options in MATRIX {
        let volume = Volume::new(64 * MIB, options);
        // With -f the log is written once more, without nothing is.
        for (round, command) in ["shutdown -f", "shutdown"].into_iter().enumerate() {
            let Some(mount) = Mount::new(&volume.path(), "nouuid") else { return };
            use_it(mount.path(), 5);
            run("sync", &["-f", mount.path().to_str().unwrap()]);
            use_it(mount.path(), 6 + u64::try_from(round).unwrap());
            run("xfs_io", &["-x", "-c", command, mount.path().to_str().unwrap()]);
            mount.unmount();
            assert_comes_back(&volume.bytes(), &format!("{options:?} {command}"));
        }
    }
}

#[test]
fn the_power_fails() {
    for options in MATRIX {
        let volume = Volume::new(64 * MIB, options);
        let Some(mount) = Mount::new(&volume.path(), "nouuid") else { return };
        let mut copies = Vec::new();
        for round in 0..3 {
            use_it(mount.path(), 20 + round);
            run("sync", &["-f", mount.path().to_str().unwrap()]);
            use_it(mount.path(), 30 + round);
            copies.push(volume.bytes());
        }
        mount.unmount();
        for (round, disk) in copies.iter().enumerate() {
            assert_comes_back(disk, &format!("{options:?} {round}"));
        }
    }
}

#[test]
fn what_was_deleted_long_before_does_not_come_along() {
    let volume = Volume::new(64 * MIB, &[]);
    let Some(mount) = Mount::new(&volume.path(), "nouuid") else { return };
    fs::write(mount.path().join("secret"), STALE.repeat(1_000_000)).unwrap();
    run("sync", &["-f", mount.path().to_str().unwrap()]);
    fs::remove_file(mount.path().join("secret")).unwrap();
    mount.unmount();
    let Some(mount) = Mount::new(&volume.path(), "nouuid") else { return };
    use_it(mount.path(), 8);
    run("xfs_io", &["-x", "-c", "shutdown -f", mount.path().to_str().unwrap()]);
    mount.unmount();
    let disk = volume.bytes();
    // What a crash left allocated but not written still holds what was there before; that much is the kernel's.
    let stale = stale_pieces(&disk);
    assert!(stale > 10_000, "the test needs stale bytes to miss");
    let left = stale_pieces(&restored(&disk, &volume.survey(), FreePolicy::Keep).0);
    assert!(left < stale / 2, "{left} of {stale}");
}
