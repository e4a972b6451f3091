//! btrfs: against what `btrfs inspect-internal` says, against `btrfs check` and `scrub`, and against the kernel.

mod hostile;
mod mounted;
mod volume;

use imagezip::alloc::{Content, Evidence, Treatment};
use volume::{Volume, files};

use super::tools::{pairs, reason};
use imagezip::alloc::btrfs::BtrfsChecksum;

#[test]
fn what_mkfs_makes() {
    let matrix: &[(u64, &[&str], BtrfsChecksum)] = &[
        (144, &[], BtrfsChecksum::Crc32c),
        (144, &["--csum", "xxhash"], BtrfsChecksum::Xxhash64),
        (144, &["--csum", "sha256", "-m", "single"], BtrfsChecksum::Sha256),
        (144, &["--csum", "blake2", "-n", "4096"], BtrfsChecksum::Blake2b),
        (144, &["-n", "32768", "-d", "dup"], BtrfsChecksum::Crc32c),
        (144, &["-n", "65536", "-R", "^free-space-tree"], BtrfsChecksum::Crc32c),
        (144, &["-O", "^skinny-metadata,^no-holes,^extref"], BtrfsChecksum::Crc32c),
        (144, &["-R", "quota"], BtrfsChecksum::Crc32c),
        (40, &["--mixed", "-n", "4096"], BtrfsChecksum::Crc32c),
    ];
    for (mib, options, checksum) in matrix {
        let sources = files(40);
        let mut all = vec!["-r", sources.path().to_str().unwrap()];
        all.extend(*options);
        let volume = Volume::new(*mib, &all);
        let survey = volume.assert_exact(&format!("{options:?}"));
        assert_eq!(survey.partitions[0].content, Content::Btrfs);
        match &survey.partitions[0].treatment {
            Treatment::Proven { evidence: Evidence::BtrfsExtents { checksums, log: false, .. } } => {
                assert_eq!(checksums, checksum, "{options:?}");
            }
            other => panic!("{options:?}: {other:?}"),
        }
    }
}

#[test]
fn what_is_behind_the_file_system_is_data() {
    let volume = Volume::new(144, &["-b", &(130_u64 << 20).to_string()]);
    let survey = volume.assert_exact("smaller than its partition");
    assert_eq!(pairs(&survey.allocated).last(), Some(&(130 << 20, 144 << 20)));
}

#[test]
fn what_is_not_handled_is_named() {
    let volume = Volume::new(144, &["-m", "raid0", "-d", "single"]);
    assert!(reason(&volume.survey()).contains("has the type 0x"), "{}", reason(&volume.survey()));
    let other = Volume::new(144, &[]);
    let both = Volume::new(144, &["-m", "raid1", "-d", "single", &other.text()]);
    assert_eq!(reason(&both.survey()), "the file system has 2 devices");
    assert_eq!(reason(&other.survey()), "the file system has 2 devices");
    both.shorten(100 << 20);
    assert_eq!(reason(&both.survey()), "the file system has 2 devices");
    let cut = Volume::new(144, &[]);
    cut.shorten(143 << 20);
    assert_eq!(reason(&cut.survey()), "the file system is larger than its partition");
}
