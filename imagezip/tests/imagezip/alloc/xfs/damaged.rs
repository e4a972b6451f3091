//! Logs that were damaged, or that went round: the kernel, and where it refuses `xfs_repair`, shows the same whether or
//! not what we call free is still there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imagezip::alloc::{Evidence, Treatment, XfsLog};

use super::crashed::assert_comes_back;
use super::log::{Log, Record};
use super::mounted::use_it;
use super::volume::{MIB, Volume, evidence};
use crate::alloc::tools::{complement, pairs, run, run_any, survey_of};
use crate::mounted::Mount;
use crate::support::Noise;

/// Makes a disk whose log has to be replayed.
fn dirty(options: &[&str]) -> Option<Vec<u8>> {
    let volume = Volume::new(40 * MIB, options);
    let mount = Mount::new(&volume.path(), "nouuid")?;
    use_it(mount.path(), 50);
    run("sync", &["-f", mount.path().to_str().unwrap()]);
    for round in 51..57 {
        use_it(mount.path(), round);
        // A record each, some of which may be in flight at the end.
        let file = fs::File::create(mount.path().join(format!("synced{round}"))).unwrap();
        file.sync_all().unwrap();
    }
    let disk = volume.bytes();
    mount.unmount();
    Some(disk)
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

/// Returns whether the kernel mounts a disk, and what it then shows; if not, what it shows without its log.
fn shown(disk: &[u8]) -> (bool, Seen) {
    let volume = Volume::of(disk);
    let mounted = Mount::attempt(&volume.path(), "nouuid");
    let (mounts, mount) = match mounted {
        Ok(mount) => (true, mount),
        Err(_) => {
            run_any("xfs_repair", &["-L", "-o", "force_geometry", &volume.path().display().to_string()]);
            match Mount::attempt(&volume.path(), "nouuid") {
                Ok(mount) => (false, mount),
                Err(why) => return (false, BTreeMap::from([(PathBuf::new(), Err(why))])),
            }
        }
    };
    let found = seen(mount.path());
    mount.unmount();
    (mounts, found)
}

/// How damaged disks were answered.
#[derive(Debug, Default)]
struct Count {
    whole: u32,
    mounted: u32,
    refused: u32,
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
        let differs = original.1.iter().find(|(name, content)| copy.1.get(*name) != Some(*content));
        assert!(original == copy, "{what}: mounts {} {}, {:?}", original.0, copy.0, differs.map(|(name, _)| name));
        if original.0 { self.mounted += 1 } else { self.refused += 1 }
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
    for back in [1, 2, 5, 8, 9, 10] {
        let record = &records[records.len() - back];
        let at = record.header_bytes + record.len / 2;
        count.judge(&damage(&disk, log, record, at, 0x10, false), &format!("{back} from the end"));
    }
    assert!(count.mounted >= 4 && count.whole >= 1, "{count:?}");
}

#[test]
fn headers_that_lie() {
    let Some(disk) = dirty(&[]) else { return };
    let log = Log::of(&disk);
    let records = log.records(&disk);
    let mut count = Count::default();
    let last = records.last().unwrap();
    let middle = &records[records.len() / 2];
    for record in [last, middle] {
        // Magic number, round, version, length, its own place, the oldest, the one before, operations, saved words,
        // byte order, UUID, size of the buffer.
        for at in [0, 7, 11, 14, 15, 19, 22, 23, 27, 30, 31, 39, 42, 43, 47, 303, 310, 321, 322] {
            for sealed in [false, true] {
                let what = format!("{record:?}: byte {at}, sealed {sealed}");
                count.judge(&damage(&disk, log, record, at, 1, sealed), &what);
            }
        }
    }
    assert!(count.mounted >= 2 && count.whole >= 30, "{count:?}");
}

#[test]
fn operations_and_items_that_lie() {
    let Some(disk) = dirty(&["-m", "rmapbt=1"]) else { return };
    let log = Log::of(&disk);
    let records = log.records(&disk);
    let mut noise = Noise(0x0b5);
    let mut count = Count::default();
    for round in 0..60 {
        let record = &records[usize::try_from(noise.next()).unwrap() % records.len()];
        let data = usize::try_from(noise.next()).unwrap() % record.len;
        // Operation headers and the first words of items are at the start.
        let data = if round % 2 == 0 { data % 160 } else { data };
        let flip = 1 << (noise.next() % 8);
        let what = format!("{record:?}: byte {data} with {flip:#x}");
        count.judge(&damage(&disk, log, record, record.header_bytes + data, flip, true), &what);
        if count.mounted + count.refused == 9 {
            break;
        }
    }
    assert!(count.mounted > 0 && count.whole > 0, "{count:?}");
}

/// Works in a mounted file system until the records in use go round the end of the log; returns the disk.
fn wrapped(options: &[&str]) -> Option<Vec<u8>> {
    let volume = Volume::new(64 * MIB, options);
    let mount = Mount::new(&volume.path(), "nouuid")?;
    for round in 0..400 {
        use_it(mount.path(), 100 + round % 5);
        let file = fs::File::create(mount.path().join("synced")).unwrap();
        file.sync_all().unwrap();
        if round % 8 != 7 {
            continue;
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

#[test]
fn logs_that_go_round() {
    for options in [&["-l", "su=64k"][..], &["-m", "rmapbt=1", "-l", "su=256k"]] {
        let Some(disk) = wrapped(options) else { return };
        let what = format!("{options:?}");
        let Evidence::XfsTrees { log: XfsLog::Replayed { .. }, .. } = evidence(&survey_of(&disk), &what) else {
            panic!("{what}: not dirty")
        };
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
        assert!(count.mounted >= 1, "{what}: {count:?}");
    }
}
