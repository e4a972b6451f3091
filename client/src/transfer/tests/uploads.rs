//! Files on their way to a boss: what is sent, and what is not sent again.

use std::os::unix::fs::FileExt as _;

use sigs::Digest;

use super::fake_boss::{FakeBoss, Manner, TOKEN};
use super::*;
use crate::transfer::place::Address;

const PIECE: usize = 1 << 20;

/// A file of six pieces, one of them short and one of them there twice, and a boss that gets it.
struct Send {
    scene: Scene,
    boss: FakeBoss,
    bytes: Vec<u8>,
}

impl Send {
    fn of(bytes: Vec<u8>) -> Self {
        let scene = Scene { folder: tempfile::tempdir().unwrap() };
        fs::write(scene.path("file"), &bytes).unwrap();
        Self { scene, boss: FakeBoss::with(&[]), bytes }
    }

    fn new() -> Self {
        let mut bytes = noise(5 * PIECE + 99, 3);
        bytes.copy_within(PIECE..2 * PIECE, 3 * PIECE);
        Self::of(bytes)
    }

    fn begun(&self, options: Options) -> Transfer {
        let mut transfer = self.scene.shelf().create(options).unwrap();
        transfer.add_upload(&self.scene.path("file"), Address::new(&self.boss.url())).unwrap();
        transfer
    }

    fn run(&self, transfer: &mut Transfer) -> Result<(), TransferError> {
        transfer.run(Some(&self.boss.line()), &AtomicBool::new(false))
    }

    fn arrived(&self) -> bool {
        self.boss.known().objects.get(&Digest::of(&self.bytes)).is_some_and(|found| *found == self.bytes)
    }

    /// The pieces in order, each once.
    fn pieces(&self) -> Vec<Digest> {
        let mut pieces: Vec<_> = self.bytes.chunks(PIECE).map(Digest::of).collect();
        pieces.remove(3);
        pieces
    }

    fn sent(&self) -> Vec<Digest> {
        self.boss.known().sent.clone()
    }

    fn class(&self, transfer: &Transfer) -> String {
        match &transfer.state().verdict {
            Verdict::Failed { class, .. } => class.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_becomes_an_object_each_piece_sent_once() {
    let send = Send::new();
    send.boss.answer(usize::MAX, Manner::Honest);
    let mut transfer = send.begun(OPTIONS);
    // Adding it again is not twice; another file may go to the same place.
    transfer.add_upload(&send.scene.path("file"), Address::new(&format!("{}/", send.boss.url()))).unwrap();
    fs::write(send.scene.path("nothing"), b"").unwrap();
    transfer.add_upload(&send.scene.path("nothing"), Address::new(&send.boss.url())).unwrap();
    assert_eq!(transfer.state().items.len(), 2);
    send.run(&mut transfer).unwrap();
    assert!(send.arrived());
    assert_eq!(send.sent(), send.pieces());
    assert_eq!(send.boss.known().objects[&Digest::of(b"")], b"");
    let digests: Vec<_> = transfer.state().items.iter().map(|item| item.progress.clone()).collect();
    assert_eq!(digests, [&send.bytes[..], b""].map(|bytes| Progress::Stored { digest: Digest::of(bytes) }));
    let journal = fs::read(send.scene.journal(transfer.state().id)).unwrap();
    assert!(!journal.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes()));
    // What boss has is not sent.
    send.boss.answer(0, Manner::Hiding);
    send.run(&mut send.begun(OPTIONS)).unwrap();
    assert_eq!(send.sent(), []);
}

#[test]
fn what_arrived_before_a_cut_is_not_sent_again() {
    for (manner, class, code) in [(Manner::Breaking, "unreachable", 10), (Manner::Hiding, "no-space", 8)] {
        let send = Send::new();
        send.boss.answer(2, manner);
        let mut transfer = send.begun(OPTIONS);
        let error = send.run(&mut transfer).unwrap_err();
        assert!(matches!(&error, TransferError::Boss { source, .. } if source.exit_code() == code), "{error}");
        assert_eq!(send.class(&transfer), class);
        assert!(!send.arrived());
        send.boss.answer(usize::MAX, Manner::Honest);
        send.run(&mut transfer).unwrap();
        assert!(send.arrived());
        assert_eq!(send.sent(), send.pieces()[2..]);
    }
}

#[test]
fn what_boss_lost_is_sent_again_but_not_for_ever() {
    let send = Send::new();
    send.boss.answer(usize::MAX, Manner::Honest);
    send.boss.known().forgetting = 1;
    send.run(&mut send.begun(OPTIONS)).unwrap();
    assert!(send.arrived());
    assert_eq!(send.sent(), [send.pieces(), send.pieces()].concat());

    let send = Send::new();
    send.boss.answer(usize::MAX, Manner::Honest);
    send.boss.known().forgetting = usize::MAX;
    let error = send.run(&mut send.begun(OPTIONS)).unwrap_err();
    assert!(matches!(error, TransferError::Forgetful { .. }), "{error}");
}

#[test]
fn a_file_that_changed_meanwhile_is_an_error_and_never_an_object() {
    let send = Send::new();
    send.boss.answer(2, Manner::Breaking);
    let mut transfer = send.begun(OPTIONS);
    send.run(&mut transfer).unwrap_err();
    // Same size, same time of modification.
    let path = send.scene.path("file");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"other", 5 << 20).unwrap();
    file.set_modified(modified).unwrap();
    send.boss.answer(usize::MAX, Manner::Honest);
    let error = send.run(&mut transfer).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: Loss::SourceChanged, .. }), "{error}");
    assert!(send.sent().is_empty() && send.boss.known().objects.is_empty());
    fs::remove_file(path).unwrap();
    let error = send.run(&mut transfer).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: Loss::SourceGone, .. }), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_no_object() {
    let send = Send::new();
    send.boss.answer(usize::MAX, Manner::Honest);
    send.boss.known().spoiled = Some(send.scene.path("file"));
    let error = send.run(&mut send.begun(OPTIONS)).unwrap_err();
    assert!(matches!(error, TransferError::Lost { loss: Loss::SourceChanged, .. }), "{error}");
    assert!(send.boss.known().objects.is_empty());
}

