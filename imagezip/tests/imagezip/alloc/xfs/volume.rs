//! XFS file systems in files, and what `xfs_db` says of them.

use std::fs;
use std::path::{Path, PathBuf};

use imagezip::alloc::{Evidence, Survey, Treatment};

use crate::alloc::tools::{Pairs, complement, pairs, run, run_any, survey_file};

pub(super) const MIB: u64 = 1 << 20;

/// A file with an XFS file system that may end before the file does.
#[derive(Debug)]
pub(super) struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    /// Makes an empty file system in a file of `len` bytes; the options may say that it is smaller.
    pub(super) fn new(len: u64, options: &[&str]) -> Self {
        let volume = Self { folder: tempfile::tempdir().unwrap() };
        fs::File::create(volume.path()).unwrap().set_len(len).unwrap();
        make(&volume.path(), options);
        volume
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Makes a copy of a file system.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let volume = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(volume.path(), bytes).unwrap();
        volume
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// Asserts that `xfs_repair` has nothing to do, also where there is but one group to look at.
    pub(super) fn assert_sound(&self, what: &str) {
        let (status, text) = run_any("xfs_repair", &["-n", "-o", "force_geometry", &self.path().display().to_string()]);
        assert_eq!(status, 0, "{what}: {text}");
    }

    pub(super) fn survey(&self) -> Survey {
        survey_file(&self.path())
    }

    /// Asserts that we believe the file system and have exactly what `xfs_db` has.
    pub(super) fn assert_exact(&self, what: &str) -> Evidence {
        let survey = self.survey();
        let truth = allocated(&self.path());
        assert!(truth.len() > 1, "{what}: a test without free space proves nothing");
        let evidence = evidence(&survey, what);
        assert_eq!(pairs(survey.allocated.iter()), truth, "{what}");
        evidence
    }
}

pub(super) fn evidence(survey: &Survey, what: &str) -> Evidence {
    match &survey.partitions[0].treatment {
        Treatment::Proven { evidence } => evidence.clone(),
        other @ Treatment::Whole { .. } => panic!("{what}: {other:?}"),
    }
}

/// Makes an empty file system in a file.
pub(super) fn make(file: &Path, options: &[&str]) {
    let file = file.display().to_string();
    // Small file systems are refused unless these say that this is a test.
    let mut args = vec!["TEST_DIR=1", "TEST_DEV=1", "QA_CHECK_FS=1", "mkfs.xfs", "-q", "-f"];
    args.extend(options);
    args.push(&file);
    run("env", &args);
}

/// Returns what `xfs_db` has as allocated, with what does not belong to the file system.
pub(super) fn allocated(file: &Path) -> Pairs {
    let name = file.display().to_string();
    let text = run("xfs_db", &["-r", "-c", "sb 0", "-c", "p blocksize agblocks agcount", &name]);
    let number = |field: &str| -> u64 {
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(" = "));
        found.unwrap_or_else(|| panic!("{field}: {text}")).parse().unwrap()
    };
    let (block_size, group_blocks, groups) = (number("blocksize"), number("agblocks"), number("agcount"));
    let mut args: Vec<String> = vec!["-r".into()];
    for group in 0..groups {
        let commands = [format!("agf {group}"), "p seqno".into(), "addr bnoroot".into(), "btdump".into()];
        args.extend(commands.into_iter().flat_map(|command| ["-c".into(), command]));
    }
    args.push(name);
    let text = run("xfs_db", &args.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut free, mut group): (Pairs, u64) = (Vec::new(), 0);
    let mut leaf = false;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("seqno = ") {
            group = number.parse().unwrap();
        }
        if line.contains(" level ") {
            leaf = line.contains(" level 0 ");
        }
        // 1:[10,6] 2:[24,25576]
        for record in line.split_whitespace().filter(|_| leaf).filter_map(|word| word.split_once(":[")) {
            let Some((first, blocks)) = record.1.trim_end_matches(']').split_once(',') else { continue };
            let (first, blocks): (u64, u64) = (first.parse().unwrap(), blocks.parse().unwrap());
            let start = (group * group_blocks + first) * block_size;
            free.push((start, start + blocks * block_size));
        }
    }
    free.sort_unstable();
    let mut merged: Pairs = Vec::new();
    for (start, end) in free {
        match merged.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => merged.push((start, end)),
        }
    }
    complement(&merged, fs::metadata(file).unwrap().len())
}
