//! Transfers as a whole: what arrives, and what is left when they are cut off at any record.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::journal::Journal;
use super::record::{Options, Record};
use super::*;

const OPTIONS: Options = Options { threads: 1, release_sources: false };

/// Bytes that are not the same anywhere.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        let source = scene.path("from");
        fs::create_dir_all(source.join("deep/empty")).unwrap();
        fs::write(source.join("large"), noise(9 << 20, 1)).unwrap();
        fs::write(source.join("deep/small"), noise(700, 2)).unwrap();
        fs::write(source.join("deep/none"), b"").unwrap();
        std::os::unix::fs::symlink("../large", source.join("deep/link")).unwrap();
        fs::set_permissions(source.join("large"), fs::Permissions::from_mode(0o440)).unwrap();
        fs::set_permissions(source.join("deep/empty"), fs::Permissions::from_mode(0o500)).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shelf(&self) -> Shelf {
        Shelf::open(&self.path("journals")).unwrap()
    }

    fn begun(&self, options: Options) -> Transfer {
        let mut transfer = self.shelf().create(options).unwrap();
        transfer.add(&self.path("from"), &self.path("to")).unwrap();
        transfer
    }
}

/// Everything of a tree that a transfer is to keep.
fn tree(path: &Path) -> Vec<(PathBuf, String, Vec<u8>)> {
    let mut found = Vec::new();
    source::walk(path, Path::new(""), &mut |from, name, kind| {
        let metadata = fs::symlink_metadata(from)?;
        let content = match kind {
            record::ItemKind::File => fs::read(from)?,
            record::ItemKind::Link => fs::read_link(from)?.into_os_string().into_encoded_bytes(),
            record::ItemKind::Directory => Vec::new(),
        };
        let times = if kind == record::ItemKind::Link { 0 } else { metadata.mtime_nsec() };
        found.push((name.to_owned(), format!("{kind:?} {:o} {times}", metadata.mode()), content));
        Ok(())
    })
    .unwrap();
    found
}

fn run(transfer: &mut Transfer) -> Result<(), TransferError> {
    transfer.run(&AtomicBool::new(false))
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
        fs::set_permissions(scene.path("to/deep/empty"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(scene.path("to")).unwrap();
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

/// Cuts the journal of a finished transfer after every record, which is what a crash right after the effect of the next
/// record leaves, and resumes it.
#[test]
fn cut_off_after_any_record_with_its_effects_done_it_is_finished_by_resuming() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    let mut transfer = scene.begun(OPTIONS);
    run(&mut transfer).unwrap();
    let id = transfer.state().id;
    drop(transfer);
    let path = scene.path("journals").join(format!("{id}.journal"));
    let records = Journal::peek(&path).unwrap();
    let first = records.iter().position(|record| matches!(record, Record::Dispatched { .. })).unwrap();
    for cut in first + 1..records.len() {
        // The files whose renaming is not recorded either have their names by now, or lack them with what was to be
        // renamed; of the latter this run has nothing left, so they are begun again.
        let known = State::of(&records[..cut]).unwrap();
        for item in known.items.iter().filter(|item| item.kind == record::ItemKind::File) {
            let finalizing = matches!(item.progress, state::Progress::Finalizing { .. } | state::Progress::Renamed);
            if !finalizing && item.destination.as_path().exists() {
                fs::remove_file(item.destination.as_path()).unwrap();
            }
        }
        fs::remove_file(&path).unwrap();
        let mut journal = Journal::create(&path, &records[0]).unwrap();
        records[1..cut].iter().for_each(|record| journal.append(record).unwrap());
        drop(journal);
        let mut transfer = scene.shelf().transfer(id).unwrap();
        run(&mut transfer).unwrap_or_else(|error| panic!("cut after {:?}: {error}", records[cut - 1]));
        assert!(tree(&scene.path("to")) == before, "cut after {:?}", records[cut - 1]);
    }
}

#[test]
fn a_source_that_changes_is_an_error_and_never_a_mix() {
    let scene = Scene::new();
    let mut transfer = scene.begun(OPTIONS);
    // Stopped before its first file: directories are sealed by then, files are not.
    let id = transfer.state().id;
    run(&mut transfer).unwrap();
    drop(transfer);
    let path = scene.path("journals").join(format!("{id}.journal"));
    let records = Journal::peek(&path).unwrap();
    let chunks = records.iter().position(|record| matches!(record, Record::Chunks { .. })).unwrap();
    fs::remove_file(&path).unwrap();
    let mut journal = Journal::create(&path, &records[0]).unwrap();
    records[1..=chunks].iter().for_each(|record| journal.append(record).unwrap());
    drop(journal);
    let state = scene.shelf().status(id).unwrap();
    let item = state
        .items
        .iter()
        .find(|item| matches!(&item.progress, state::Progress::Sealed { chunks } if !chunks.is_empty()));
    let item = item.unwrap();
    fs::remove_file(item.destination.as_path()).unwrap();
    // Same size, same time of modification: only the time of change tells.
    let source = item.source.as_path();
    let modified = fs::metadata(source).unwrap().modified().unwrap();
    let mut content = fs::read(source).unwrap();
    content[0] ^= 1;
    fs::set_permissions(source, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(source, content).unwrap();
    fs::File::options().write(true).open(source).unwrap().set_modified(modified).unwrap();
    let mut transfer = scene.shelf().transfer(id).unwrap();
    let error = run(&mut transfer).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: recover::Loss::SourceChanged, .. }), "{error}");
    assert!(!item.destination.as_path().exists());
    assert!(matches!(&transfer.state().verdict, Verdict::Failed { class, .. } if class == "lost"));
}

