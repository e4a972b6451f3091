//! Transfers as a whole: what arrives, and what is left when they are cut off at any record.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::journal::Journal;
use super::record::{ItemKind, Options, Record};
use super::state::{Item, Progress};
use super::*;

const OPTIONS: Options = Options { threads: 1, release_sources: false, limit: None, reserve: None };
/// Makes this program the process that is killed: the shelf and the transfer to go on with.
const VICTIM: &str = "EBB_TEST_TRANSFER_VICTIM";
/// Which boss it asks, if any.
const VICTIMS_BOSS: &str = "EBB_TEST_TRANSFER_BOSS";

mod fake_boss;
mod objects;
mod uploads;

/// Bytes that are not the same anywhere.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(next());
    }
    bytes.truncate(len);
    bytes
}

fn from(item: &Item) -> &Path {
    item.source.path().unwrap()
}

fn to(item: &Item) -> &Path {
    item.destination.path().unwrap()
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        scene.fill(9 << 20);
        scene
    }

    /// Makes the tree that is transferred; its largest file has so many bytes.
    fn fill(&self, large: usize) {
        let source = self.path("from");
        fs::create_dir_all(source.join("deep/empty")).unwrap();
        fs::write(source.join("large"), noise(large, 1)).unwrap();
        fs::write(source.join("deep/small"), noise(700, 2)).unwrap();
        fs::hard_link(source.join("deep/small"), source.join("deep/the same")).unwrap();
        fs::write(source.join("deep/none"), b"").unwrap();
        std::os::unix::fs::symlink("../large", source.join("deep/link")).unwrap();
        fs::set_permissions(source.join("large"), fs::Permissions::from_mode(0o440)).unwrap();
        fs::set_permissions(source.join("deep/empty"), fs::Permissions::from_mode(0o500)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shelf(&self) -> Shelf {
        Shelf::open(&self.path("journals")).unwrap()
    }

    fn journal(&self, id: Uuid) -> PathBuf {
        self.path("journals").join(format!("{id}.journal"))
    }

    fn begun(&self, options: Options) -> Transfer {
        let mut transfer = self.shelf().create(options).unwrap();
        transfer.add(&self.path("from"), &self.path("to")).unwrap();
        transfer
    }

    /// Does a whole transfer; returns its records.
    fn finished(&self) -> (Uuid, Vec<Record>) {
        let mut transfer = self.begun(OPTIONS);
        run(&mut transfer).unwrap();
        let id = transfer.state().id;
        drop(transfer);
        (id, Journal::peek(&self.journal(id)).unwrap())
    }

    /// Puts another journal in the place of one.
    fn rewrite(&self, id: Uuid, records: &[Record]) {
        let path = self.journal(id);
        fs::remove_file(&path).unwrap();
        let mut journal = Journal::create(&path, &records[0]).unwrap();
        records[1..].iter().for_each(|record| journal.append(record).unwrap());
    }

    fn opened(&self, id: Uuid) -> Transfer {
        opened(&self.shelf(), id)
    }

    fn resume(&self, id: Uuid) -> Result<(), TransferError> {
        run(&mut self.opened(id))
    }

    fn remove_target(&self) {
        let to = self.path("to");
        if to.exists() {
            fs::remove_dir_all(to).unwrap();
        }
    }
}

/// Opens a transfer that nobody works on. A process that another test is starting has copies of all open files until it
/// is the program it becomes, and with them for that long the lock of a journal that was closed here.
fn opened(shelf: &Shelf, id: Uuid) -> Transfer {
    for _ in 0..10_000_000 {
        match shelf.transfer(id) {
            Err(TransferError::Journal(error)) if matches!(*error, JournalError::Locked { .. }) => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("the journal stays locked");
}

/// Everything of a tree that a transfer is to keep.
fn tree(path: &Path) -> Vec<(PathBuf, String, Vec<u8>)> {
    let mut found = Vec::new();
    source::walk(path, Path::new(""), &mut |from, name, kind| {
        let metadata = fs::symlink_metadata(from)?;
        let content = match kind {
            ItemKind::File => fs::read(from)?,
            ItemKind::Link => fs::read_link(from)?.into_os_string().into_encoded_bytes(),
            ItemKind::Directory => Vec::new(),
        };
        let times = if kind == ItemKind::Link { 0 } else { metadata.mtime_nsec() };
        found.push((name.to_owned(), format!("{kind:?} {:o} {times}", metadata.mode()), content));
        Ok(())
    })
    .unwrap();
    found
}

fn run(transfer: &mut Transfer) -> Result<(), TransferError> {
    transfer.run(None, &AtomicBool::new(false))
}

#[test]
fn a_tree_arrives_with_its_metadata_and_stays_at_its_source() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    for threads in [1, 4] {
        let mut transfer = scene.begun(Options { threads, ..OPTIONS });
        run(&mut transfer).unwrap();
        assert!(tree(&scene.path("to")) == before);
        assert_eq!(transfer.state().phase, Phase::Closed);
        // Once done, it stays done.
        run(&mut transfer).unwrap();
        scene.remove_target();
    }
    assert!(tree(&scene.path("from")) == before);
}

#[test]
fn sources_go_when_everything_arrived() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    let mut transfer = scene.begun(Options { release_sources: true, ..OPTIONS });
    run(&mut transfer).unwrap();
    assert!(tree(&scene.path("to")) == before);
    assert!(!scene.path("from").exists());
}

/// Of a file with several names the time of change says nothing once another name was removed: its content decides.
#[test]
fn a_source_with_several_names_that_changed_after_it_arrived_stays() {
    let scene = Scene::new();
    let (id, mut records) = scene.finished();
    records[0] = Record::Created { id, options: Options { release_sources: true, ..OPTIONS } };
    assert_eq!(records.pop(), Some(Record::Closed));
    scene.rewrite(id, &records);
    let source = scene.path("from/deep/small");
    let modified = fs::metadata(&source).unwrap().modified().unwrap();
    let put_back = |content: &[u8]| {
        fs::write(&source, content).unwrap();
        fs::File::options().write(true).open(&source).unwrap().set_modified(modified).unwrap();
    };
    let (whole, mut other) = (fs::read(&source).unwrap(), fs::read(&source).unwrap());
    other[0] ^= 1;
    put_back(&other);
    let error = scene.resume(id).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: Loss::SourceChanged, .. }), "{error}");
    assert!(fs::read(&source).unwrap() == other);
    put_back(&whole);
    scene.resume(id).unwrap();
    assert!(!scene.path("from").exists());
}

