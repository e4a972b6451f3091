//! What the kernel made of a btrfs, cleanly left or not, comes back as it was.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use imagezip::alloc::{Evidence, Survey, Treatment};
use imagezip::io::fake::MemoryDisk;
use imagezip::layout::Layout;
use imagezip::restore::FreePolicy;
use sigs::{BlockSize, ByteLen};

use super::volume::{MIB, Volume};
use crate::alloc::tools::{Pairs, complement, covers, pairs, run};
use crate::mounted::{Mount, tree};
use crate::support::{Noise, make, open, restore_to};

const STALE: &[u8; 16] = b"stale secret 42!";

/// Writes and deletes; what it deletes is [`STALE`].
fn use_it(root: &Path) {
    let mut noise = Noise(7);
    for number in 0..60_usize {
        let mut content = vec![0; 100 + number * 1500];
        noise.fill(&mut content);
        fs::write(root.join(format!("file{number}")), content).unwrap();
    }
    for number in 0..10_usize {
        fs::write(root.join(format!("secret{number}")), STALE.repeat(20_000)).unwrap();
    }
    sync(root);
    for number in 0..10_usize {
        fs::remove_file(root.join(format!("secret{number}"))).unwrap();
        fs::remove_file(root.join(format!("file{}", number * 5))).unwrap();
    }
    sync(root);
    let root_text = root.to_str().unwrap();
    run("btrfs", &["subvolume", "create", &format!("{root_text}/sub")]);
    fs::write(root.join("sub/inner"), vec![3; 70_000]).unwrap();
    run("btrfs", &["subvolume", "snapshot", &format!("{root_text}/sub"), &format!("{root_text}/shot")]);
    run("cp", &["--reflink=always", &format!("{root_text}/file1"), &format!("{root_text}/same")]);
    std::os::unix::fs::symlink("file1", root.join("link")).unwrap();
    fs::hard_link(root.join("file1"), root.join("sub-link")).unwrap();
    sync(root);
}

/// A file starts with a block, so what is repeated in it has its place.
fn has_stale(bytes: &[u8]) -> bool {
    bytes.chunks(STALE.len()).any(|piece| piece == STALE)
}

fn sync(root: &Path) {
    run("sync", &["-f", root.to_str().unwrap()]);
}

/// Syncs files one by one, which writes a log and no commit.
fn fsync_some(root: &Path) {
    for number in 0..5_usize {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(root.join(format!("log{number}"))).unwrap();
        file.write_all(&vec![b'l'; 300_000 + number]).unwrap();
        file.sync_all().unwrap();
    }
    let file = fs::OpenOptions::new().write(true).open(root.join("file1")).unwrap();
    file.write_all_at(&[9; 9000], 300).unwrap();
    file.sync_all().unwrap();
    let file = fs::OpenOptions::new().write(true).open(root.join("sub/inner")).unwrap();
    file.write_all_at(&[9; 9000], 12288).unwrap();
    file.sync_all().unwrap();
}

fn log_of(survey: &Survey) -> bool {
    match &survey.partitions[0].treatment {
        Treatment::Proven { evidence: Evidence::BtrfsExtents { log, .. } } => *log,
        other => panic!("{other:?}"),
    }
}

/// Captures the disk and restores it over garbage.
fn round_trip(disk: &Volume, free: FreePolicy) -> Volume {
    let bytes = disk.bytes();
    let layout = Layout::from_survey(ByteLen::of(&bytes), &disk.survey()).unwrap();
    let made = make(&bytes, &layout, &[], BlockSize::DEFAULT).unwrap();
    let chain = open(&made.image, &[]).unwrap();
    let target = MemoryDisk::new(vec![0xA5; bytes.len()]);
    restore_to(&chain, &target, free, false).unwrap();
    Volume::of(&target.content())
}

/// What the restored disk shows is what the original shows, and the tools find nothing wrong with it.
fn assert_same(original: &Volume, restored: &Volume, what: &str) {
    let Some(here) = Mount::new(&original.path(), "") else { return };
    let shows = tree(here.path());
    here.unmount();
    let there = Mount::new(&restored.path(), "").unwrap();
    assert!(shows.len() > 50, "{what}");
    assert!(shows == tree(there.path()), "{what}: the restored disk shows other files");
    let scrub = run("btrfs", &["scrub", "start", "-B", there.path().to_str().unwrap()]);
    assert!(scrub.contains("no errors found"), "{what}: {scrub}");
    there.unmount();
    restored.check(what);
}

#[test]
fn a_clean_disk_comes_back() {
    for (mib, mkfs, mount) in [
        (MIB, ["-R", "^free-space-tree"].as_slice(), "space_cache=v1"),
        (80, &["--csum", "xxhash", "-n", "4096", "-m", "single"], "compress=zstd"),
    ] {
        let what = format!("{mkfs:?} {mount}");
        let disk = Volume::new(mib, mkfs);
        let Some(mounted) = Mount::new(&disk.path(), mount) else { return };
        use_it(mounted.path());
        mounted.unmount();
        let survey = disk.assert_exact(&what);
        assert!(!log_of(&survey));
        let disk_bytes = disk.bytes();
        assert!(has_stale(&disk_bytes) || mount.contains("compress"), "the test needs stale bytes to miss");
        for free in [FreePolicy::Zero, FreePolicy::Keep] {
            let restored = round_trip(&disk, free);
            assert!(!has_stale(&restored.bytes()), "{what}");
            assert_same(&disk.snapshot(), &restored, &what);
        }
    }
}

