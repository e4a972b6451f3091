//! What arrives is kept, found again, and never changed once it is an image.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boss::store::{Gate, ImageStore as _, LocalStore, Put, Room, Staging, StoreError};
use boss_api::ids::CaptureId;
use boss_model::term::Standing;
use sigs::zdi::Container;
use sigs::{ByteLen, Digest};
use uuid::Uuid;

use crate::agent::Upload;

fn room_of(state: &Path) -> Arc<Room> {
    Arc::new(Room::of(state))
}

fn capture() -> CaptureId {
    CaptureId::new(Uuid::now_v7())
}

fn gate(state: &Path) -> Arc<Gate> {
    Gate::raise(state, Standing::default()).unwrap()
}

fn open_store(state: &Path) -> LocalStore {
    LocalStore::open(state, gate(state)).unwrap()
}

fn open_staging(state: &Path) -> Staging {
    Staging::open(state, room_of(state), gate(state)).unwrap()
}

fn put_all(staging: &Staging, capture: CaptureId, upload: &Upload) {
    for (digest, bytes) in &upload.frames {
        staging.put_frame(capture, *digest, bytes).unwrap();
    }
}

#[tokio::test]
async fn a_finished_upload_becomes_an_image_and_no_late_frame_reaches_it() {
    let state = tempfile::tempdir().unwrap();
    let (store, staging) = (open_store(state.path()), open_staging(state.path()));
    let (capture, upload) = (capture(), Upload::delta());
    assert_eq!(staging.finish(capture, &upload.contents).unwrap(), None, "nothing arrived");
    put_all(&staging, capture, &upload);
    let finished = staging.finish(capture, &upload.contents).unwrap().unwrap();
    assert_eq!(staging.finish(capture, &upload.contents).unwrap().unwrap(), finished, "repeatable");
    staging.hand_over(&store, &finished).await.unwrap();
    let before = fs::read(store.path_of(finished.digest).unwrap()).unwrap();
    assert_eq!(Digest::of(&before), finished.digest);
    Container::open(before.clone()).unwrap();
    // Another attempt begins anew; its frames go elsewhere.
    put_all(&staging, capture, &upload);
    staging.put_frame(capture, Digest::of(b"more"), b"more").unwrap();
    assert_eq!(fs::read(store.path_of(finished.digest).unwrap()).unwrap(), before);
    // A boss that died after the hand-over finds it done.
    let again = open_staging(state.path());
    let repeated = again.finish(capture, &upload.contents).unwrap().unwrap();
    again.hand_over(&store, &repeated).await.unwrap();
    again.discard(capture).unwrap();
    assert_eq!(fs::read_dir(state.path().join("store/staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_object_that_went_bad_makes_way_for_what_arrives() {
    let state = tempfile::tempdir().unwrap();
    let (store, staging) = (open_store(state.path()), open_staging(state.path()));
    let upload = Upload::delta();
    for damaged in [false, true] {
        let capture = capture();
        put_all(&staging, capture, &upload);
        let finished = staging.finish(capture, &upload.contents).unwrap().unwrap();
        let object = store.path_of(finished.digest).unwrap();
        if damaged {
            let mut bytes = fs::read(&object).unwrap();
            bytes[70] ^= 1;
            fs::remove_file(&object).unwrap();
            fs::write(&object, bytes).unwrap();
        }
        staging.hand_over(&store, &finished).await.unwrap();
        assert_eq!(Digest::of(&fs::read(&object).unwrap()), finished.digest);
        staging.discard(capture).unwrap();
    }
    assert_eq!(fs::read_dir(state.path().join("store/aside")).unwrap().count(), 1, "the damaged one can be looked at");
}

#[tokio::test]
async fn frames_that_are_not_used_are_left_out() {
    let state = tempfile::tempdir().unwrap();
    let staging = open_staging(state.path());
    let (capture, upload) = (capture(), Upload::delta());
    staging.put_frame(capture, Digest::of(b"of an older attempt"), b"of an older attempt").unwrap();
    put_all(&staging, capture, &upload);
    let finished = staging.finish(capture, &upload.contents).unwrap().unwrap();
    let image = Container::open(fs::read(&finished.path).unwrap()).unwrap();
    assert_eq!(image.contents(), &upload.contents);
    let mut frame = Vec::new();
    image.read_frame(0, &mut frame).unwrap();
    assert_eq!(frame, upload.frames[0].1);
}

#[test]
fn a_frame_that_is_damaged_on_the_medium_is_lacking_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (capture, upload) = (capture(), Upload::delta());
    let staging = open_staging(state.path());
    put_all(&staging, capture, &upload);
    // The last one is read back when the files are opened; the damaged one is another.
    staging.put_frame(capture, Digest::of(b"more"), b"more").unwrap();
    drop(staging);
    let data = state.path().join(format!("store/staging/{capture}.zdi"));
    let mut bytes = fs::read(&data).unwrap();
    bytes[64] ^= 1;
    fs::write(&data, bytes).unwrap();
    let digests: Vec<_> = upload.frames.iter().map(|(digest, _)| *digest).collect();
    let again = open_staging(state.path());
    assert_eq!(again.finish(capture, &upload.contents).unwrap(), None, "also when nobody asked for it before");
    assert_eq!(again.lacking(capture, &digests).unwrap(), digests[..1], "and the others are there");
    put_all(&again, capture, &upload);
    // What came again is found, and not what lies before it.
    let again = open_staging(state.path());
    assert_eq!(again.lacking(capture, &digests).unwrap(), []);
    let finished = again.finish(capture, &upload.contents).unwrap().unwrap();
    assert_eq!(Container::open(fs::read(&finished.path).unwrap()).unwrap().contents(), &upload.contents);
}

fn put_pieces(staging: &Staging, object: Digest, pieces: &[&[u8]]) {
    for piece in pieces {
        staging.put_frame(object, Digest::of(piece), piece).unwrap();
    }
}

#[tokio::test]
async fn pieces_become_the_object_whatever_order_they_came_in() {
    let (a, b, c) = (vec![1; 70_000], vec![2; 4096], vec![3; 5]);
    let [a, b, c] = [&a[..], &b, &c];
    for (whole, sent) in [
        (vec![a, b, c], vec![a, b, c]),
        (vec![a, b, c], vec![c, a, b]),
        (vec![a, b, a, a, c], vec![a, b, c]),
        (vec![b], vec![a, b, c]),
        (vec![], vec![]),
    ] {
        let state = tempfile::tempdir().unwrap();
        let (store, staging) = (open_store(state.path()), open_staging(state.path()));
        let bytes = whole.concat();
        let object = Digest::of(&bytes);
        let pieces: Vec<_> = whole.iter().map(|piece| Digest::of(piece)).collect();
        if !pieces.is_empty() {
            assert_eq!(staging.finish_object(object, &pieces).unwrap(), None, "nothing arrived");
        }
        put_pieces(&staging, object, &sent);
        let finished = staging.finish_object(object, &pieces).unwrap().unwrap();
        assert_eq!(staging.finish_object(object, &pieces).unwrap().unwrap(), finished, "repeatable");
        staging.hand_over(&store, &finished).await.unwrap();
        assert_eq!(fs::read(store.path_of(object).unwrap()).unwrap(), bytes);
        // Handed over and removed since, it arrives anew.
        store.delete(object).await.unwrap();
        put_pieces(&staging, object, &sent);
        let again = staging.finish_object(object, &pieces).unwrap();
        if let Some(again) = again {
            staging.hand_over(&store, &again).await.unwrap();
        } else {
            put_pieces(&staging, object, &sent);
            staging.hand_over(&store, &staging.finish_object(object, &pieces).unwrap().unwrap()).await.unwrap();
        }
        assert_eq!(fs::read(store.path_of(object).unwrap()).unwrap(), bytes);
        staging.discard(object).unwrap();
        assert_eq!(fs::read_dir(state.path().join("store/staging")).unwrap().count(), 0);
    }
}

#[test]
fn pieces_that_are_not_the_object_stay_and_the_right_ones_are_taken() {
    let state = tempfile::tempdir().unwrap();
    let staging = open_staging(state.path());
    let (a, b, c) = (vec![1; 9000], vec![2; 4096], vec![3; 5]);
    let bytes = [&a[..], &b, &c].concat();
    let (object, digests) = (Digest::of(&bytes), [&a, &b, &c].map(|piece| Digest::of(piece)));
    put_pieces(&staging, object, &[&a, &b]);
    for wrong in [&digests[..2], &[digests[1], digests[0]]] {
        let refused = staging.finish_object(object, wrong);
        assert!(matches!(refused, Err(StoreError::WrongDigest { .. })), "{refused:?}");
    }
    assert_eq!(staging.lacking(object, &digests).unwrap(), digests[2..]);
    put_pieces(&staging, object, &[&c]);
    let again = open_staging(state.path());
    assert_eq!(again.lacking(object, &digests).unwrap(), [], "after a restart, too");
    let finished = again.finish_object(object, &digests).unwrap().unwrap();
    assert_eq!(fs::read(&finished.path).unwrap(), bytes);
}

#[test]
fn a_piece_that_is_damaged_on_the_medium_is_lacking_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (a, b) = (vec![1; 9000], vec![2; 4096]);
    let object = Digest::of(&[&a[..], &b].concat());
    put_pieces(&open_staging(state.path()), object, &[&a, &b]);
    let data = state.path().join(format!("store/staging/{object}.zdi"));
    let mut bytes = fs::read(&data).unwrap();
    bytes[9001] ^= 1;
    fs::write(&data, bytes).unwrap();
    let digests = [&a[..], &b].map(Digest::of);
    assert_eq!(open_staging(state.path()).lacking(object, &digests).unwrap(), digests[1..]);
}

/// Runs itself again where places may fail: which those are is said to a whole process.
#[test]
fn after_a_flush_that_failed_everything_is_lacking() {
    let Some(failing) = std::env::var_os(failpoints::VARIABLE).map(PathBuf::from) else {
        let failing = tempfile::tempdir().unwrap();
        for name in ["armed", "fired"] {
            fs::create_dir(failing.path().join(name)).unwrap();
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "staging::after_a_flush_that_failed_everything_is_lacking"]);
        let done = again.env(failpoints::VARIABLE, failing.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        assert_eq!(fs::read_dir(failing.path().join("fired")).unwrap().count(), 2, "it was run");
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let staging = open_staging(state.path());
    let fail = |place: &str, time: u32| fs::write(failing.join("armed").join(place), format!("error {time}")).unwrap();

    let (capture, upload) = (capture(), Upload::delta());
    let frames: Vec<_> = upload.frames.iter().map(|(digest, _)| *digest).collect();
    put_all(&staging, capture, &upload);
    fail("staging.finish.written", 1);
    let failed = staging.finish(capture, &upload.contents);
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    assert_eq!(fs::read_dir(state.path().join("store/staging")).unwrap().count(), 0);
    assert_eq!(staging.finish(capture, &upload.contents).unwrap(), None, "not from what could not be flushed");
    assert_eq!(staging.lacking(capture, &frames).unwrap(), frames);
    put_all(&staging, capture, &upload);
    assert!(staging.finish(capture, &upload.contents).unwrap().is_some());

    // Put together in another file.
    let (a, b) = (vec![1; 9000], vec![2; 4096]);
    let (object, pieces) = (Digest::of(&[&a[..], &b].concat()), [&a[..], &b].map(Digest::of));
    put_pieces(&staging, object, &[&b, &a]);
    fail("staging.finish.flushed", 2);
    let failed = staging.finish_object(object, &pieces);
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    assert_eq!(staging.finish_object(object, &pieces).unwrap(), None);
    put_pieces(&staging, object, &[&b, &a]);
    assert!(staging.finish_object(object, &pieces).unwrap().is_some());
}

#[test]
fn a_piece_that_is_damaged_before_the_object_is_put_together_is_lacking() {
    let state = tempfile::tempdir().unwrap();
    let staging = open_staging(state.path());
    let (a, b) = (vec![1; 9000], vec![2; 4096]);
    let (object, pieces) = (Digest::of(&[&a[..], &b].concat()), [&a[..], &b].map(Digest::of));
    put_pieces(&staging, object, &[&a, &b]);
    let data = fs::File::options().write(true).open(state.path().join(format!("store/staging/{object}.zdi"))).unwrap();
    data.write_all_at(b"x", 9001).unwrap();
    let refused = staging.finish_object(object, &pieces);
    assert!(matches!(refused, Err(StoreError::WrongDigest { .. })), "{refused:?}");
    assert_eq!(staging.lacking(object, &pieces).unwrap(), pieces[1..]);
    put_pieces(&staging, object, &[&b]);
    assert!(staging.finish_object(object, &pieces).unwrap().is_some());
}

#[test]
fn what_is_there_once_is_not_used_often_without_room() {
    let state = tempfile::tempdir().unwrap();
    let store = open_store(state.path());
    let staging = Staging::open(state.path(), store.room(), gate(state.path())).unwrap();
    let piece = vec![7; 1 << 20];
    let object = Digest::of(&piece.repeat(3));
    put_pieces(&staging, object, &[&piece]);
    store.room().keep_back(100);
    let refused = staging.finish_object(object, &[Digest::of(&piece); 3]);
    assert!(matches!(refused, Err(StoreError::NoRoom { .. })), "{refused:?}");
    assert!(staging.ask_room(object, ByteLen::new(1 << 20)).is_ok(), "what has its room needs no more");
    assert!(matches!(staging.ask_room(object, ByteLen::new(1 << 40)), Err(StoreError::NoRoom { .. })));
    store.room().keep_back(0);
    assert!(staging.finish_object(object, &[Digest::of(&piece); 3]).unwrap().is_some());
}

/// A file system of 1 MiB, or nothing where that may not be mounted.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.path()).status();
    }
}