#[test]
fn only_files_go_to_boss_and_their_sources_stay() {
    let send = Send::of(noise(10, 1));
    let address = || Address::new(&send.boss.url());
    fs::create_dir(send.scene.path("folder")).unwrap();
    let mut transfer = send.scene.shelf().create(OPTIONS).unwrap();
    for no_file in ["folder", "missing"] {
        assert!(matches!(transfer.add_upload(&send.scene.path(no_file), address()), Err(TransferError::Io { .. })));
    }
    let mut transfer = send.scene.shelf().create(Options { release_sources: true, ..OPTIONS }).unwrap();
    let refused = transfer.add_upload(&send.scene.path("file"), address());
    assert!(matches!(refused, Err(TransferError::NotReleasable { .. })));
}

/// Killed once boss got so many pieces, for every number there is.
#[test]
fn killed_after_any_piece_a_file_is_sent_by_resuming() {
    let send = Send::new();
    let count = send.pieces().len();
    for pieces in 1..=count {
        send.boss.known().objects.clear();
        send.boss.answer(usize::MAX, Manner::Honest);
        let transfer = send.begun(OPTIONS);
        let id = transfer.state().id;
        drop(transfer);
        kill_when(&send.scene.journal(id), Some(&send.boss.url()), || send.sent().len() >= pieces);
        let done = send.run(&mut send.scene.opened(id));
        done.unwrap_or_else(|error| panic!("killed after {pieces} pieces: {error}"));
        assert!(send.arrived());
        // The piece that was on its way at the kill may have come after the offer.
        assert!((count..=count + 1).contains(&send.sent().len()), "{} pieces were sent", send.sent().len());
    }
}

/// A crash right after the effect of the next record, for every record.
#[test]
fn cut_off_after_any_record_a_file_is_sent_by_resuming() {
    let send = Send::new();
    send.boss.answer(usize::MAX, Manner::Honest);
    let mut transfer = send.begun(OPTIONS);
    send.run(&mut transfer).unwrap();
    let id = transfer.state().id;
    drop(transfer);
    let records = Journal::peek(&send.scene.journal(id)).unwrap();
    assert_eq!(records.len(), 7, "{records:?}");
    for cut in 3..records.len() {
        for there in [true, false] {
            let was = send.boss.known().objects.remove(&Digest::of(&send.bytes)).unwrap();
            let stored = records[..cut].iter().any(|record| matches!(record, Record::Stored { .. }));
            if there || stored {
                send.boss.known().objects.insert(Digest::of(&was), was);
            }
            send.boss.answer(usize::MAX, Manner::Honest);
            send.scene.rewrite(id, &records[..cut]);
            let done = send.run(&mut send.scene.opened(id));
            done.unwrap_or_else(|error| panic!("cut after {:?}: {error}", records[cut - 1]));
            assert!(send.arrived(), "cut after {:?}", records[cut - 1]);
            assert_eq!(send.sent().is_empty(), there || stored);
        }
    }
}
