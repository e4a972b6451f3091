//! Objects of a boss: what arrives, what is asked for once more, and what is never believed.

use std::sync::atomic::Ordering;

use sigs::Digest;

use super::fake_boss::{FakeBoss, Manner, TOKEN};
use super::*;
use crate::transfer::place::{Address, Object};

const CHUNK: usize = 4 << 20;

/// A scene with a boss that has an object of ten chunks, the last one short.
struct Fetch {
    scene: Scene,
    boss: FakeBoss,
    bytes: Vec<u8>,
}

impl Fetch {
    fn of(bytes: Vec<u8>) -> Self {
        let scene = Scene { folder: tempfile::tempdir().unwrap() };
        Self { scene, boss: FakeBoss::with(&[&bytes]), bytes }
    }

    fn new() -> Self {
        Self::of(noise(9 * CHUNK + 777, 5))
    }

    fn begun(&self, options: Options) -> Transfer {
        let mut transfer = self.scene.shelf().create(options).unwrap();
        transfer.add_object(self.boss.object(&self.bytes), &self.scene.path("copy")).unwrap();
        transfer
    }

    fn run(&self, transfer: &mut Transfer) -> Result<(), TransferError> {
        transfer.run(Some(&self.boss.line()), &AtomicBool::new(false))
    }

    fn arrived(&self) -> bool {
        fs::read(self.scene.path("copy")).is_ok_and(|found| found == self.bytes)
    }

    /// The parts from a chunk on, each once.
    fn parts(&self, from: usize) -> Vec<(usize, usize)> {
        let starts = (from * CHUNK..self.bytes.len()).step_by(CHUNK);
        starts.map(|start| (start, (start + CHUNK).min(self.bytes.len()) - 1)).collect()
    }