/// Notes a skip for whoever runs all tests; where skips are forbidden it is a failure.
fn skipped(reason: &str) {
    assert!(std::env::var_os("EBB_NO_SKIPS").is_none_or(|value| value != "1"), "would be skipped: {reason}");
    if let Some(path) = std::env::var_os("EBB_SKIPS_FILE") {
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "a_full_store_says_so_and_keeps_what_it_has: {reason}").unwrap();
    }
}

#[tokio::test]
async fn a_full_store_says_so_and_keeps_what_it_has() {
    let Some(tiny) = Tiny::mount() else { return skipped("a tiny file system cannot be mounted here") };
    let (store, staging) = (open_store(tiny.path()), open_staging(tiny.path()));
    let small = vec![1; 1000];
    let kept = Digest::of(&small);
    let limit = ByteLen::new(1 << 30);
    let stream = |bytes: &Vec<u8>| Box::pin(std::io::Cursor::new(bytes.clone()));
    assert_eq!(store.put_if_absent(kept, limit, stream(&small)).await.unwrap(), Put::Stored);
    let large = vec![2; 2 << 20];
    let refused = store.put_if_absent(Digest::of(&large), limit, stream(&large)).await;
    assert!(matches!(refused, Err(StoreError::NoSpace(_) | StoreError::NoRoom { .. })), "{refused:?}");
    assert_eq!(store.head(Digest::of(&large)).await.unwrap(), None);
    assert_eq!(store.head(kept).await.unwrap(), Some(ByteLen::new(1000)));

    let (capture, frame) = (capture(), vec![3; 700 << 10]);
    let other = vec![4; 700 << 10];
    staging.put_frame(capture, Digest::of(&frame), &frame).unwrap();
    let full = staging.put_frame(capture, Digest::of(&other), &other);
    assert!(matches!(full, Err(StoreError::NoSpace(_) | StoreError::NoRoom { .. })), "{full:?}");
    store.delete(kept).await.unwrap();
    let lacking = staging.lacking(capture, &[Digest::of(&frame), Digest::of(&other)]).unwrap();
    assert_eq!(lacking, [Digest::of(&other)], "what arrived is there, what did not is not");
}

