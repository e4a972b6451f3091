//! A btrfs in a file, and the truth about it from `btrfs inspect-internal`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imagezip::alloc::{Survey, Treatment};

use crate::alloc::tools::{Pairs, complement, pairs, run, survey_file};

/// A file with a btrfs.
#[derive(Debug)]
pub(super) struct Volume {
    folder: tempfile::TempDir,
}

/// How large most of them are: not much smaller is possible with metadata twice.
pub(super) const MIB: u64 = 120;

impl Volume {
    /// Makes one of some MiB.
    pub(super) fn new(mib: u64, options: &[&str]) -> Self {
        Self::inside(&std::env::temp_dir(), mib, options)
    }

    /// Makes one in a folder.
    pub(super) fn inside(folder: &Path, mib: u64, options: &[&str]) -> Self {
        let volume = Self { folder: tempfile::tempdir_in(folder).unwrap() };
        fs::File::create(volume.path()).unwrap().set_len(mib << 20).unwrap();
        let path = volume.text();
        let mut args = vec!["-q", "-f"];
        args.extend(options);
        args.push(&path);
        run("mkfs.btrfs", &args);
        volume
    }

    /// Takes over the content of another one.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let volume = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(volume.path(), bytes).unwrap();
        volume
    }

    /// Returns a copy of it as it is now.
    pub(super) fn snapshot(&self) -> Self {
        let copy = Self { folder: tempfile::tempdir().unwrap() };
        run("cp", &["--sparse=always", &self.text(), &copy.text()]);
        copy
    }

    /// Makes a copy of one moment while it is written to; it has to be on a file system that can.
    pub(super) fn clone_now(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        run("cp", &["--reflink=always", &self.text(), &path.display().to_string()]);
        path
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    pub(super) fn text(&self) -> String {
        self.path().display().to_string()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    pub(super) fn shorten(&self, len: u64) {
        fs::OpenOptions::new().write(true).open(self.path()).unwrap().set_len(len).unwrap();
    }

    pub(super) fn survey(&self) -> Survey {
        survey_file(&self.path())
    }

    fn dump(&self, tree: &str) -> String {
        run("btrfs", &["inspect-internal", "dump-tree", "-t", tree, &self.text()])
    }

    /// Returns where all extents of the last commit lie, by the tools.
    pub(super) fn extents(&self) -> Pairs {
        let mut chunks: Vec<(u64, u64, Vec<u64>)> = Vec::new();
        for line in self.dump("chunk").lines().map(str::trim) {
            if let Some((_, key)) = line.split_once("CHUNK_ITEM ") {
                chunks.push((number(key), 0, Vec::new()));
            } else if let Some(rest) = line.strip_prefix("length ") {
                chunks.last_mut().unwrap().1 = number(rest);
            } else if line.starts_with("stripe ") {
                chunks.last_mut().unwrap().2.push(number(line.split_once("offset ").unwrap().1));
            }
        }
        let node_size = node_size(&self.text());
        let mut places = BTreeSet::new();
        for line in self.dump("extent").lines().filter(|line| line.starts_with("\titem ")) {
            let Some((start, rest)) = line.split_once(" key (").and_then(|(_, key)| key.split_once(' ')) else {
                continue;
            };
            let start: u64 = number(start);
            let len = match rest.split_once(' ') {
                Some(("EXTENT_ITEM", len)) => number(len),
                Some(("METADATA_ITEM", _)) => node_size,
                _ => continue,
            };
            let (logical, _, stripes) =
                chunks.iter().rfind(|chunk| chunk.0 <= start && start < chunk.0 + chunk.1).unwrap();
            places.extend(stripes.iter().map(|stripe| (stripe + start - logical, stripe + start - logical + len)));
        }
        places.into_iter().collect()
    }

    /// Returns all that is allocated, by the tools; without a log.
    pub(super) fn truth(&self) -> Pairs {
        let len = fs::metadata(self.path()).unwrap().len();
        let device = run("btrfs", &["inspect-internal", "dump-super", &self.text()]);
        let end = number(device.split_once("dev_item.total_bytes").unwrap().1.trim());
        let mut all = self.extents();
        all.extend([(0, 1 << 20), (64 << 20, (64 << 20) + 4096), (end, len)]);
        all.retain(|(start, end)| start < end && *end <= len);
        all.sort_unstable();
        complement(&complement(&all, len), len)
    }

    /// Asserts that we believe the file system and have exactly what the tools have.
    pub(super) fn assert_exact(&self, what: &str) -> Survey {
        let survey = self.survey();
        assert!(matches!(survey.partitions[0].treatment, Treatment::Proven { .. }), "{what}: {survey:?}");
        let truth = self.truth();
        assert!(truth.len() > 2, "{what}");
        assert_eq!(pairs(&survey.allocated), truth, "{what}");
        survey
    }

    /// Asserts that `btrfs check` has nothing to say, data included.
    pub(super) fn check(&self, what: &str) {
        let text = run("btrfs", &["check", "--readonly", "--check-data-csum", &self.text()]);
        assert!(text.contains("no error found"), "{what}: {text}");
    }
}

fn number(text: &str) -> u64 {
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn node_size(path: &str) -> u64 {
    let text = run("btrfs", &["inspect-internal", "dump-super", path]);
    number(text.lines().find_map(|line| line.strip_prefix("nodesize")).unwrap().trim())
}

/// Makes a folder with files from nothing to some 100 KiB, no two alike.
pub(super) fn files(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..count {
        let content: Vec<u8> = format!("{index} ").into_bytes().into_iter().cycle().take(index * 2777).collect();
        fs::write(folder.path().join(format!("file{index}")), content).unwrap();
    }
    folder
}