    fn class(&self, transfer: &Transfer) -> String {
        match &transfer.state().verdict {
            Verdict::Failed { class, .. } => class.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_object_arrives_each_part_of_it_once_and_the_token_is_nowhere() {
    let fetch = Fetch::new();
    let mut transfer = fetch.begun(OPTIONS);
    fetch.run(&mut transfer).unwrap();
    assert!(fetch.arrived());
    assert_eq!(fetch.boss.asked(), fetch.parts(0));
    assert_eq!(fs::metadata(fetch.scene.path("copy")).unwrap().mode() & 0o777, 0o600, "it is nobody else's");
    assert!(fetch.boss.known().bearers.iter().all(|bearer| *bearer == format!("Bearer {TOKEN}")));
    let journal = fs::read(fetch.scene.journal(transfer.state().id)).unwrap();
    assert!(!journal.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes()));
    // Once done, it stays done, and nobody is asked.
    transfer.run(None, &AtomicBool::new(false)).unwrap();
}

#[test]
fn an_object_of_nothing_arrives_too_and_beside_what_is_local() {
    let fetch = Fetch::of(Vec::new());
    fetch.scene.fill(5000);
    let mut transfer = fetch.begun(Options { threads: 4, ..OPTIONS });
    transfer.add(&fetch.scene.path("from"), &fetch.scene.path("to")).unwrap();
    fetch.run(&mut transfer).unwrap();
    assert!(fetch.arrived());
    assert!(tree(&fetch.scene.path("to")) == tree(&fetch.scene.path("from")));
}

#[test]
fn what_breaks_off_is_asked_again_and_then_the_attempt_is_over() {
    let fetch = Fetch::new();
    let mut transfer = fetch.begun(OPTIONS);
    fetch.boss.answer(5, Manner::Breaking);
    let error = fetch.run(&mut transfer).unwrap_err();
    assert!(matches!(&error, TransferError::Boss { source, .. } if source.exit_code() == 10), "{error}");
    assert_eq!(fetch.class(&transfer), "unreachable");
    let asked = fetch.boss.asked();
    assert_eq!(asked[..5], fetch.parts(0)[..5]);
    assert_eq!(asked[5..], [fetch.parts(5)[0]; 3], "three times, and nothing else");
    assert!(!fetch.scene.path("copy").exists());
    // What arrived before is not fetched again.
    fetch.boss.answer(usize::MAX, Manner::Honest);
    fetch.run(&mut transfer).unwrap();
    assert!(fetch.arrived());
    assert_eq!(fetch.boss.asked(), fetch.parts(5));
}

#[test]
fn what_was_damaged_here_meanwhile_is_fetched_again_and_nothing_else() {
    let fetch = Fetch::new();
    let mut transfer = fetch.begun(OPTIONS);
    fetch.boss.answer(5, Manner::Breaking);
    fetch.run(&mut transfer).unwrap_err();
    let temporary = transfer.state().items[0].temporary(transfer.state().id, 0).unwrap();
    let mut content = fs::read(&temporary).unwrap();
    content[3 * CHUNK + 5] ^= 1;
    fs::write(&temporary, content).unwrap();
    fetch.boss.answer(usize::MAX, Manner::Honest);
    fetch.run(&mut transfer).unwrap();
    assert!(fetch.arrived());
    assert_eq!(fetch.boss.asked(), fetch.parts(3));
}

#[test]
fn a_boss_that_sends_other_bytes_is_found_out_before_they_have_a_name() {
    for honest in [0, 9] {
        let fetch = Fetch::new();
        let mut transfer = fetch.begun(OPTIONS);
        fetch.boss.answer(honest, Manner::Lying);
        let error = fetch.run(&mut transfer).unwrap_err();
        assert!(matches!(error, TransferError::WrongObject { .. }), "{error}");
        assert_eq!(fetch.class(&transfer), "corruption");
        assert!(!fetch.scene.path("copy").exists());
        // None of it is kept, and none of it is believed any more.
        let temporary = transfer.state().items[0].temporary(transfer.state().id, 0).unwrap();
        let left = fs::metadata(temporary).unwrap();
        assert_eq!((left.len(), left.blocks()), (0, 0));
        fetch.boss.answer(usize::MAX, Manner::Honest);
        fetch.run(&mut transfer).unwrap();
        assert!(fetch.arrived());
        assert_eq!(fetch.boss.asked(), fetch.parts(0));
    }
}

#[test]
fn an_answer_that_is_not_the_part_is_no_answer() {
    for (manner, class) in [
        (Manner::Whole, "refused"),
        (Manner::Beside, "refused"),
        (Manner::Grown, "refused"),
        (Manner::Hiding, "not-found"),
    ] {
        let fetch = Fetch::new();
        let mut transfer = fetch.begun(OPTIONS);
        fetch.boss.answer(2, manner);
        let error = fetch.run(&mut transfer).unwrap_err();
        assert!(matches!(error, TransferError::Boss { .. }), "{manner:?}: {error}");
        assert_eq!(fetch.class(&transfer), class, "{manner:?}");
        assert_eq!(fetch.boss.asked().len(), 3, "{manner:?}: it is not asked again");
        assert!(!fetch.scene.path("copy").exists());
        fetch.boss.answer(usize::MAX, Manner::Honest);
        fetch.run(&mut transfer).unwrap();
        assert!(fetch.arrived(), "{manner:?}");
        assert_eq!(fetch.boss.asked(), fetch.parts(2), "{manner:?}");
    }
}

#[test]
fn what_a_boss_does_not_have_is_told_before_anything_is_written() {
    let fetch = Fetch::new();
    fetch.scene.fill(5000);
    let mut transfer = fetch.begun(OPTIONS);
    transfer.add(&fetch.scene.path("from"), &fetch.scene.path("to")).unwrap();
    transfer.add_object(fetch.boss.object(b"nobody has this"), &fetch.scene.path("other")).unwrap();
    let error = fetch.run(&mut transfer).unwrap_err();
    assert!(matches!(&error, TransferError::Boss { source, .. } if source.exit_code() == 4), "{error}");
    assert!(!fetch.scene.path("to").exists() && !fetch.scene.path("copy").exists());
    assert_eq!(fetch.boss.asked(), []);
    // With nobody to ask, or somebody else, it does not begin either.
    let other = FakeBoss::with(&[]);
    for line in [None, Some(&other.line())] {
        let error = transfer.run(line, &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, TransferError::NoBoss { .. }), "{error}");
    }
}

#[test]
fn room_is_asked_for_before_the_first_byte_is() {
    let fetch = Fetch::new();
    let reserve = Some(room::Reserve::Bytes(sigs::ByteLen::new(u64::MAX)));
    let mut transfer = fetch.begun(Options { reserve, ..OPTIONS });
    let error = fetch.run(&mut transfer).unwrap_err();
    assert!(matches!(&error, TransferError::NoRoom { lack, .. } if lack.needed.get() > 9 << 22), "{error}");
    assert_eq!(fetch.boss.asked(), []);
}

#[test]
fn a_wait_for_a_boss_that_hangs_ends_when_somebody_asks() {
    for manner in [Manner::Hanging, Manner::Mumbling] {
        let fetch = Fetch::new();
        let mut transfer = fetch.begun(OPTIONS);
        fetch.boss.answer(1, manner);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| transfer.run(Some(&fetch.boss.line()), &stop));
            fetch.boss.wait_asked(2);
            stop.store(true, Ordering::Relaxed);
            assert!(matches!(running.join().unwrap(), Err(TransferError::Stopped)), "{manner:?}");
        });
        fetch.boss.answer(usize::MAX, Manner::Honest);
        fetch.run(&mut transfer).unwrap();
        assert_eq!(fetch.boss.asked(), fetch.parts(1), "{manner:?}: what came before the stop is durable");
    }
}

