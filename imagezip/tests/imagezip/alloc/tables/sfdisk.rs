//! Tables that `sfdisk` makes and changes, each captured, restored into garbage and compared byte by byte.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use imagezip::alloc::{Content, TableKind, Treatment};

use super::super::tools::{run, survey_of};
use super::{MIB, partx, places, sample};
use crate::support::round_trip;

/// A disk of 30 MiB and the tables on it.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Runs a script on an empty disk.
    fn new(script: &str) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(disk.path(), vec![0; 30 * MIB]).unwrap();
        disk.sfdisk(&[], script);
        disk
    }

    fn path(&self) -> String {
        self.folder.path().join("disk").display().to_string()
    }

    fn sfdisk(&self, arguments: &[&str], script: &str) {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sfdisk");
        command.args(["-q", "--no-reread", "--no-tell-kernel", "-w", "never"]).args(arguments).arg(self.path());
        let mut child = command.env("PATH", path).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{arguments:?} {script}");
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// Puts content in it, outside the tables.
    fn put(&self, at: usize, bytes: &[u8]) {
        let mut disk = self.bytes();
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(self.path(), disk).unwrap();
    }

    /// Compares what we see with what `partx` sees, but for extended partitions, and takes the disk there and back.
    fn check(&self, sector: u64, extended: Option<u32>) -> imagezip::alloc::Survey {
        let disk = self.bytes();
        let survey = survey_of(&disk);
        let mut truth: Vec<_> = partx(&disk, sector).into_iter().filter(|(at, ..)| Some(*at) != extended).collect();
        truth.sort_by_key(|(_, start, _)| *start);
        assert_eq!(places(&survey), truth);
        round_trip(&disk, &[]);
        survey
    }
}

#[test]
fn extended_partitions_of_every_type_and_in_any_order() {
    let ext = sample().ext;
    for kind in ["5", "f", "85"] {
        let script = format!(
            "label: dos\n1: start=2048,size=59392,type={kind}\n5: start=49152,size=8192,type=82\n6: start=4096,size=40960,type=83\n"
        );
        let disk = Disk::new(&script);
        disk.put(2 * MIB, &ext);
        let survey = disk.check(512, Some(1));
        assert_eq!(survey.table, TableKind::Mbr);
        let sizes: Vec<_> = survey.partitions.iter().map(|partition| partition.range.len.get() >> 20).collect();
        assert_eq!(sizes, [20, 4]);
        assert!(survey.partitions[0].allocated < survey.partitions[0].range.len);
        // What is left of the first is a table with nothing but a link, or the second one in its place.
        disk.sfdisk(&["--delete"], "");
    }
}

#[test]
fn logical_partitions_that_were_deleted_leave_gaps_that_are_data() {
    let script = "label: dos\n1: start=2048,size=59392,type=5\n5: start=4096,size=8192,type=83\n6: start=14336,size=8192,type=83\n7: start=24576,size=8192,type=83\n";
    for gone in ["5", "6", "7"] {
        let disk = Disk::new(script);
        let path = disk.path();
        run("sfdisk", &["-q", "--no-reread", "--no-tell-kernel", "--delete", &path, gone]);
        // The place of the one that went away.
        disk.put(4096 * 512 + 100, b"left behind");
        disk.put(14336 * 512 + 100, b"left behind");
        let survey = disk.check(512, Some(1));
        assert_eq!(survey.partitions.len(), 2);
    }
}

#[test]
fn partitions_from_odd_sectors_share_blocks() {
    let ext = sample().ext;
    let script = "label: dos\n1: start=63,size=42000,type=83\n2: start=42063,size=13,type=83\n3: start=42077,size=10001,type=82\n";
    let disk = Disk::new(script);
    disk.put(63 * 512, &ext);
    let mut swap = vec![0x77; 10000 * 512];
    swap[1024..1036].copy_from_slice(&[1, 0, 0, 0, 0xE1, 0x04, 0, 0, 0, 0, 0, 0]);
    swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
    disk.put(42077 * 512, &swap);
    let survey = disk.check(512, None);
    let proven = |index: usize| matches!(survey.partitions[index].treatment, Treatment::Proven { .. });
    assert!(proven(0) && !proven(1) && proven(2), "{:?}", survey.partitions);
    assert_eq!(survey.partitions[2].content, Content::Swap);
}

#[test]
fn many_entries_of_gpt() {
    let ext = sample().ext;
    let disk =
        Disk::new("label: gpt\ntable-length: 256\n200: start=4096,size=45056,type=L\n7: start=51200,size=2048\n");
    disk.put(2 * MIB, &ext);
    let survey = disk.check(512, None);
    assert_eq!(survey.partitions[0].number, 200);
    assert!(matches!(survey.partitions[0].treatment, Treatment::Proven { .. }));
}
