//! Everything that was committed for the fuzz targets, through the same functions, so that it does not rot.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::fs;
use std::path::PathBuf;

use fuzz_harness::TARGETS;
use fuzz_harness::disk::{bases, wants_opinion};
use fuzz_harness::image::Disk;
use fuzz_harness::input::Changes;
use imagezip::alloc::{Evidence, TableKind, Treatment};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Returns the seeds of a target by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder("seeds").join(target)).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        files.map(|path| (path.file_name().unwrap().display().to_string(), fs::read(path).unwrap())).collect();
    found.sort();
    found
}

#[test]
fn every_seed_does_what_its_name_says() {
    let mut wrong = Vec::new();
    for (target, run) in TARGETS {
        let seeds = seeds(target);
        assert!(seeds.iter().any(|(name, _)| name.starts_with("good")), "{target} has no good seed");
        for (name, bytes) in seeds {
            if run(&bytes) != name.starts_with("good") {
                wrong.push(format!("{target}/{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_target_of_libfuzzer_is_here_and_the_other_way_round() {
    let files = fs::read_dir(folder("fuzz_targets")).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().file_name().display().to_string()).collect();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
    for (name, _) in TARGETS {
        let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("fuzz_targets/{name}.rs")), "{name}");
    }
}

#[test]
fn the_disks_are_believed_as_they_are() {
    for (_, _, base) in bases() {
        let (_, survey) = base.state();
        let table = matches!(survey.table, TableKind::Gpt | TableKind::Mbr);
        let proven = survey.partitions.iter().all(|found| matches!(found.treatment, Treatment::Proven { .. }));
        let proven = proven || wants_opinion(survey);
        assert!(table || proven, "{}: {survey:?}", base.name);
    }
}

#[test]
fn the_disk_with_fast_commits_has_some() {
    let (_, _, base) = bases().find(|(_, _, base)| base.name == "ext4-fast-commit").unwrap();
    let (_, survey) = base.state();
    let Treatment::Proven { evidence: Evidence::ExtBitmaps { journal: Some(log), .. } } =
        &survey.partitions[0].treatment
    else {
        panic!("{survey:?}")
    };
    assert!(log.fast_commits > 0, "{log:?}");
}

/// Sealing a disk that is sound changes nothing: what seals is right about where checksums are.
#[test]
fn seals_are_those_of_the_format() {
    for (_, _, base) in bases() {
        let (image, _) = base.state();
        let mut disk = Disk::new(image);
        fuzz_harness::seal::seal(&mut disk, &image.places);
        for place in &image.places {
            let (is, was) = (disk.read(place * 4096, 4096), Disk::new(image).read(place * 4096, 4096));
            let differs = is.iter().zip(&was).position(|(is, was)| is != was);
            assert_eq!(differs, None, "{}: block {place}", base.name);
        }
    }
}

/// A change of what a checksum covers is refused without a seal, and read with one.
#[test]
fn a_seal_lets_a_change_in() {
    let (_, number, base) = bases().find(|(_, _, base)| base.name == "xfs").unwrap();
    let (image, _) = base.state();
    // The name of the file system.
    let number = u8::try_from(number).unwrap();
    let change: &[(u64, &[u8])] = &[(108, b"other")];
    assert!(!fuzz_harness::disk::xfs(&Changes::encode(number, image, true, 0, change)));
    assert!(fuzz_harness::disk::xfs(&Changes::encode(number, image, false, 0, change)));
}
