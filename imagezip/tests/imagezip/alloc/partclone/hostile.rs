//! A partclone that lies, breaks off, hangs or talks without end, and volumes with damage beside one that lies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use imagezip::alloc::{Partclone, Survey, Treatment};
use sigs::ByteOffset;

use super::super::tools::{Pairs, covers, pairs, reason};
use super::volume::{Fs, START, Volume, answer, survey_by};
use crate::support::Noise;

/// Puts a script in the place of partclone, before all that is installed.
fn folders(volume: &Volume, script: &str) -> Vec<PathBuf> {
    let folder = volume.folder().join("fake");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join(volume.program());
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    [folder.as_path().into(), "/usr/sbin".into(), "/sbin".into(), "/usr/bin".into(), "/bin".into()].to_vec()
}

/// A map that calls nothing in use.
fn all_free(end: u64) -> String {
    format!("# a lie v9\n0x{end:08X}     ?\n0x00000000  0x{end:08X}  ?\n")
}

fn fake(volume: &Volume, script: &str) -> Survey {
    volume.survey_with(folders(volume, script))
}

/// Has a script print a text.
fn printing(volume: &Volume, text: &str) -> String {
    let file = volume.folder().join("text");
    fs::write(&file, text).unwrap();
    format!("cat {}", file.display())
}

#[test]
fn a_lying_program_frees_nothing_that_the_file_system_has() {
    for fs in [Fs::Ntfs, Fs::Exfat] {
        let mut volume = Volume::new(fs, 64, &[]);
        let Some(_) = volume.use_it() else { return };
        let Some(honest) = volume.survey() else { return };
        let end = volume.clusters_end();
        let lied = fake(&volume, &printing(&volume, &all_free(end)));
        assert_eq!(pairs(&lied.allocated), pairs(&honest.allocated), "{fs:?}");
        assert!(matches!(lied.partitions[0].treatment, Treatment::Proven { .. }));
        // What only partclone has counts, too.
        let all_used = all_free(end).replace("  ?", "  +");
        let cautious = fake(&volume, &printing(&volume, &all_used));
        assert_eq!(cautious.partitions[0].allocated, cautious.partitions[0].range.len);
    }
}

#[test]
fn a_program_that_makes_no_sense_is_not_believed() {
    let volume = Volume::new(Fs::Exfat, 64, &[]);
    let Some(_) = volume.survey() else { return };
    let end = volume.clusters_end();
    let good = all_free(end);
    let says = |script: &str, text: &str| {
        let survey = fake(&volume, script);
        assert!(reason(&survey).contains(text), "{script}: {}", reason(&survey));
    };
    let map = |text: &str| printing(&volume, text);
    says(&format!("{}; exit 1", map(&good)), "does not vouch for it: exit status: 1");
    says(&format!("{}; kill -9 $$", map(&good)), "does not vouch for it: signal: 9");
    says("exit 0", "breaks off behind line 0");
    says("kill -9 $$", "does not vouch for it: signal: 9");
    says(&map(&all_free(end - 512)), "ends at byte");
    says(&map(&all_free(end + 512)), "ends at byte");
    says(&map(&format!("{good}0x00000000  0x00001000  ?\n")), "makes no sense in line 4");
    says(&map(good.trim_end()), "makes no sense in line 3");
    says("exec yes", "does not vouch for it");
    says("exec yes 'x'", "does not vouch for it");
    says("exec cat /dev/zero", "does not vouch for it");
    // It has nothing of our environment, and nothing to read.
    says("test -z \"$HOME$CARGO_MANIFEST_DIR\" && ! read line && exit 42", "exit status: 42");
    says("test \"$1 $2 $3 $4 $5 $6 $7\" = '--domain --quiet --logfile /dev/null --output - --source' && exit 43", "43");
    // It cannot write to what it is given.
    says("echo x 2>/dev/null >$8 && exit 44; exit 45", "exit status: 45");
}