#[test]
fn what_only_a_boss_can_remove_is_not_of_a_transfer_that_removes_its_sources() {
    let fetch = Fetch::of(noise(10, 1));
    let mut transfer = fetch.scene.shelf().create(Options { release_sources: true, ..OPTIONS }).unwrap();
    let refused = transfer.add_object(fetch.boss.object(&fetch.bytes), &fetch.scene.path("copy"));
    assert!(matches!(refused, Err(TransferError::NotReleasable { .. })));
}

#[test]
fn what_could_never_be_fetched_is_not_added() {
    let fetch = Fetch::of(noise(10, 1));
    fs::write(fetch.scene.path("file"), b"x").unwrap();
    let elsewhere = Address::new("http://elsewhere");
    let mut transfer = fetch.begun(OPTIONS);
    let object = Object { boss: elsewhere.clone(), digest: Digest::of(b"x") };
    let refused = [
        transfer.add_object(object, &fetch.scene.path("other")),
        transfer.add_upload(&fetch.scene.path("file"), elsewhere),
    ];
    for refused in refused {
        assert!(matches!(&refused, Err(TransferError::SecondBoss { .. })), "{refused:?}");
    }
    assert_eq!(transfer.state().items.len(), 1);
    fetch.run(&mut transfer).unwrap();

    // And what the one who made a journal could not read any more.
    let id = fetch.scene.shelf().create(OPTIONS).unwrap().state().id;
    let path = fetch.scene.journal(id);
    let mut journal = fs::read(&path).unwrap();
    journal[8] = 1;
    fs::write(&path, &journal).unwrap();
    let mut transfer = fetch.scene.opened(id);
    let refused = [
        transfer.add_object(fetch.boss.object(&fetch.bytes), &fetch.scene.path("third")),
        transfer.add_upload(&fetch.scene.path("file"), Address::new(&fetch.boss.url())),
    ];
    for refused in refused {
        assert!(matches!(&refused, Err(TransferError::WrongPhase { .. })), "{refused:?}");
    }
    assert!(fs::read(&path).unwrap() == journal);
    transfer.add(&fetch.scene.path("file"), &fetch.scene.path("third")).unwrap();
    run(&mut transfer).unwrap();
}

/// Killed as soon as the journal has so many records, for every number there is. Where the victim is faster, nothing is
/// shown; the next test shows it for every record.
#[test]
fn killed_at_any_record_an_object_is_finished_by_resuming() {
    let fetch = Fetch::new();
    let mut whole = fetch.begun(OPTIONS);
    fetch.run(&mut whole).unwrap();
    let records = Journal::peek(&fetch.scene.journal(whole.state().id)).unwrap().len();
    let mut killed = 0;
    for at in 3..=records {
        fs::remove_file(fetch.scene.path("copy")).unwrap();
        let transfer = fetch.begun(OPTIONS);
        let id = transfer.state().id;
        drop(transfer);
        killed += usize::from(!kill_at(&fetch.scene.journal(id), Some(&fetch.boss.url()), at));
        // What has its name is whole, however early the kill came.
        assert!(fetch.arrived() || !fetch.scene.path("copy").exists());
        let done = fetch.run(&mut fetch.scene.opened(id));
        done.unwrap_or_else(|error| panic!("killed at record {at}: {error}"));
        assert!(fetch.arrived());
    }
    assert!(killed > 0, "it was never killed");
}

/// A crash right after the effect of the next record, for every record.
#[test]
fn cut_off_after_any_record_an_object_is_finished_by_resuming() {
    let fetch = Fetch::new();
    let mut transfer = fetch.begun(OPTIONS);
    fetch.run(&mut transfer).unwrap();
    let (id, item) = (transfer.state().id, transfer.state().items[0].clone());
    drop(transfer);
    let temporary = item.temporary(id, 0).unwrap();
    let records = Journal::peek(&fetch.scene.journal(id)).unwrap();
    let first = records.iter().position(|record| matches!(record, Record::Measured { .. })).unwrap();
    for cut in first + 1..records.len() {
        let named = matches!(
            State::of(&records[..cut]).unwrap().items[0].progress,
            Progress::Finalizing { .. } | Progress::Renamed { .. }
        );
        if !named {
            fs::rename(fetch.scene.path("copy"), &temporary).unwrap();
        }
        fetch.scene.rewrite(id, &records[..cut]);
        fetch.boss.answer(usize::MAX, Manner::Honest);
        let done = fetch.run(&mut fetch.scene.opened(id));
        done.unwrap_or_else(|error| panic!("cut after {:?}: {error}", records[cut - 1]));
        assert!(fetch.arrived() && !temporary.exists(), "cut after {:?}", records[cut - 1]);
        let complete = records[..cut].iter().any(|record| matches!(record, Record::DataComplete { .. }));
        assert!(!complete || fetch.boss.asked().is_empty(), "what is complete needs no boss");
    }
}