#[test]
fn what_is_in_the_way_is_not_overwritten() {
    let scene = Scene::new();
    fs::create_dir(scene.path("to")).unwrap();
    fs::write(scene.path("to/large"), b"mine").unwrap();
    let mut transfer = scene.begun(OPTIONS);
    let error = run(&mut transfer).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: recover::Loss::InTheWay, .. }), "{error}");
    assert_eq!(fs::read(scene.path("to/large")).unwrap(), b"mine");
    // Once it is out of the way, the transfer goes on.
    fs::remove_file(scene.path("to/large")).unwrap();
    run(&mut transfer).unwrap();
    assert!(tree(&scene.path("to")) == tree(&scene.path("from")));
}

#[test]
fn a_damaged_temporary_file_is_never_given_its_name() {
    let scene = Scene::new();
    let mut transfer = scene.begun(OPTIONS);
    let id = transfer.state().id;
    run(&mut transfer).unwrap();
    drop(transfer);
    let path = scene.path("journals").join(format!("{id}.journal"));
    let records = Journal::peek(&path).unwrap();
    let complete = records.iter().rposition(|record| matches!(record, Record::DataComplete { .. })).unwrap();
    let Record::DataComplete { item, .. } = records[complete] else { unreachable!() };
    fs::remove_file(&path).unwrap();
    let mut journal = Journal::create(&path, &records[0]).unwrap();
    records[1..=complete].iter().for_each(|record| journal.append(record).unwrap());
    drop(journal);
    let state = scene.shelf().status(id).unwrap();
    let destination = state.items[usize::try_from(item).unwrap()].destination.as_path().to_owned();
    let temporary = destination.parent().unwrap().join(run::temporary_name(id, item));
    let mut content = fs::read(&destination).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::remove_file(&destination).unwrap();
    fs::write(&temporary, content).unwrap();
    let mut transfer = scene.shelf().transfer(id).unwrap();
    assert!(matches!(run(&mut transfer).unwrap_err(), TransferError::WrongContent { .. }));
    assert!(!destination.exists());
    run(&mut transfer).unwrap();
    assert!(tree(&scene.path("to")) == tree(&scene.path("from")));
}

#[test]
fn a_cancelled_transfer_leaves_no_part_and_all_sources() {
    let scene = Scene::new();
    let before = tree(&scene.path("from"));
    let mut transfer = scene.begun(OPTIONS);
    assert!(matches!(transfer.run(&AtomicBool::new(true)).unwrap_err(), TransferError::Cancelled));
    transfer.cancel().unwrap();
    assert!(matches!(run(&mut transfer).unwrap_err(), TransferError::WrongPhase { .. }));
    assert!(tree(&scene.path("from")) == before);
}

#[test]
fn unreadable_journals_are_listed_and_can_be_forgotten() {
    let scene = Scene::new();
    let shelf = scene.shelf();
    let id = scene.begun(OPTIONS).state().id;
    let other = scene.begun(OPTIONS);
    fs::write(scene.path("journals").join(format!("{id}.journal")), b"nonsense").unwrap();
    let listed = shelf.list().unwrap();
    assert!(listed.len() == 2 && listed[0].id == id && listed[0].state.is_err() && listed[1].state.is_ok());
    assert!(shelf.transfer(id).is_err());
    shelf.forget(id).unwrap();
    // Another process works on this one.
    assert!(shelf.forget(other.state().id).is_err());
    assert_eq!(shelf.list().unwrap().len(), 1);
}