#[test]
fn a_crashed_disk_comes_back_with_its_log() {
    for (mkfs, mount) in
        [([].as_slice(), "commit=300"), (&["--mixed", "-n", "4096", "--csum", "blake2"], "commit=300,compress=lzo")]
    {
        let what = format!("{mkfs:?} {mount}");
        let disk = Volume::new(MIB, mkfs);
        let Some(mounted) = Mount::new(&disk.path(), mount) else { return };
        use_it(mounted.path());
        fsync_some(mounted.path());
        let crashed = disk.snapshot();
        mounted.unmount();
        let survey = crashed.survey();
        assert!(log_of(&survey), "{what}: the test needs a log");
        assert!(covers(&pairs(&survey.allocated), &crashed.truth()), "{what}");
        assert!(survey.partitions[0].allocated.get() < 40 << 20, "{what}: not the whole partition");
        let restored = round_trip(&crashed, FreePolicy::Keep);
        assert_same(&crashed, &restored, &what);
    }
}

/// A copy-on-write copy of the file below a busy file system is what a power cut leaves.
#[test]
fn a_disk_that_crashed_at_any_time_comes_back() {
    let below = Volume::new(600, &[]);
    let Some(outer) = Mount::new(&below.path(), "") else { return };
    let disk = Volume::inside(outer.path(), MIB, &["-m", "single"]);
    let mounted = Mount::new(&disk.path(), "commit=1").unwrap();
    use_it(mounted.path());
    let root = mounted.path().to_owned();
    let busy = |round: usize| {
        for number in 0..8_usize {
            let path = root.join(format!("busy{}", (round + number * 7) % 23));
            let mut file = fs::File::create(path).unwrap();
            file.write_all(&vec![b'b'; 1000 + round * 5000]).unwrap();
            if number % 3 == 0 {
                file.sync_all().unwrap();
            }
        }
        let _ = fs::remove_file(root.join(format!("busy{}", round % 23)));
    };
    let mut crashed = Vec::new();
    std::thread::scope(|scope| {
        for piece in 0..3_usize {
            let worker = scope.spawn(move || (piece * 10..piece * 10 + 10).for_each(busy));
            crashed.push(Volume::of(&fs::read(disk.clone_now(&format!("crash{piece}"))).unwrap()));
            worker.join().unwrap();
        }
    });
    mounted.unmount();
    drop(disk);
    outer.unmount();
    for (number, crashed) in crashed.iter().enumerate() {
        let survey = crashed.survey();
        assert!(survey.partitions[0].allocated.get() < 60 << 20, "crash {number}: {survey:?}");
        let restored = round_trip(crashed, FreePolicy::Keep);
        assert_same(crashed, &restored, &format!("crash {number}"));
    }
}

#[test]
fn a_disk_whose_chunks_moved() {
    let disk = Volume::new(400, &["-m", "single"]);
    let Some(mounted) = Mount::new(&disk.path(), "") else { return };
    use_it(mounted.path());
    fs::write(mounted.path().join("large"), vec![1; 120 << 20]).unwrap();
    sync(mounted.path());
    let root = mounted.path().to_str().unwrap().to_owned();
    run("btrfs", &["balance", "start", "-f", "-mconvert=dup", "-sconvert=dup", &root]);
    fs::remove_file(mounted.path().join("large")).unwrap();
    run("btrfs", &["balance", "start", "-dusage=50", &root]);
    run("btrfs", &["filesystem", "resize", "-20m", &root]);
    mounted.unmount();
    let survey = disk.assert_exact("balanced and shrunk");
    assert_eq!(pairs(&survey.allocated).last(), Some(&(380 << 20, 400 << 20)));
    disk.check("the original");
}

/// The outside judge without a mount: with all we call free overwritten, `btrfs check` finds nothing.
#[test]
fn free_space_can_be_overwritten() {
    let sources = super::volume::files(60);
    let disk = Volume::new(MIB, &["-r", sources.path().to_str().unwrap()]);
    let free: Pairs = complement(&pairs(&disk.survey().allocated), MIB << 20);
    let file = fs::OpenOptions::new().write(true).open(disk.path()).unwrap();
    for (start, end) in free {
        file.write_all_at(&vec![0xA5; usize::try_from(end - start).unwrap()], start).unwrap();
    }
    disk.check("overwritten");
    let target = tempfile::tempdir().unwrap();
    run("btrfs", &["restore", &disk.text(), target.path().to_str().unwrap()]);
    assert!(tree(target.path()) == tree(sources.path()));
}
