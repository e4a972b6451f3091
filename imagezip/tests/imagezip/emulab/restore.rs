//! Restoring.

use std::fs;

use super::disks::{MIB, ext4, folder, noise, restored, save};
use crate::command::{fails, ok};

#[test]
fn stale_data_of_the_target_goes() {
    let folder = folder("a.img", &ext4(16, &[]));
    let at = folder.path();
    save(at, "a");
    let secret = b"of the previous user".repeat(16 * MIB / 20 + 1);
    fs::write(at.join("target.img"), &secret[..16 * MIB]).unwrap();
    ok(at, &["restore", "a.zdi", "--to", "target.img"]);
    let now = fs::read(at.join("target.img")).unwrap();
    assert!(!now.windows(20).any(|window| window == b"of the previous user"));
}

#[test]
fn a_target_that_is_too_small_is_untouched() {
    let folder = folder("a.img", &noise(2 * MIB, 1));
    let at = folder.path();
    save(at, "a");
    fs::write(at.join("target.img"), vec![5; 2 * MIB - 512]).unwrap();
    let message = fails(at, &["restore", "a.zdi", "--to", "target.img"], 1);
    assert!(message.contains("untouched"), "{message}");
    assert_eq!(fs::read(at.join("target.img")).unwrap(), vec![5; 2 * MIB - 512]);
}

#[test]
fn a_delta_does_not_trust_what_the_target_holds() {
    let mut disk = noise(2 * MIB, 2);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    disk[MIB] ^= 1;
    fs::write(at.join("b.img"), &disk).unwrap();
    ok(at, &["create", "b.img", "--out", "b.zdi", "--base", "a.sig"]);
    // What should be the base is something else.
    fs::write(at.join("target.img"), noise(2 * MIB, 99)).unwrap();
    ok(at, &["restore", "a.zdi", "b.zdi", "--to", "target.img", "--in-place"]);
    assert!(fs::read(at.join("target.img")).unwrap() == disk);
}

#[test]
fn a_delta_is_refused_without_its_base() {
    let mut disk = noise(MIB, 3);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    for (name, base) in [("b", "a"), ("c", "b")] {
        disk[MIB / 2] ^= 1;
        fs::write(at.join(format!("{name}.img")), &disk).unwrap();
        let [image, out, sig, base] =
            [format!("{name}.img"), format!("{name}.zdi"), format!("{name}.sig"), format!("{base}.sig")];
        disk[MIB / 3] ^= 1;
        fs::write(at.join(&image), &disk).unwrap();
        ok(at, &["create", &image, "--out", &out, "--base", &base, "--sig-out", &sig]);
    }
    fs::write(at.join("other.img"), noise(MIB, 4)).unwrap();
    save(at, "other");
    for images in
        [&["b.zdi"][..], &["other.zdi", "b.zdi"], &["b.zdi", "a.zdi"], &["a.zdi", "c.zdi"], &["b.zdi", "c.zdi"]]
    {
        fails(at, &[&["restore"], images, &["--to", "new.img"]].concat(), 7);
    }
    assert!(restored(at, &["a.zdi", "b.zdi", "c.zdi"]) == disk);
}

#[test]
fn two_hundred_and_fifty_six_differences_are_not_success() {
    let mut disk = noise(2 * MIB, 5);
    let folder = folder("a.img", &disk);
    let at = folder.path();
    save(at, "a");
    for block in 0..256 {
        disk[block * 4096] ^= 1;
    }
    fs::write(at.join("b.img"), &disk).unwrap();
    fails(at, &["verify", "a.zdi", "--against", "b.img"], 7);
}

#[test]
fn what_was_restored_verifies() {
    let folder = folder("a.img", &ext4(16, &[]));
    let at = folder.path();
    let made = save(at, "a");
    ok(at, &["restore", "a.zdi", "--to", "b.img"]);
    assert_eq!(ok(at, &["verify", "a.zdi", "--against", "b.img"])["ok"], true);
    assert_eq!(ok(at, &["hash", "b.img", "--out", "b.sig"])["root"], made["root"]);
    assert_eq!(fs::read(at.join("a.sig")).unwrap(), fs::read(at.join("b.sig")).unwrap());
}
