//! Making file systems with the tools of Debian, and reading their answers.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use imagezip::alloc::{Survey, SurveyOptions, Treatment, survey};
use imagezip::io::ReadAt;
use sigs::ByteRange;

/// Byte ranges as pairs of start and end.
pub(super) type Pairs = Vec<(u64, u64)>;

/// Runs a tool and returns what it says; it must succeed.
pub(super) fn run(tool: &str, args: &[&str]) -> String {
    let (status, text) = run_any(tool, args);
    assert_eq!(status, 0, "{tool} {args:?}: {text}");
    text
}

/// Runs a tool and returns its exit status and what it says.
pub(super) fn run_any(tool: &str, args: &[&str]) -> (i32, String) {
    // Debian keeps most of these out of the path of users.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(tool);
    command.args(args).env("PATH", path).env("LC_ALL", "C").env("MKE2FS_SKIP_PROGRESS", "1").stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{tool}: {error}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// A file with an ext file system that has seen some use.
#[derive(Debug)]
pub(super) struct Image {
    folder: tempfile::TempDir,
    pub(super) block_size: u64,
}

impl Image {
    /// Makes a file system of `blocks` blocks in a file that is a bit longer, with files, some of them deleted.
    pub(super) fn new(kind: &str, block_size: u64, blocks: u64, options: &[&str]) -> Self {
        let image = Self::fresh(kind, block_size, blocks, options);
        image.use_it();
        image
    }

    /// Deletes some of the files and writes others.
    pub(super) fn use_it(&self) {
        let sources = self.folder.path().join("files");
        let mut script = String::new();
        for index in (0..90).step_by(3) {
            script.push_str(&format!("rm /file{index}\n"));
        }
        script.push_str("mkdir /later\n");
        for index in (1..90).step_by(4) {
            let source = sources.join(format!("file{index}"));
            script.push_str(&format!("write {} /later/copy{index}\n", source.display()));
        }
        script.push_str("rm /later/copy5\nrm /later/copy41\n");
        self.debugfs(&script);
    }

    /// Makes a file system as `mke2fs` leaves it.
    pub(super) fn fresh(kind: &str, block_size: u64, blocks: u64, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("files");
        fs::create_dir(&sources).unwrap();
        for index in 0..90_usize {
            // From nothing to some 70 KiB, no two alike.
            let content: Vec<u8> = format!("{index} ").into_bytes().into_iter().cycle().take(index * 777).collect();
            fs::write(sources.join(format!("file{index}")), content).unwrap();
        }
        let image = Self { folder, block_size };
        let file = fs::File::create(image.path()).unwrap();
        file.set_len(blocks * block_size + 1536).unwrap();
        let (path, blocks, size) = (image.text(), blocks.to_string(), block_size.to_string());
        let sources = sources.display().to_string();
        let mut args = vec!["-q", "-F", "-t", kind, "-b", &size, "-d", &sources];
        args.extend(options);
        args.extend([path.as_str(), blocks.as_str()]);
        run("mke2fs", &args);
        image
    }

    /// Returns a folder for other files of a test.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
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

    /// Runs commands in `debugfs`.
    pub(super) fn debugfs(&self, script: &str) -> String {
        let file = self.folder.path().join("script");
        fs::write(&file, script).unwrap();
        run("debugfs", &["-w", "-f", &file.display().to_string(), &self.text()])
    }

    /// Sets feature flags in a superblock without a checksum.
    pub(super) fn add_flags(&self, set: &str, flags: u32) {
        let at = match set {
            "compat" => 1024 + 0x5C,
            "incompat" => 1024 + 0x60,
            "ro_compat" => 1024 + 0x64,
            other => panic!("{other}"),
        };
        let file = fs::OpenOptions::new().read(true).write(true).open(self.path()).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at).unwrap();
        file.write_all_at(&(u32::from_le_bytes(bytes) | flags).to_le_bytes(), at).unwrap();
    }

    pub(super) fn survey(&self) -> Survey {
        survey_file(&self.path())
    }

    /// Returns what `dumpe2fs` has as allocated, with what does not belong to the file system.
    pub(super) fn truth(&self) -> Pairs {
        let text = run("dumpe2fs", &[&self.text()]);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|number| number.trim().parse::<u64>().unwrap())
        };
        let end = field("Block count:").unwrap();
        // Of a free run of clusters it prints the first block of the first and of the last.
        let cluster = field("Cluster size:").map_or(1, |size| size / self.block_size);
        let mut free: Pairs = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
            for part in line.split(", ").filter(|part| !part.is_empty()) {
                let (first, last) = numbers(part);
                free.push((first * self.block_size, (last + cluster).min(end) * self.block_size));
            }
        }
        complement(&free, fs::metadata(self.path()).unwrap().len())
    }

    /// Asserts that `testb` of `debugfs` agrees at both sides of every border of what is allocated.
    pub(super) fn assert_borders(&self, allocated: &[(u64, u64)], what: &str) {
        let borders = allocated.iter().flat_map(|(start, end)| [*start, *end]).map(|at| at / self.block_size);
        let header = run("dumpe2fs", &["-h", &self.text()]);
        let number = |name: &str| -> u64 {
            header.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        let inside = number("First block:").max(1)..number("Block count:");
        let mut blocks: Vec<u64> = borders.flat_map(|at| [at.saturating_sub(1), at]).collect();
        blocks.retain(|block| inside.contains(block));
        blocks.dedup();
        assert!(blocks.len() > 2, "{what}");
        let script: String = blocks.iter().map(|block| format!("testb {block}\n")).collect();
        let file = self.folder.path().join("script");
        fs::write(&file, script).unwrap();
        let text = run("debugfs", &["-f", &file.display().to_string(), &self.text()]);
        let answers: Vec<&str> = text.lines().filter(|line| line.starts_with("Block ")).collect();
        assert_eq!(answers.len(), blocks.len(), "{what}");
        for (block, answer) in blocks.iter().zip(answers) {
            let place = (block * self.block_size, (block + 1) * self.block_size);
            let marked = !answer.contains("not in use");
            assert_eq!(covers(allocated, &[place]), marked, "{what}: {answer}");
        }
    }

    /// Returns every file with its content, as `debugfs` reads them.
    pub(super) fn tree(&self) -> Vec<(String, Vec<u8>)> {
        let target = tempfile::tempdir().unwrap();
        let dump = format!("rdump / {}", target.path().display());
        run("debugfs", &["-R", &dump, &self.text()]);
        files_below(target.path())
    }

    /// Asserts that we believe the file system and have exactly what `dumpe2fs` has.
    pub(super) fn assert_exact(&self, what: &str) -> Survey {
        let survey = self.survey();
        let [partition] = survey.partitions.as_slice() else { panic!("{what}: {:?}", survey.partitions) };
        assert!(matches!(partition.treatment, Treatment::Proven { .. }), "{what}: {:?}", partition.treatment);
        let truth = self.truth();
        assert!(truth.len() > 1, "{what}: a test without free space proves nothing");
        assert_eq!(pairs(&survey.allocated), truth, "{what}");
        survey
    }
}