/// Cuts the journal of a finished transfer after every record, which is what a crash right after the effect of the next
/// record leaves, and resumes it.
#[test]
fn cut_off_after_any_record_with_its_effects_done_it_is_finished_by_resuming() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    let (id, records) = scene.finished();
    let first = records.iter().position(|record| matches!(record, Record::Dispatched { .. })).unwrap();
    for cut in first + 1..records.len() {
        // Files that are about to be renamed may have their names by now. The others have none yet, and this run has
        // nothing left of what they were made in, so they are begun again.
        let known = State::of(&records[..cut]).unwrap();
        for item in known.items.iter().filter(|item| item.kind == ItemKind::File) {
            let named = matches!(item.progress, Progress::Finalizing { .. } | Progress::Renamed { .. });
            if !named && to(item).exists() {
                fs::remove_file(to(item)).unwrap();
            }
        }
        scene.rewrite(id, &records[..cut]);
        scene.resume(id).unwrap_or_else(|error| panic!("cut after {:?}: {error}", records[cut - 1]));
        assert!(tree(&scene.path("to")) == before, "cut after {:?}", records[cut - 1]);
    }
}

/// Not a test of its own: the process that the next one kills. Without its variable it has nothing to do.
#[test]
fn the_victim_of_a_kill() {
    let Some(what) = std::env::var_os(VICTIM) else { return };
    let path = PathBuf::from(what);
    let id = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let shelf = Shelf::open(path.parent().unwrap()).unwrap();
    let runtime = fake_boss::runtime();
    let line = std::env::var(VICTIMS_BOSS).ok().map(|url| fake_boss::line(&url, &runtime));
    opened(&shelf, id).run(line.as_ref(), &AtomicBool::new(false)).unwrap();
}