#[test]
fn a_program_that_hangs_is_killed() {
    let volume = Volume::new(Fs::Exfat, 64, &[]);
    let Some(_) = volume.survey() else { return };
    let cancel = AtomicBool::new(false);
    let alive = volume.folder().join("alive");
    let hang = format!("echo $$ >{}; sleep 1000; sleep 1000", alive.display());
    let holds_pipe = "sleep 3 & exit 0";
    for (script, patience, text) in [(hang.as_str(), 200, "still busy"), (holds_pipe, 200, "still busy")] {
        let installed = Partclone::installed(&volume.path(), ByteOffset::ZERO, &cancel);
        let folders = folders(&volume, script);
        let asked = Partclone { folders, patience: Duration::from_millis(patience), ..installed };
        let started = Instant::now();
        let survey = survey_by(&volume.path(), &asked);
        assert!(reason(&survey).contains(text), "{}", reason(&survey));
        assert!(started.elapsed() < Duration::from_secs(2), "{script}");
    }
    let process = fs::read_to_string(&alive).unwrap();
    assert!(!PathBuf::from(format!("/proc/{}", process.trim())).exists(), "it still runs");

    // An impatient caller does not wait.
    let installed = Partclone::installed(&volume.path(), ByteOffset::ZERO, &cancel);
    fs::remove_file(&alive).unwrap();
    let asked = Partclone { folders: folders(&volume, &hang), ..installed };
    let survey = thread::scope(|scope| {
        scope.spawn(|| {
            while !alive.exists() {
                thread::yield_now();
            }
            cancel.store(true, Ordering::Relaxed);
        });
        survey_by(&volume.path(), &asked)
    });
    assert_eq!(reason(&survey), "the survey was interrupted");
}

/// Whatever byte of the metadata is changed: with a partclone that calls all free, nothing of a file is lost.
#[test]
fn damage_and_a_lie_together_lose_nothing() {
    for (fs, rounds) in [(Fs::Ntfs, 80), (Fs::Exfat, 80)] {
        let mut volume = Volume::new(fs, 64, &[]);
        let Some(_) = volume.use_it() else { return };
        let Some(honest) = volume.survey() else { return };
        let truth = pairs(&honest.allocated);
        let clean = volume.bytes();
        let folders = folders(&volume, &printing(&volume, &all_free(volume.clusters_end())));
        let cancel = AtomicBool::new(false);
        let path = volume.folder().join("damaged");
        fs::write(&path, &clean).unwrap();
        let installed = Partclone::installed(&path, ByteOffset::ZERO, &cancel);
        let asked = Partclone { folders, ..installed };
        let places = volume.metadata(&clean);
        let mut noise = Noise(0xDA_0A6E);
        let (mut whole, mut same) = (0, 0);
        for _ in 0..rounds {
            let at = places[usize::try_from(noise.next()).unwrap() % places.len()];
            let bit = 1 << (noise.next() % 8);
            write_at(&path, at, clean[at] ^ bit);
            let found: Pairs = pairs(&survey_by(&path, &asked).allocated);
            write_at(&path, at, clean[at]);
            assert!(covers(&found, &truth), "{fs:?}: bit {bit:#x} of byte {at} loses something");
            if found.len() == 1 { whole += 1 } else { same += 1 }
        }
        assert!(whole > 5 && same > 5, "{fs:?}: {whole} whole, {same} believed");
        assert!(answer(&path).is_some_and(|survey| pairs(&survey.allocated) == truth));
    }
}

fn write_at(path: &std::path::Path, at: usize, byte: u8) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[byte], u64::try_from(at).unwrap()).unwrap();
}

impl Volume {
    fn program(&self) -> &'static str {
        self.kind().program()
    }

    /// Where the clusters end, in bytes from the start of the partition.
    fn clusters_end(&self) -> u64 {
        let len = u64::try_from(self.partition().len()).unwrap();
        match self.kind() {
            Fs::Ntfs => len - 4096,
            Fs::Exfat => len,
        }
    }

    /// Bytes that say what is allocated: boot sectors, the bitmap, records in use, entries of directories.
    fn metadata(&self, disk: &[u8]) -> Vec<usize> {
        let number = |at: usize, len: usize| {
            disk[START + at..][..len].iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
        };
        let boot = START + 3..START + 120;
        match self.kind() {
            Fs::Ntfs => {
                let table = START + number(48, 8) * 4096;
                let records = (0..130).map(|record| table + record * 1024);
                let bitmap = START + self.first_cluster_of(6) * 4096;
                boot.chain(records.flat_map(|record| record..record + 420))
                    .chain((bitmap..bitmap + 2048).filter(|at| disk[*at] != 0).cycle().take(10_000))
                    .collect()
            }
            Fs::Exfat => {
                let (table, heap, cluster) = (START + number(80, 4) * 512, START + number(88, 4) * 512, 4096);
                let root = heap + (number(96, 4) - 2) * cluster;
                boot.chain(table..table + 400).chain(heap..heap + 300).chain(root..root + 700).collect()
            }
        }
    }
}