#[test]
fn room_is_taken_ahead_of_the_frames_and_given_back_at_the_end() {
    let state = tempfile::tempdir().unwrap();
    let store = open_store(state.path());
    let staging = Staging::open(state.path(), store.room(), gate(state.path())).unwrap();
    let (capture, upload) = (capture(), Upload::delta());
    let taken = || {
        use std::os::unix::fs::MetadataExt as _;
        let path = state.path().join(format!("store/staging/{capture}.zdi"));
        fs::metadata(path).unwrap().blocks() * 512
    };
    staging.make_room(capture).unwrap();
    let ahead = taken();
    put_all(&staging, capture, &upload);
    // What is kept back is not for what has its room already.
    store.room().keep_back(100);
    let frame = vec![9; 100_000];
    if ahead >= 16 << 20 {
        staging.put_frame(capture, Digest::of(&frame), &frame).unwrap();
    }
    assert!(matches!(staging.make_room(CaptureId::new(Uuid::now_v7())), Err(StoreError::NoRoom { .. })));
    store.room().keep_back(0);
    let finished = staging.finish(capture, &upload.contents).unwrap().unwrap();
    let after = fs::metadata(&finished.path).unwrap();
    assert_eq!(after.len(), finished.bytes.get());
    assert!(std::os::unix::fs::MetadataExt::blocks(&after) * 512 < 1 << 20, "what was not used is given back");
}