/// Kills a process that transfers as soon as its journal has so many records; returns whether it came to its end first.
fn kill_at(journal: &Path, boss: Option<&str>, records: usize) -> bool {
    kill_when(journal, boss, || Journal::peek(journal).unwrap().len() >= records)
}

/// Kills a process that transfers as soon as something is so; returns whether it came to its end first.
fn kill_when(journal: &Path, boss: Option<&str>, is_so: impl Fn() -> bool) -> bool {
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "transfer::tests::the_victim_of_a_kill"]).env(VICTIM, journal);
    victim.envs(boss.map(|url| (VICTIMS_BOSS, url)));
    let mut victim = victim.stdout(std::process::Stdio::null()).spawn().unwrap();
    loop {
        if let Some(status) = victim.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        if is_so() {
            victim.kill().unwrap();
            let status = victim.wait().unwrap();
            return status.signal().is_none();
        }
        std::thread::yield_now();
    }
}

fn kill_at_every_record(scene: &Scene, options: Options, prepare: impl Fn(), check: impl Fn(&State)) {
    let (mut at, mut killed) = (0, 0);
    loop {
        prepare();
        let transfer = scene.begun(options);
        let id = transfer.state().id;
        let created = Journal::peek(&scene.journal(id)).unwrap().len();
        drop(transfer);
        at = at.max(created) + 1;
        if kill_at(&scene.journal(id), None, at) {
            break;
        }
        killed += 1;
        check(&scene.shelf().look(id).unwrap().state);
        scene.resume(id).unwrap_or_else(|error| panic!("killed at record {at}: {error}"));
        check(&scene.shelf().look(id).unwrap().state);
    }
    assert!(killed > 20, "it was killed only {killed} times");
}

#[test]
fn killed_at_any_record_it_is_finished_by_resuming() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    let check = |state: &State| {
        // What has its name is whole, however early the kill came.
        for item in state.items.iter().filter(|item| item.kind == ItemKind::File) {
            if let Ok(found) = fs::read(to(item)) {
                assert!(found == fs::read(from(item)).unwrap(), "{:?}", item.destination);
            }
        }
        assert!(state.phase != Phase::Closed || tree(&scene.path("to")) == before);
    };
    kill_at_every_record(&scene, OPTIONS, || scene.remove_target(), check);
}

#[test]
fn killed_while_sources_are_removed_nothing_is_lost() {
    let scene = Scene { folder: tempfile::tempdir().unwrap() };
    let prepare = || {
        scene.remove_target();
        if scene.path("from").exists() {
            fs::remove_dir_all(scene.path("from")).unwrap();
        }
        scene.fill(5000);
    };
    let check = |state: &State| {
        let whole = |path: &Path, name: &str| {
            let len = if name == "large" { 5000 } else { 700 };
            fs::read(path.join(name)).is_ok_and(|found| found.len() == len)
        };
        for name in ["large", "deep/small", "deep/the same"] {
            assert!(whole(&scene.path("from"), name) || whole(&scene.path("to"), name), "{name} is lost");
        }
        assert!(state.phase != Phase::Closed || !scene.path("from").exists());
    };
    kill_at_every_record(&scene, Options { release_sources: true, ..OPTIONS }, prepare, check);
}

#[test]
fn a_source_that_changes_is_an_error_and_never_a_mix() {
    let scene = Scene::new();
    let (id, records) = scene.finished();
    let chunks = records.iter().position(|record| matches!(record, Record::Chunks { .. })).unwrap();
    scene.rewrite(id, &records[..=chunks]);
    let state = scene.shelf().look(id).unwrap().state;
    let begun = |item: &&Item| matches!(&item.progress, Progress::Sealed { chunks } if !chunks.is_empty());
    let item = state.items.iter().find(begun).unwrap();
    fs::remove_file(to(item)).unwrap();
    // Same size, same time of modification: only the time of change tells.
    let source = from(item);
    let modified = fs::metadata(source).unwrap().modified().unwrap();
    let mut content = fs::read(source).unwrap();
    content[0] ^= 1;
    fs::set_permissions(source, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(source, content).unwrap();
    fs::File::options().write(true).open(source).unwrap().set_modified(modified).unwrap();
    let error = scene.resume(id).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: Loss::SourceChanged, .. }), "{error}");
    assert!(!to(item).exists());
    let verdict = scene.shelf().look(id).unwrap().state.verdict;
    assert!(matches!(&verdict, Verdict::Failed { class, .. } if class == "lost"), "{verdict:?}");
}