/// Returns every file below a folder with its content, in order.
pub(super) fn files_below(top: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(top).unwrap().display().to_string();
                files.push((name, fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Parses `12` or `12-34`.
pub(super) fn numbers(text: &str) -> (u64, u64) {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    (first.trim().parse().unwrap(), last.trim().parse().unwrap())
}

pub(super) fn pairs(ranges: impl IntoIterator<Item = ByteRange>) -> Pairs {
    ranges.into_iter().map(|range| (range.start.get(), range.start.get() + range.len.get())).collect()
}

/// Returns what of `len` bytes is not in sorted ranges.
pub(super) fn complement(ranges: &[(u64, u64)], len: u64) -> Pairs {
    let mut rest = Vec::new();
    let mut behind = 0;
    for (start, end) in ranges {
        if *start > behind {
            rest.push((behind, *start));
        }
        behind = *end;
    }
    if behind < len {
        rest.push((behind, len));
    }
    rest
}

/// Returns true if every byte of `inner` is in `outer`; both are sorted and merged.
pub(super) fn covers(outer: &[(u64, u64)], inner: &[(u64, u64)]) -> bool {
    inner.iter().all(|(start, end)| {
        let at = outer.partition_point(|(_, outer_end)| outer_end < end);
        outer.get(at).is_some_and(|(outer_start, outer_end)| outer_start <= start && outer_end >= end)
    })
}

pub(super) fn survey_file(path: &Path) -> Survey {
    survey_of(&sigs::source::FileSource::open(path).unwrap())
}

/// Surveys a disk and checks what must hold of any answer.
pub(super) fn survey_of(disk: &dyn ReadAt) -> Survey {
    let survey = survey(disk, SurveyOptions::default()).unwrap();
    assert_well_formed(&survey, disk.len().get());
    survey
}

pub(super) fn assert_well_formed(survey: &Survey, len: u64) {
    let allocated = pairs(&survey.allocated);
    assert!(allocated.iter().all(|(start, end)| start < end && *end <= len), "{allocated:?}");
    assert!(allocated.windows(2).all(|pair| pair[0].1 < pair[1].0), "{allocated:?}");
    let mut behind = 0;
    for partition in &survey.partitions {
        let (start, end) = pairs([partition.range])[0];
        assert!(start >= behind && end <= len);
        assert!(covers(&allocated, &complement(&[(0, behind), (start, len)], len)), "a gap is not data");
        behind = end;
        let free: u64 =
            complement(&allocated, len).iter().map(|(s, e)| e.min(&end).saturating_sub(*s.max(&start))).sum();
        assert_eq!(partition.allocated.get() + free, end - start);
        if matches!(partition.treatment, Treatment::Whole { .. }) {
            assert_eq!(free, 0);
        }
    }
    if behind < len {
        assert!(covers(&allocated, &[(behind, len)]), "the space behind the partitions is not data");
    }
}

/// Returns why a disk with one partition is taken whole.
pub(super) fn reason(survey: &Survey) -> &str {
    match survey.partitions.as_slice() {
        [partition] => match &partition.treatment {
            Treatment::Whole { reason } => reason,
            Treatment::Proven { evidence } => panic!("believed: {evidence:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// CRC-32C without inversions, over pieces that follow each other.
pub(super) fn crc32c(start: u32, pieces: &[&[u8]]) -> u32 {
    pieces.iter().fold(start, |crc, piece| !crc32c::crc32c_append(!crc, piece))
}
