//! FAT as Debian makes it, looked at by `mtools` and by `fsck.fat`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use imagezip::alloc::fat::FatKind;
use imagezip::alloc::{Content, Evidence, Survey, Treatment};
use sigs::source::FileSource;

use super::tools::{Pairs, complement, pairs, reason, run, run_any, survey_file, survey_of};
use crate::mounted::tree;

struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    fn new(kib: u64, options: &[&str]) -> Self {
        let volume = Self { folder: tempfile::tempdir().unwrap() };
        fs::File::create(volume.path()).unwrap().set_len(kib << 10).unwrap();
        let path = volume.text();
        run("mkfs.fat", &[options, &[&path]].concat());
        volume
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn text(&self) -> String {
        self.path().display().to_string()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn survey(&self) -> Survey {
        survey_file(&self.path())
    }

    /// Overwrites all that is called free.
    fn spoil(&self, survey: &Survey) {
        let len = fs::metadata(self.path()).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(self.path()).unwrap();
        for (start, end) in complement(&pairs(&survey.allocated), len) {
            file.write_all_at(&vec![0xA5; usize::try_from(end - start).unwrap()], start).unwrap();
        }
    }

    fn check(&self) -> String {
        let (status, text) = run_any("fsck.fat", &["-n", &self.text()]);
        assert_eq!(status, 0, "{text}");
        text
    }
}

/// The sizes and options of volumes, with their kind and the size of a cluster.
const KINDS: [(u64, &[&str], FatKind, u64); 4] = [
    (1440, &[], FatKind::Fat12, 512),
    (8 << 10, &["-F", "12", "-s", "8"], FatKind::Fat12, 4096),
    (64 << 10, &["-F", "16"], FatKind::Fat16, 2048),
    (300 << 10, &["-F", "32"], FatKind::Fat32, 4096),
];

/// Writes and deletes by mtools, which needs no kernel.
fn use_it(volume: &Volume) {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..40_usize {
        fs::write(folder.path().join(format!("a long file name {number}")), vec![b'x'; number * 700]).unwrap();
    }
    let image = volume.text();
    run("mmd", &["-i", &image, "::/folder"]);
    let mut copy = vec!["-i".to_owned(), image.clone()];
    copy.extend((0..40).map(|number| folder.path().join(format!("a long file name {number}")).display().to_string()));
    copy.push("::/folder".to_owned());
    run("mcopy", &copy.iter().map(String::as_str).collect::<Vec<_>>());
    let mut delete = vec!["-i".to_owned(), image.clone()];
    delete.extend((0..40).step_by(3).map(|number| format!("::/folder/a long file name {number}")));
    run("mdel", &delete.iter().map(String::as_str).collect::<Vec<_>>());
    let later = folder.path().join("later");
    fs::write(&later, vec![b'y'; 100_000]).unwrap();
    run("mcopy", &["-i", &image, later.to_str().unwrap(), "::/"]);
}

/// Returns what the files hold.
fn content(volume: &Volume) -> BTreeMap<PathBuf, Vec<u8>> {
    let target = tempfile::tempdir().unwrap();
    run("mcopy", &["-s", "-i", &volume.text(), "::/folder", "::/later", target.path().to_str().unwrap()]);
    let files = tree(target.path()).into_iter().map(|(name, (.., content))| (name, content));
    files.collect()
}

fn evidence(survey: &Survey) -> (FatKind, u64) {
    match &survey.partitions[0].treatment {
        Treatment::Proven { evidence: Evidence::FatTables { kind, cluster_size, .. } } => (*kind, cluster_size.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn free_clusters_are_those_the_checker_counts_and_can_be_overwritten() {
    for (kib, options, kind, cluster) in KINDS {
        let volume = Volume::new(kib, options);
        use_it(&volume);
        let before = content(&volume);
        assert!(before.len() > 25);
        let survey = volume.survey();
        assert_eq!(survey.partitions[0].content, Content::Fat);
        assert_eq!(evidence(&survey), (kind, cluster), "{options:?}");
        // "disk: 29 files, 400/32695 clusters"
        let text = volume.check();
        let counts = text.lines().find_map(|line| line.strip_suffix(" clusters")).unwrap();
        let (used, all) = counts.rsplit_once(' ').unwrap().1.split_once('/').unwrap();
        let free = all.parse::<u64>().unwrap() - used.parse::<u64>().unwrap();
        assert_eq!((kib << 10) - survey.partitions[0].allocated.get(), free * cluster, "{options:?}");
        volume.spoil(&survey);
        volume.check();
        assert!(content(&volume) == before, "{options:?}");
    }
}

#[test]
fn a_volume_in_use_is_whole() {
    for (kib, options, kind, _) in KINDS {
        let volume = Volume::new(kib, options);
        let state = if kind == FatKind::Fat32 { 65 } else { 37 };
        assert_eq!(doubt(&volume, &[(state, &[1])]), "the volume is marked as in use or damaged", "{options:?}");
        evidence(&volume.survey());
    }
}

#[test]
fn a_fat_in_an_efi_partition_is_read_and_others_are_not() {
    for (kind, believed) in [("U", true), ("L", true), ("21686148-6449-6E6F-744E-656564454649", false)] {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::File::create(&disk).unwrap().set_len(80 << 20).unwrap();
        let script = folder.path().join("script");
        fs::write(&script, format!("label: gpt\nstart=2048, size=131072, type={kind}\n")).unwrap();
        run("sh", &["-c", &format!("sfdisk -q {} < {}", disk.display(), script.display())]);
        let volume = Volume::new(64 << 10, &[]);
        fs::OpenOptions::new().write(true).open(&disk).unwrap().write_all_at(&volume.bytes(), 1 << 20).unwrap();
        let survey = survey_of(&FileSource::open(&disk).unwrap());
        assert_eq!(survey.partitions[0].content, Content::Fat);
        let proven = matches!(&survey.partitions[0].treatment, Treatment::Proven { .. });
        assert_eq!(proven, believed, "{kind}: {survey:?}");
    }
}

/// Changes bytes and returns why the volume is whole then.
fn doubt(volume: &Volume, changes: &[(usize, &[u8])]) -> String {
    let mut disk = volume.bytes();
    for (at, bytes) in changes {
        disk[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    reason(&survey_of(&disk)).to_owned()
}

#[test]
fn what_does_not_agree_is_whole() {
    // So few clusters that Windows and mtools would not call it FAT32; Linux and firmware do.
    let volume = Volume::new(30 << 10, &["-F", "32", "-s", "1"]);
    assert_eq!(evidence(&volume.survey()), (FatKind::Fat32, 512));
    let disk = volume.bytes();
    let (first, len) = (32 * 512, usize::from(u16::from_le_bytes([disk[36], disk[37]])) * 512);
    let entry = |cluster: usize| first + cluster * 4;
    let both = |cluster: usize, value: &'static [u8; 4]| {
        let value: &[u8] = value;
        doubt(&volume, &[(entry(cluster), value), (entry(cluster) + len, value)])
    };
    assert!(doubt(&volume, &[(entry(50_000), &[9])]).starts_with("the two tables differ"));
    assert_eq!(both(10, &[11, 0, 0, 0]), "the chain through cluster 11 leads where it cannot");
    assert_eq!(both(10, &[2, 0, 0, 0]), "the chain through cluster 10 leads where it cannot");
    assert_eq!(both(10, &[1, 0, 0, 0]), "the chain through cluster 10 leads where it cannot");
    assert_eq!(both(10, &[0, 0, 0, 1]), "the chain through cluster 10 leads where it cannot");
    assert!(both(10, &[255, 255, 255, 15]).contains("clusters are free, the volume says"));
    assert_eq!(both(2, &[0, 0, 0, 0]), "the chain through cluster 2 leads where it cannot");
    assert_eq!(both(0, &[0, 0, 0, 0]), "the table does not start as a table must");
    assert_eq!(both(1, &[255, 255, 255, 7]), "the volume is marked as in use or damaged");
    assert_eq!(doubt(&volume, &[(65, &[1])]), "the volume is marked as in use or damaged");
    assert_eq!(doubt(&volume, &[(13, &[2])]), "the boot sector and its copy differ");
    assert_eq!(doubt(&volume, &[(16, &[1])]), "the volume has 1 tables, or only one that is in use");
    assert_eq!(doubt(&volume, &[(40, &[0x80])]), "the volume has 2 tables, or only one that is in use");
    assert_eq!(doubt(&volume, &[(19, &[255; 2])]), "the file system is larger than its partition");
    for at in [11, 13, 14, 17, 21, 22, 42, 510] {
        let text = doubt(&volume, &[(at, &[0x73])]);
        assert!(text.contains("impossible") || text.contains("differ"), "{at}: {text}");
    }
    let small = Volume::new(8 << 10, &["-F", "12"]);
    assert!(doubt(&small, &[(54, b"FAT16   ")]).starts_with("the boot sector says FAT16, but"));
}

/// No byte of a table makes less allocated than there is.
#[test]
fn one_damaged_byte_never_loses_anything() {
    let volume = Volume::new(1440, &[]);
    use_it(&volume);
    let truth = pairs(&volume.survey().allocated);
    let mut disk = volume.bytes();
    let whole: Pairs = vec![(0, 1440 << 10)];
    assert_ne!(truth, whole);
    let tables = 512 + 2 * 9 * 512;
    let (mut same, mut all) = (0, 0);
    for at in 512..tables {
        for flip in [1, 0x80, 0xFF] {
            disk[at] ^= flip;
            let found = pairs(&survey_of(&disk).allocated);
            disk[at] ^= flip;
            if found == truth {
                same += 1;
            } else {
                assert_eq!(found, whole, "byte {at} with {flip:#x}");
                all += 1;
            }
        }
    }
    // The ends of tables stand for nothing.
    assert!(all > 10_000 && same > 1000, "{all} {same}");
}
