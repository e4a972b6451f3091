//! Objects that people's programs send in pieces.

use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use boss_api::user::UserRole;
use boss_db::PgPool;
use boss_db::users::User;
use futures_util::{future, stream};
use serde_json::{Value, json};
use sigs::Digest;
use time::Duration;
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::Site;
use crate::test_support::{Answer, TestApp};
use crate::user_api::uploads::{AT_ONCE, READINGS};
use crate::{keeping, router};

struct Desk {
    site: TestApp,
    user: User,
    token: String,
    object: Digest,
    pieces: Vec<Vec<u8>>,
}

impl Desk {
    async fn new(pool: PgPool) -> Self {
        let site = TestApp::new(pool).await;
        let user = site.user("root", UserRole::Admin, &[]).await;
        let token = site.token(&user).await;
        let pieces = vec![vec![1; 1 << 20], vec![2; 1 << 20], vec![3; 77]];
        Self { site, user, token, object: Digest::of(&pieces.concat()), pieces }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(format!("/api/v1/uploads/{}{path}", self.object));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        self.site.send(request.body(body.into()).unwrap()).await
    }

    async fn begin(&self, bytes: u64) -> Answer {
        self.send(Method::POST, "", json!({ "bytes": bytes }).to_string()).await
    }

    async fn lacking(&self) -> Value {
        let frames: Vec<_> = self.pieces.iter().map(|piece| Digest::of(piece)).collect();
        self.send(Method::POST, "/offer", json!({ "frames": frames }).to_string()).await.json()["frames"].clone()
    }

    async fn put(&self, piece: &[u8]) -> Answer {
        self.send(Method::PUT, &format!("/pieces/{}", Digest::of(piece)), piece.to_vec()).await
    }

    async fn finish(&self, pieces: &[Vec<u8>]) -> Answer {
        let wire: Vec<u8> = pieces.iter().flat_map(|piece| *Digest::of(piece).as_bytes()).collect();
        self.send(Method::POST, "/finish", wire).await
    }

    /// Lets days pass, signs in again, and returns how many objects are removed then.
    async fn removed_after(&mut self, days: i64) -> usize {
        self.site.clock.advance(Duration::days(days));
        self.token = self.site.token(&self.user).await;
        keeping::look(&self.site.app, None).await.unwrap().removed
    }

    async fn head(&self) -> StatusCode {
        self.site.api(Method::HEAD, &format!("objects/{}", self.object), Some(&self.token), None).await.status
    }

