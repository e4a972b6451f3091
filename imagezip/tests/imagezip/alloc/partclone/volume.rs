//! A disk with one partition that has a file system, filled with blocks that can be told apart.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use imagezip::alloc::{Content, Partclone, Survey, SurveyOptions, Treatment, survey};
use imagezip::io::Disk;
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen, ByteOffset};

use super::super::tools::{assert_well_formed, covers, pairs, reason, run, run_any};
use crate::mounted::{Mount, tree};
use crate::skips::skip;
use crate::support::{Noise, make, open, restore_to};

/// Where the partition begins.
pub(super) const START: usize = 1 << 20;
const BLOCK: usize = 4096;

/// Names with kind, owner, length and content.
pub(super) type Tree = BTreeMap<PathBuf, (u64, Vec<u8>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fs {
    Ntfs,
    Exfat,
}

/// File systems, their size in MiB, and how they are made.
pub(super) const KINDS: &[(Fs, u64, &[&str])] = &[
    (Fs::Ntfs, 64, &[]),
    (Fs::Exfat, 64, &[]),
    (Fs::Ntfs, 40, &["-c", "512"]),
    (Fs::Ntfs, 70, &["-c", "65536"]),
    (Fs::Exfat, 96, &["-c", "32K"]),
];

impl Fs {
    pub(super) fn content(self) -> Content {
        match self {
            Self::Ntfs => Content::Ntfs,
            Self::Exfat => Content::Exfat,
        }
    }

    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Ntfs => "partclone.ntfs",
            Self::Exfat => "partclone.exfat",
        }
    }

    fn mounted_by(self) -> &'static str {
        match self {
            Self::Ntfs => "ntfs-3g",
            Self::Exfat => "exfat-fuse",
        }
    }
}

pub(super) struct Volume {
    folder: tempfile::TempDir,
    fs: Fs,
    /// The files that are there, by the number in their blocks.
    alive: Vec<u64>,
}