#[test]
fn what_is_in_the_way_is_not_overwritten() {
    let scene = Scene::new();
    fs::create_dir(scene.path("to")).unwrap();
    fs::write(scene.path("to/large"), b"mine").unwrap();
    let mut transfer = scene.begun(OPTIONS);
    let error = run(&mut transfer).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: Loss::InTheWay, .. }), "{error}");
    assert_eq!(fs::read(scene.path("to/large")).unwrap(), b"mine");
    // Once it is out of the way, the transfer goes on.
    fs::remove_file(scene.path("to/large")).unwrap();
    run(&mut transfer).unwrap();
    assert!(tree(&scene.path("to")) == tree(&scene.path("from")));
}

#[test]
fn a_damaged_temporary_file_is_never_given_its_name() {
    let scene = Scene::new();
    let (id, records) = scene.finished();
    let complete = records.iter().rposition(|record| matches!(record, Record::DataComplete { .. })).unwrap();
    let Record::DataComplete { item, .. } = records[complete] else { unreachable!() };
    scene.rewrite(id, &records[..=complete]);
    let state = scene.shelf().look(id).unwrap().state;
    let found = &state.items[usize::try_from(item).unwrap()];
    let (destination, temporary) = (to(found), found.temporary(id, item).unwrap());
    let mut content = fs::read(destination).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::remove_file(destination).unwrap();
    fs::write(&temporary, content).unwrap();
    assert!(matches!(scene.resume(id).unwrap_err(), TransferError::WrongContent { .. }));
    assert!(!destination.exists());
    scene.resume(id).unwrap();
    assert!(tree(&scene.path("to")) == tree(&scene.path("from")));
}

#[test]
fn a_cancelled_transfer_leaves_no_part_and_all_sources() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    let mut transfer = scene.begun(OPTIONS);
    assert!(matches!(transfer.run(None, &AtomicBool::new(true)).unwrap_err(), TransferError::Stopped));
    transfer.cancel().unwrap();
    assert!(matches!(run(&mut transfer).unwrap_err(), TransferError::WrongPhase { .. }));
    assert!(tree(&scene.path("from")) == before);
}

#[test]
fn a_cancelling_that_was_cut_off_is_not_resumed_but_finished() {
    let scene = Scene::new();
    let (id, records) = scene.finished();
    scene.remove_target();
    let chunks = records.iter().position(|record| matches!(record, Record::Chunks { .. })).unwrap();
    scene.rewrite(id, &[&records[..=chunks], &[Record::Cancelled]].concat());
    let mut transfer = scene.opened(id);
    assert!(matches!(run(&mut transfer).unwrap_err(), TransferError::WrongPhase { .. }));
    assert!(!scene.path("to").exists());
    transfer.cancel().unwrap();
    assert_eq!(transfer.state().phase, Phase::Closed);
}

#[test]
fn a_record_that_does_not_fit_is_not_written() {
    let scene = Scene::new();
    let mut transfer = scene.begun(OPTIONS);
    let before = Journal::peek(&scene.journal(transfer.state().id)).unwrap();
    assert!(matches!(transfer.desk.record(&Record::Committed).unwrap_err(), TransferError::Defect { .. }));
    assert!(Journal::peek(&scene.journal(transfer.state().id)).unwrap() == before);
}

#[test]
fn unreadable_journals_are_listed_and_can_be_forgotten() {
    let scene = Scene::new();
    let shelf = scene.shelf();
    let id = scene.begun(OPTIONS).state().id;
    let other = scene.begun(OPTIONS);
    fs::write(scene.journal(id), b"nonsense").unwrap();
    let listed = shelf.list().unwrap();
    assert!(listed.len() == 2 && listed[0].id == id && listed[0].seen.is_err() && listed[1].seen.is_ok());
    assert!(shelf.transfer(id).is_err());
    shelf.forget(id).unwrap();
    // Another process works on this one.
    assert!(shelf.forget(other.state().id).is_err());
    assert_eq!(shelf.list().unwrap().len(), 1);
}