    fn staged(&self) -> usize {
        std::fs::read_dir(self.site.app.config.state.join("store/staging")).unwrap().count()
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_object_is_sent_in_pieces_of_which_none_is_asked_for_twice(pool: PgPool) {
    let desk = Desk::new(pool).await;
    let digests: Vec<_> = desk.pieces.iter().map(|piece| Digest::of(piece)).collect();
    assert_eq!(desk.begin(2_097_229).await.status, StatusCode::CREATED);
    assert_eq!(desk.lacking().await, json!(digests));
    assert_eq!(desk.put(&desk.pieces[0]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(desk.lacking().await, json!(digests[1..]));
    assert_eq!(desk.finish(&desk.pieces).await.code(), "wrong_state");
    for piece in &desk.pieces {
        assert_eq!(desk.put(piece).await.status, StatusCode::NO_CONTENT, "also one that is there");
    }
    assert_eq!(desk.finish(&desk.pieces[1..]).await.code(), "verification_failed");
    assert_eq!(desk.finish(&desk.pieces).await.status, StatusCode::CREATED);
    let stored = desk.site.app.store.path_of(desk.object).unwrap();
    assert!(std::fs::read(stored).unwrap() == desk.pieces.concat());
    assert_eq!(desk.staged(), 0, "nothing of it is left elsewhere");
    // Who got no answer asks again.
    assert_eq!(desk.finish(&desk.pieces).await.status, StatusCode::OK);
    assert_eq!(desk.begin(2_097_229).await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_is_no_piece_and_what_does_not_fit_is_refused(pool: PgPool) {
    let desk = Desk::new(pool).await;
    assert_eq!(desk.begin((1 << 40) + 1).await.code(), "too_large");
    let large = vec![0; (1 << 20) + 1];
    assert_eq!(desk.put(&large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let other = desk.send(Method::PUT, &format!("/pieces/{}", desk.object), b"something else".to_vec()).await;
    assert_eq!(other.code(), "verification_failed");
    assert_eq!(desk.send(Method::POST, "/finish", vec![0; 33]).await.code(), "bad_request");
    assert_eq!(
        desk.send(Method::POST, "/offer", json!({ "frames": vec![desk.object; 4097] }).to_string()).await.code(),
        "too_large"
    );
    desk.site.app.room.keep_back(100);
    assert_eq!(desk.begin(1).await.code(), "no_space");
    assert_eq!(desk.put(b"x").await.code(), "no_space");
    assert_eq!(desk.lacking().await.as_array().unwrap().len(), 3, "nothing of it counts as arrived");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn who_is_told_that_an_object_is_there_has_a_whole_grace_to_refer_to_it(pool: PgPool) {
    let mut desk = Desk::new(pool).await;
    for piece in &desk.pieces {
        desk.put(piece).await;
    }
    assert_eq!(desk.finish(&desk.pieces).await.status, StatusCode::CREATED);
    assert_eq!(desk.removed_after(0).await, 0, "it is noted");
    for _ in 0..2 {
        assert_eq!(desk.removed_after(6).await, 0);
        assert_eq!(desk.begin(2_097_229).await.status, StatusCode::OK);
        assert_eq!(desk.removed_after(6).await, 0);
        assert_eq!(desk.finish(&desk.pieces).await.status, StatusCode::OK);
        assert_eq!(desk.removed_after(6).await, 0);
        assert_eq!(desk.head().await, StatusCode::OK);
    }
    assert_eq!(desk.removed_after(8).await, 1, "nobody asked");
    assert_eq!(desk.head().await, StatusCode::NOT_FOUND);
    assert_eq!(desk.begin(2_097_229).await.status, StatusCode::CREATED);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_damaged_object_makes_way_for_what_is_sent(pool: PgPool) {
    let desk = Desk::new(pool).await;
    for piece in &desk.pieces {
        desk.put(piece).await;
    }
    assert_eq!(desk.finish(&desk.pieces).await.status, StatusCode::CREATED);
    let stored = desk.site.app.store.path_of(desk.object).unwrap();
    std::fs::remove_file(&stored).unwrap();
    std::fs::write(&stored, b"something else").unwrap();
    assert_eq!(desk.begin(2_097_229).await.status, StatusCode::CREATED);
    assert_eq!(desk.finish(&desk.pieces).await.code(), "wrong_state", "it is not stored");
    for piece in &desk.pieces {
        desk.put(piece).await;
    }
    assert_eq!(desk.finish(&desk.pieces).await.status, StatusCode::CREATED);
    assert!(std::fs::read(stored).unwrap() == desk.pieces.concat());
    assert_eq!(desk.begin(2_097_229).await.status, StatusCode::OK);
    let aside = desk.site.app.config.state.join("store/aside");
    assert_eq!(std::fs::read_dir(aside).unwrap().count(), 1, "what was damaged can be looked at");
}

/// Sees that a request waits while others are answered and the turns are taken, and returns its answer after that.
async fn waits(
    request: impl Future<Output = Answer>,
    others: impl Future<Output = ()>,
    turns: OwnedSemaphorePermit,
) -> Answer {
    let mut request = Box::pin(request);
    tokio::select! {
        answer = &mut request => panic!("it did not wait: {}", answer.text),
        () = others => {}
    }
    drop(turns);
    request.await
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn putting_together_takes_no_turn_of_a_piece(pool: PgPool) {
    let mut desk = Desk::new(pool).await;
    let site = Site::new(desk.site.app.clone());
    let turns = u32::try_from(READINGS).unwrap();
    let all = Arc::clone(&site.readings).acquire_many_owned(turns).await.unwrap();
    desk.site.router = router::build_for(site);
    let waiting = desk.finish(&desk.pieces);
    let others = async {
        for piece in &desk.pieces {
            assert_eq!(desk.put(piece).await.status, StatusCode::NO_CONTENT);
        }
    };
    assert_eq!(waits(waiting, others, all).await.status, StatusCode::CREATED);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_list_that_comes_slowly_takes_no_turn(pool: PgPool) {
    let desk = Desk::new(pool).await;
    for piece in &desk.pieces {
        desk.put(piece).await;
    }
    // Each says that it is asked for the list, and gives nothing of it.
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let slow = (0..READINGS).map(|_| {
        let asked = asked.clone();
        let list = stream::poll_fn(move |_| {
            asked.send(()).unwrap();
            Poll::<Option<std::io::Result<Vec<u8>>>>::Pending
        });
        desk.send(Method::POST, "/finish", Body::from_stream(list))
    });
    let others = async {
        for _ in 0..READINGS {
            is_asked.recv().await.unwrap();
        }
        desk.finish(&desk.pieces).await.status
    };
    let status = tokio::select! {
        ended = future::select_all(slow.map(Box::pin)) => panic!("without a list: {}", ended.0.text),
        status = tokio::time::timeout(std::time::Duration::from_secs(30), others) => status,
    };
    assert_eq!(status.expect("it waits for those who are slow"), StatusCode::CREATED);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_piece_waits_for_its_turn(pool: PgPool) {
    let mut desk = Desk::new(pool).await;
    let site = Site::new(desk.site.app.clone());
    let turns = u32::try_from(AT_ONCE).unwrap();
    let all = Arc::clone(&site.uploads).acquire_many_owned(turns).await.unwrap();
    desk.site.router = router::build_for(site);
    let waiting = desk.put(b"x");
    // What takes no turn is answered meanwhile, again and again.
    let others = async {
        for _ in 0..5 {
            desk.lacking().await;
        }
    };
    assert_eq!(waits(waiting, others, all).await.status, StatusCode::NO_CONTENT);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_turn_ends_with_the_work_and_not_with_who_asked_for_it(pool: PgPool) {
    let mut desk = Desk::new(pool).await;
    let site = Site::new(desk.site.app.clone());
    let (uploads, readings) = (Arc::clone(&site.uploads), Arc::clone(&site.readings));
    desk.site.router = router::build_for(site);
    let store = std::fs::File::open(desk.site.app.config.state.join("store")).unwrap();
    for (turns, all) in [(&uploads, AT_ONCE), (&readings, READINGS)] {
        // As another boss that takes over: what changes the store waits.
        store.lock().unwrap();
        let mut request =
            Box::pin(async { if all == AT_ONCE { desk.put(b"x").await } else { desk.finish(&desk.pieces).await } });
        while turns.available_permits() == all {
            tokio::select! {
                biased;
                answer = &mut request => panic!("it did not wait: {}", answer.text),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(request);
        assert_eq!(turns.available_permits(), all - 1, "the work goes on");
        store.unlock().unwrap();
        drop(turns.acquire_many(u32::try_from(all).unwrap()).await.unwrap());
    }
}