impl Volume {
    /// Makes a disk of 1 MiB, a partition, and another MiB.
    pub(super) fn new(fs: Fs, mib: u64, options: &[&str]) -> Self {
        let volume = Self { folder: tempfile::tempdir().unwrap(), fs, alive: Vec::new() };
        let part = volume.part();
        fs::File::create(&part).unwrap().set_len(mib << 20).unwrap();
        let path = part.display().to_string();
        match fs {
            Fs::Ntfs => run("mkfs.ntfs", &[&["-F", "-q"], options, &[&path]].concat()),
            Fs::Exfat => run("mkfs.exfat", &[options, &[&path]].concat()),
        };
        volume.embed();
        volume
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("part")
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn kind(&self) -> Fs {
        self.fs
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    pub(super) fn partition(&self) -> Vec<u8> {
        fs::read(self.part()).unwrap()
    }

    /// Writes the disk around the partition.
    fn embed(&self) {
        let part = self.partition();
        let mut disk = vec![0; START];
        disk[446 + 4] = 7;
        disk[446 + 8..446 + 12].copy_from_slice(&u32::try_from(START / 512).unwrap().to_le_bytes());
        disk[446 + 12..446 + 16].copy_from_slice(&u32::try_from(part.len() / 512).unwrap().to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        disk.extend(part);
        disk.extend(vec![0x77; 1 << 20]);
        fs::write(self.path(), disk).unwrap();
    }

    /// Changes the type in the partition table.
    pub(super) fn set_type(&self, kind: u8) {
        let mut disk = self.bytes();
        disk[446 + 4] = kind;
        fs::write(self.path(), disk).unwrap();
    }

    /// Does something in the mounted file system, or skips the test.
    pub(super) fn with_mounted<T>(&mut self, work: impl FnOnce(&Path) -> T) -> Option<T> {
        let mount = Mount::of(self.fs.mounted_by(), &self.part(), "")?;
        let done = work(mount.path());
        mount.unmount();
        self.embed();
        Some(done)
    }

    /// Writes and deletes files, and returns those that are left; or skips the test.
    pub(super) fn use_it(&mut self) -> Option<Tree> {
        let (tree, alive) = self.with_mounted(|top| {
            fs::create_dir_all(top.join("folder/deeper")).unwrap();
            let name = |number: u64| match number % 3 {
                0 => format!("file {number}"),
                1 => format!("folder/a rather long name of a file, for which there is one entry not enough {number}"),
                _ => format!("folder/deeper/{number}"),
            };
            let mut alive = Vec::new();
            for number in 0..80 {
                write(&top.join(name(number)), number, number % 50 * 3);
            }
            for number in (0..80).filter(|number| number % 3 == 1) {
                fs::remove_file(top.join(name(number))).unwrap();
            }
            // The holes are filled, so that files are in pieces.
            for number in 100..103 {
                write(&top.join(name(number)), number, 200);
                alive.push(number);
            }
            alive.extend((0..80).filter(|number| number % 3 != 1));
            (content_of(top), alive)
        })?;
        self.alive = alive;
        Some(tree)
    }

    /// Returns where the content of a record of the file table of NTFS begins.
    pub(super) fn first_cluster_of(&self, record: usize) -> usize {
        let part = self.partition();
        let number = |at: usize, len| part[at..][..len].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let record = number(48, 8) * 4096 + record * 1024;
        let mut at = record + number(record + 20, 2);
        while part[at] != 0x80 {
            at += number(at + 4, 4);
        }
        // A run: a byte with two lengths, how many clusters, where.
        let run = at + number(at + 32, 2);
        number(run + 1 + usize::from(part[run] & 15), usize::from(part[run] >> 4))
    }

    /// Asks with all that is installed, or skips the test.
    pub(super) fn survey(&self) -> Option<Survey> {
        answer(&self.path())
    }

    /// Asks programs in other folders.
    pub(super) fn survey_with(&self, folders: Vec<PathBuf>) -> Survey {
        let cancel = AtomicBool::new(false);
        let installed = Partclone::installed(&self.path(), ByteOffset::ZERO, &cancel);
        survey_by(&self.path(), &Partclone { folders, ..installed })
    }

    /// Returns why a disk is whole, or skips.
    pub(super) fn doubt(&self, disk: &[u8]) -> Option<String> {
        let path = self.folder.path().join("changed");
        fs::write(&path, disk).unwrap();
        Some(reason(&answer(&path)?).to_owned())
    }

    /// Looks for the blocks of files on the disk: those of files that are there are allocated. Returns how many.
    pub(super) fn assert_patterns_allocated(&self, survey: &Survey, what: &str) -> usize {
        let (disk, allocated) = (self.bytes(), pairs(&survey.allocated));
        let mut found = 0;
        for (index, piece) in disk.chunks(512).enumerate() {
            if piece.starts_with(b"a block of file ") {
                let number = u64::from_le_bytes(piece[16..24].try_into().unwrap());
                if self.alive.contains(&number) {
                    let at = u64::try_from(index * 512).unwrap();
                    assert!(covers(&allocated, &[(at, at + 512)]), "{what}: a block of file {number} at {at} is free");
                    found += 1;
                }
            }
        }
        found
    }

    /// Saves what is allocated and restores it to a disk of garbage.
    pub(super) fn restored(&self, survey: &Survey, policy: FreePolicy) -> Self {
        let disk = self.bytes();
        let layout = Layout::from_survey(ByteLen::of(&disk), survey).unwrap();
        let made = make(&disk, &layout, &[], BlockSize::DEFAULT).unwrap();
        let chain = open(&made.image, &[]).unwrap();
        let mut garbage = vec![0; disk.len()];
        Noise(0x1234_5678).fill(&mut garbage);
        let target = MemoryDisk::new(garbage);
        restore_to(&chain, &target, policy, false).unwrap();
        let copy = Self { folder: tempfile::tempdir().unwrap(), fs: self.fs, alive: self.alive.clone() };
        let content = target.content();
        fs::write(copy.path(), &content).unwrap();
        fs::write(copy.part(), &content[START..content.len() - (1 << 20)]).unwrap();
        copy
    }

    /// Has the checker of the file system look at it.
    pub(super) fn assert_sound(&self, what: &str) {
        let part = self.part().display().to_string();
        let (tool, arguments) = match self.fs {
            Fs::Ntfs => ("ntfsfix", ["-n", part.as_str()]),
            Fs::Exfat => ("fsck.exfat", ["-n", part.as_str()]),
        };
        let (status, text) = run_any(tool, &arguments);
        assert_eq!(status, 0, "{what}: {text}");
    }

    /// Returns every file, or skips the test.
    pub(super) fn tree(&self) -> Option<Tree> {
        let mount = Mount::of(self.fs.mounted_by(), &self.part(), "ro")?;
        let found = content_of(mount.path());
        mount.unmount();
        Some(found)
    }
}

/// Writes a file of blocks that name it.
fn write(path: &Path, number: u64, blocks: u64) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for index in 0..blocks * 8 {
        let mut sector = [0; 512];
        sector[..16].copy_from_slice(b"a block of file ");
        sector[16..24].copy_from_slice(&number.to_le_bytes());
        sector[24..32].copy_from_slice(&index.to_le_bytes());
        file.write_all(&sector).unwrap();
    }
    file.write_all(&vec![b'.'; usize::try_from(number).unwrap() * 7 % BLOCK]).unwrap();
    file.flush().unwrap();
}

fn content_of(top: &Path) -> Tree {
    tree(top).into_iter().map(|(name, (_, _, len, content))| (name, (len, content))).collect()
}

/// Asks with all that is installed about a disk in a file, or skips the test where there can be no loop device.
pub(super) fn answer(path: &Path) -> Option<Survey> {
    let cancel = AtomicBool::new(false);
    let survey = survey_by(path, &Partclone::installed(path, ByteOffset::ZERO, &cancel));
    match &survey.partitions[0].treatment {
        Treatment::Whole { reason } if reason.contains("loop device") => {
            skip(reason);
            None
        }
        _ => Some(survey),
    }
}

/// Asks about a disk in a file.
pub(super) fn survey_by(path: &Path, partclone: &Partclone<'_>) -> Survey {
    let disk = Disk::open(path).unwrap();
    let survey = survey(&disk, SurveyOptions { partclone: Some(partclone), ..SurveyOptions::default() }).unwrap();
    assert_well_formed(&survey, fs::metadata(path).unwrap().len());
    survey
}
