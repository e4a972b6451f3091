//! Logs that were damaged, or that went round: the kernel shows the same whether or not what we call free is still there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use imagezip::alloc::Treatment;

use super::crashed::assert_comes_back;
use super::log::{Log, Record};
use super::mounted::use_it;
use super::volume::{MIB, Volume};
use crate::alloc::tools::{complement, pairs, run, survey_of};
use crate::mounted::Mount;
use crate::support::Noise;

/// Makes a disk whose log has to be replayed.
fn dirty(options: &[&str]) -> Option<Vec<u8>> {
    let volume = Volume::new(40 * MIB, options);
    let mount = Mount::new(&volume.path(), "nouuid")?;
    use_it(mount.path(), 50);
    run("sync", &["-f", mount.path().to_str().unwrap()]);
    use_it(mount.path(), 51);
    for round in 0..16 {
        // A record each, some of which may be in flight at the end.
        synced(mount.path(), &format!("synced{round}"));
    }
    let disk = volume.bytes();
    mount.unmount();
    Some(disk)
}

/// Makes a file, and has the log written.
fn synced(root: &Path, name: &str) {
    let mut file = fs::File::create(root.join(name)).unwrap();
    file.write_all(name.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

/// What can be seen of a file system that may be damaged.
type Seen = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

fn seen(root: &Path) -> Seen {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut look = |path: &Path, what: Result<Vec<u8>, std::io::Error>| {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what.map_err(|error| error.to_string()));
        };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                look(&folder, Err(error));
                continue;
            }
        };
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    look(&folder, Err(error));
                    break;
                }
            };
            match fs::symlink_metadata(&path) {
                Err(error) => look(&path, Err(error)),
                Ok(about) if about.is_dir() => {
                    look(&path, Ok(Vec::new()));
                    folders.push(path);
                }
                Ok(about) if about.is_symlink() => {
                    look(&path, fs::read_link(&path).map(|target| target.into_os_string().into_encoded_bytes()));
                }
                Ok(about) if about.is_file() => look(&path, fs::read(&path)),
                Ok(_) => look(&path, Ok(Vec::new())),
            }
        }
    }
    found
}

/// Returns what the kernel shows of a disk, if it mounts it.
fn shown(disk: &[u8]) -> Option<Seen> {
    let volume = Volume::of(disk);
    let mount = Mount::attempt("xfs", &volume.path(), "nouuid").ok()?;
    let found = seen(mount.path());
    mount.unmount();
    Some(found)
}

/// How damaged disks were answered: as a whole, or believed and mounted or refused by the kernel.
#[derive(Debug, Default)]
struct Count {
    whole: u32,
    mounted: u32,
    refused: Vec<String>,
}

impl Count {
    /// Judges the answer for a disk, unless it is that everything is allocated.
    fn judge(&mut self, disk: &Vec<u8>, what: &str) {
        let survey = survey_of(disk);
        if matches!(survey.partitions[0].treatment, Treatment::Whole { .. }) {
            self.whole += 1;
            return;
        }
        let mut zeroed = disk.clone();
        for (start, end) in complement(&pairs(survey.allocated.iter()), u64::try_from(disk.len()).unwrap()) {
            zeroed[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].fill(0);
        }
        let (original, copy) = (shown(disk), shown(&zeroed));
        assert_eq!(original.is_some(), copy.is_some(), "{what}: mounts or not");
        let (Some(original), Some(copy)) = (original, copy) else {
            self.refused.push(what.to_owned());
            return;
        };
        self.mounted += 1;
        let differs = original.iter().find(|(name, content)| copy.get(*name) != Some(*content));
        assert!(original == copy, "{what}: {:?} differs", differs.map(|(name, _)| name));
    }
}

/// Damages one place of a record.
fn damage(disk: &[u8], log: Log, record: &Record, at: usize, flip: u8, sealed: bool) -> Vec<u8> {
    let mut disk = disk.to_vec();
    let mut bytes = log.read(&disk, record);
    bytes[at] ^= flip;
    log.write(&mut disk, record, &bytes);
    if sealed {
        log.seal(&mut disk, record);
    }
    disk
}

