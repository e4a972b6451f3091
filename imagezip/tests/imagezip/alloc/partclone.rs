//! File systems that count only when partclone agrees: made by the tools of Debian, judged by their checkers.

mod hostile;
mod volume;

use std::fs;

use imagezip::alloc::{CrossCheck, Evidence, SurveyOptions, Treatment, survey};
use imagezip::restore::FreePolicy;

use super::tools::{pairs, reason};
use volume::{Fs, KINDS, START, Volume, answer};

/// Returns how much is called free, and what it was compared with.
fn proof(survey: &imagezip::alloc::Survey, what: &str) -> (u64, CrossCheck) {
    match &survey.partitions[0].treatment {
        Treatment::Proven { evidence: Evidence::Partclone { version, free, disputed, cross_check, .. } } => {
            assert_eq!(disputed.get(), 0, "{what}");
            assert!(version.starts_with("0."), "{what}: {version}");
            (free.get(), *cross_check)
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn what_was_used_and_unmounted_comes_back_and_the_rest_does_not() {
    come_and_go(&KINDS[..2]);
}

#[test]
fn small_and_large_clusters_make_no_difference() {
    come_and_go(&KINDS[2..]);
}

fn come_and_go(kinds: &[(Fs, u64, &[&str])]) {
    for (fs, mib, options) in kinds {
        let what = format!("{fs:?} {options:?}");
        let mut volume = Volume::new(*fs, *mib, options);
        let Some(before) = volume.use_it() else { return };
        assert!(before.len() > 40, "{what}");
        let Some(survey) = volume.survey() else { return };
        let (free, _) = proof(&survey, &what);
        assert!(free > (mib << 20) / 3, "{what}: {free} free");
        let alive = volume.assert_patterns_allocated(&survey, &what);
        assert!(alive > 1000, "{what}: {alive} blocks of files were found");
        for policy in if *mib == 64 { vec![FreePolicy::Keep, FreePolicy::Zero] } else { vec![FreePolicy::Keep] } {
            let restored = volume.restored(&survey, policy);
            restored.assert_sound(&what);
            let Some(after) = restored.tree() else { return };
            assert!(after == before, "{what}: the files differ");
        }
        // In a partition that is declared to be something else it may be a leftover.
        volume.set_type(0x8E);
        let Some(other) = volume.survey() else { return };
        assert!(reason(&other).contains("the partition table calls it"), "{what}: {}", reason(&other));
    }
}

#[test]
fn a_disk_without_a_table_and_a_fresh_file_system() {
    for (fs, mib, options) in &KINDS[..2] {
        let volume = Volume::new(*fs, *mib, options);
        let what = format!("{fs:?} {options:?}");
        let disk = volume.partition();
        let path = volume.folder().join("bare");
        fs::write(&path, &disk).unwrap();
        let Some(survey) = answer(&path) else { return };
        assert_eq!(survey.partitions[0].content, fs.content());
        let (free, _) = proof(&survey, &what);
        assert!(free > (mib << 20) / 2, "{what}: {free} free");
    }
}

#[test]
fn without_permission_or_program_it_is_whole() {
    for (fs, mib, options) in &KINDS[..2] {
        let volume = Volume::new(*fs, *mib, options);
        let disk = volume.bytes();
        let found = survey(&disk, SurveyOptions::default()).unwrap();
        assert_eq!(found.partitions[0].content, fs.content());
        assert!(reason(&found).contains("was not asked"), "{}", reason(&found));
        let empty = volume.folder().join("empty");
        fs::create_dir(&empty).unwrap();
        let found = volume.survey_with(vec![empty]);
        assert_eq!(reason(&found), format!("{} is not installed", fs.program()));
        assert_eq!(pairs(&found.allocated), [(0, u64::try_from(disk.len()).unwrap())]);
    }
}

#[test]
fn ntfs_that_is_not_clean_is_whole() {
    let mut volume = Volume::new(Fs::Ntfs, 64, &[]);
    let Some(_) = volume.use_it() else { return };
    let clean = volume.bytes();
    let doubt = |changes: &[(usize, &[u8])]| {
        let mut disk = clean.clone();
        changes.iter().for_each(|(at, bytes)| disk[START + at..START + at + bytes.len()].copy_from_slice(bytes));
        volume.doubt(&disk)
    };
    let table = usize::try_from(u64::from_le_bytes(clean[START + 48..START + 56].try_into().unwrap())).unwrap() * 4096;
    let record = |number: usize| table + number * 1024;
    // The flags of the volume: header, attributes; the state has the type 0x70.
    let find = |number: usize, kind: u8| {
        let mut at = record(number) + usize::from(clean[START + record(number) + 20]);
        while clean[START + at] != kind {
            at += usize::from(u16::from_le_bytes([clean[START + at + 4], clean[START + at + 5]]));
        }
        at
    };
    let state = find(3, 0x70) + 24;
    let end = (64 << 20) - 512;
    let says = |changes: &[(usize, &[u8])], text: &str| {
        let doubt = doubt(changes);
        if let Some(doubt) = doubt {
            assert!(doubt.contains(text), "{doubt}");
        }
    };
    says(&[(state + 10, &[1])], "marked as in use");
    says(&[(state + 8, &[2])], "version 2");
    says(&[(13, &[4])], "differ");
    says(&[(end + 13, &[4])], "differ");
    says(&[(end + 510, &[0])], "differ");
    says(&[(11, &[1])], "impossible field");
    says(&[(43, &[1])], "larger than its partition");
    says(&[(record(0), b"BAAD")], "record 0 of the file table is damaged");
    says(&[(record(7), b"BAAD")], "record 7 of the file table is damaged");
    says(&[(record(70) + 510, &[0xAA, 0xAA])], "record 70 of the file table was written in part");
    // A log that was emptied has ones; here is one with a client that did not leave, and one that did.
    let log = volume.first_cluster_of(2) * 4096;
    assert!(clean[START + log..][..4096].iter().all(|byte| *byte == 0xFF), "no log");
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(b"RSTR");
    page[16..20].copy_from_slice(&4096_u32.to_le_bytes());
    page[24] = 48;
    says(&[(log, &page)], "the log of the volume was not closed");
    says(&[(log, b"CHKD")], "the log of the volume does not start as a log does");
    page[48 + 14] = 2;
    let mut disk = clean.clone();
    disk[START + log..][..4096].copy_from_slice(&page);
    let path = volume.folder().join("closed");
    fs::write(&path, disk).unwrap();
    if let Some(survey) = answer(&path) {
        proof(&survey, "a closed log");
    }
}

#[test]
fn a_hibernated_windows_is_whole() {
    for (content, whole) in [(&b"hibr"[..], true), (b"HIBR", true), (b"\0\0\0\0", false), (b"wake", false)] {
        let mut volume = Volume::new(Fs::Ntfs, 64, &[]);
        let mut file = vec![0; 100_000];
        file[..4].copy_from_slice(content);
        let Some(()) = volume.with_mounted(|top| fs::write(top.join("hiberfil.sys"), &file).unwrap()) else { return };
        let Some(survey) = volume.survey() else { return };
        if whole {
            assert_eq!(reason(&survey), "Windows is hibernated on it");
        } else {
            proof(&survey, "awake");
        }
    }
}

#[test]
fn exfat_that_is_not_clean_is_whole() {
    let volume = Volume::new(Fs::Exfat, 64, &[]);
    let clean = volume.bytes();
    let says = |changes: &[(usize, &[u8])], text: &str| {
        let mut disk = clean.clone();
        changes.iter().for_each(|(at, bytes)| disk[START + at..START + at + bytes.len()].copy_from_slice(bytes));
        if let Some(doubt) = volume.doubt(&disk) {
            assert!(doubt.contains(text), "{doubt}");
        }
    };
    says(&[(106, &[2])], "in use or damaged (flags 0x2)");
    says(&[(106, &[4])], "in use or damaged (flags 0x4)");
    says(&[(100, &[clean[START + 100] ^ 1])], "does not have its checksum");
    says(&[(12 * 512 + 100, &[0])], "does not have its checksum");
    says(&[(110, &[2])], "number of tables");
    says(&[(72, &[255; 4])], "larger than its partition");
    let field = |at: usize| u32::from_le_bytes(clean[START + at..START + at + 4].try_into().unwrap());
    let at = |field: u32| usize::try_from(field).unwrap() * 512;
    let (table, heap) = (at(field(80)), at(field(88)));
    says(&[(table, &[0])], "table does not start");
    let cluster = 512 << clean[START + 109];
    let root = heap + (usize::try_from(field(96)).unwrap() - 2) * cluster;
    let entries = (0..20).map(|index| root + index * 32).collect::<Vec<_>>();
    let bitmap = *entries.iter().find(|at| clean[START + **at] == 0x81).unwrap();
    says(&[(bitmap, &[0x01])], "does not name one bitmap");
    says(&[(bitmap, &[0x99])], "has an unknown entry");
    says(&[(bitmap + 24, &[1])], "does not name one bitmap");
    says(&[(bitmap + 20, &[255; 4])], "leads where it cannot");
    let first = usize::try_from(u32::from_le_bytes(clean[START + bitmap + 20..][..4].try_into().unwrap())).unwrap();
    says(&[(heap + (first - 2) * cluster, &[0])], "the bitmap calls it free");
}