#[test]
fn records_that_are_torn() {
    let Some(disk) = dirty(&[]) else { return };
    let log = Log::of(&disk);
    let records = log.records(&disk);
    assert!(records.len() > 12, "{}", records.len());
    let mut count = Count::default();
    count.judge(&disk, "as it is");
    // The last eight may have been in flight, and a log with a damaged one ends before it; one before them is damage.
    for back in [1, 5, 8, 9] {
        let record = &records[records.len() - back];
        let at = record.header_bytes + record.len / 2;
        count.judge(&damage(&disk, log, record, at, 0x10, false), &format!("{back} from the end"));
    }
    assert!(count.refused.is_empty() && count.mounted >= 4 && count.whole >= 1, "{count:?}");
}

#[test]
fn headers_that_lie() {
    let Some(disk) = dirty(&[]) else { return };
    let log = Log::of(&disk);
    let records = log.records(&disk);
    let mut count = Count::default();
    // Magic number, round, version, length, its own place, the oldest, the one before, operations, saved words, byte
    // order, UUID, size of the buffer.
    let middle = [0, 7, 11, 14, 19, 22, 23, 27, 31, 39, 43, 47, 303, 310, 321];
    for (record, places) in [(&records[records.len() / 2], &middle[..]), (records.last().unwrap(), &[15, 31, 43, 47])] {
        for &at in places {
            let what = format!("{record:?}: byte {at}");
            count.judge(&damage(&disk, log, record, at, 1, true), &what);
        }
    }
    assert!(count.mounted >= 1 && count.whole >= 10, "{count:?}");
}

/// What an item says of an inode is not read, and a lie in it is not seen; but none of them can be left out.
#[test]
fn operations_that_lie() {
    let Some(disk) = dirty(&["-m", "rmapbt=1"]) else { return };
    let log = Log::of(&disk);
    let records = log.records(&disk);
    let mut noise = Noise(0x0b5);
    let mut count = Count::default();
    for round in 0..100 {
        // The last two records are those of which something can be missing.
        let record =
            if round % 4 == 0 { &records[records.len() - 1 - round / 4 % 2] } else { some(&records, &mut noise) };
        let operation = *some(&log.operations(&disk, record), &mut noise);
        // Transaction, length, who, flags.
        let at = operation + some(&[3, 4, 6, 7, 8, 9], &mut noise);
        // A sector begins with its round, and has this in the header.
        if (at - record.header_bytes) % 512 < 4 || count.mounted == 3 {
            continue;
        }
        let flip = 1 << (noise.next() % 8);
        let what = format!("{record:?}: byte {at} of the operation at {operation} with {flip:#x}");
        count.judge(&damage(&disk, log, record, at, flip, true), &what);
    }
    assert!(count.mounted > 0 && count.whole > 0, "{count:?}");
}

fn some<'a, T>(all: &'a [T], noise: &mut Noise) -> &'a T {
    &all[usize::try_from(noise.next() % u64::try_from(all.len()).unwrap()).unwrap()]
}

/// Works in a mounted file system until the records in use go round the end of the log; returns the disk.
fn wrapped(options: &[&str]) -> Option<Vec<u8>> {
    let volume = Volume::new(64 * MIB, options);
    let mount = Mount::new(&volume.path(), "nouuid")?;
    for round in 0..40 {
        use_it(mount.path(), 100 + round % 3);
        for number in 0..40 {
            synced(mount.path(), &format!("synced{number}"));
        }
        let disk = volume.bytes();
        let records = Log::of(&disk).records(&disk);
        let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
        if last.round() > 1 && first.sector() > last.sector() {
            mount.unmount();
            return Some(disk);
        }
    }
    panic!("the log did not go round");
}

fn assert_round(options: &[&str]) {
    let Some(disk) = wrapped(options) else { return };
    let what = format!("{options:?}");
    assert_comes_back(&disk, &what);
    let log = Log::of(&disk);
    let records = log.records(&disk);
    let mut count = Count::default();
    // Torn at the end, and behind the border.
    let last = records.last().unwrap();
    let behind = records.iter().find(|record| record.sector() < records[0].sector()).unwrap();
    for record in [last, behind] {
        let at = record.header_bytes + record.len - 1;
        count.judge(&damage(&disk, log, record, at, 1, false), &format!("{what}: {record:?}"));
    }
    assert!(count.refused.is_empty() && count.mounted >= 1, "{what}: {count:?}");
}

#[test]
fn a_log_that_goes_round() {
    assert_round(&["-l", "su=64k"]);
}

#[test]
fn a_log_with_reverse_maps_that_goes_round() {
    assert_round(&["-m", "rmapbt=1", "-l", "su=32k"]);
}
