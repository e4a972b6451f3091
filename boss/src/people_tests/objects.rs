//! The bytes of objects for people's programs: who gets them, and which.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use boss_api::user::UserRole;
use boss_db::PgPool;
use http_body_util::BodyExt as _;
use sigs::{ByteLen, Digest};
use tower::ServiceExt as _;

use crate::test_support::TestApp;
use crate::user_api::downloads::AT_ONCE;

/// Puts bytes into the store.
async fn store(site: &TestApp, bytes: &[u8]) -> Digest {
    let (digest, reader) = (Digest::of(bytes), Box::pin(std::io::Cursor::new(bytes.to_vec())));
    site.app.store.put_if_absent(digest, ByteLen::new(1 << 30), reader).await.unwrap();
    digest
}

/// Asks for an object, or a part of it.
async fn ask(site: &TestApp, token: &str, digest: Digest, range: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().method(Method::GET).uri(format!("/api/v1/objects/{digest}"));
    request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_object_is_for_those_who_may_read_what_refers_to_it(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let bob = site.user("bob", UserRole::Member, &["other"]).await;
    let olga = site.user("olga", UserRole::Operator, &[]).await;
    let root = site.user("root", UserRole::Admin, &[]).await;
    let experiment = site.experiment("lab", "bench", &ann).await;
    let of_system = site.experiment("system", "own", &root).await;

    let image = async |pid| store(&site, site.image(pid, "i").await.uuid().as_bytes()).await;
    let (own, others, sites) = (image("lab").await, image("other").await, image("system").await);
    let signature = store(&site, b"sig").await;
    let (saved, saved_signature) = (store(&site, b"saved").await, store(&site, b"its signature").await);
    site.saved(experiment, 1, saved, saved_signature).await;
    let (of_sites, shared) = (store(&site, b"what the site saved").await, store(&site, b"shared").await);
    site.saved(of_system, 2, of_sites, shared).await;
    site.saved(experiment, 3, shared, shared).await;
    let (stray, missing) = (store(&site, b"nobody's").await, Digest::of(b"never stored"));

    let table = [
        ("an own image", own, "ann root"),
        ("another's image", others, "bob root"),
        ("the site's image", sites, "ann bob olga root"),
        ("a signature that images of all projects have", signature, "ann bob olga root"),
        ("a saved disk", saved, "ann root"),
        ("the signature of a saved disk", saved_signature, "ann root"),
        ("a saved disk of the site's own project", of_sites, "root"),
        ("what two projects saved", shared, "ann root"),
        ("what nothing refers to", stray, "root"),
        ("what is not there", missing, ""),
    ];
    for user in [ann, bob, olga, root] {
        let token = site.token(&user).await;
        for (what, digest, readers) in table {
            let (status, _, body) = ask(&site, &token, digest, None).await;
            if readers.split(' ').any(|reader| reader == user.name.as_str()) {
                assert_eq!((status, Digest::of(&body)), (StatusCode::OK, digest), "{what} for {}", user.name);
            } else {
                // One that is hidden is told with the words of one that is not there.
                let said = String::from_utf8(body).unwrap().replace(&digest.to_string(), "DIGEST");
                let (_, _, absent) = ask(&site, &token, missing, None).await;
                let absent = String::from_utf8(absent).unwrap().replace(&missing.to_string(), "DIGEST");
                assert_eq!((status, said), (StatusCode::NOT_FOUND, absent), "{what} for {}", user.name);
                for range in ["bytes=0-0", "bytes=999-"] {
                    let (status, headers, _) = ask(&site, &token, digest, Some(range)).await;
                    assert_eq!(status, StatusCode::NOT_FOUND, "{what} for {}", user.name);
                    assert!(!headers.contains_key(header::CONTENT_RANGE), "its size is not told either");
                }
            }
        }
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_part_of_an_object_is_that_part(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let token = site.token(&site.user("root", UserRole::Admin, &[]).await).await;
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (object, nothing) = (store(&site, &content).await, store(&site, b"").await);
    let text = |headers: &HeaderMap, name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());

    let (status, headers, body) = ask(&site, &token, object, None).await;
    assert!(body == content);
    assert_eq!((status, text(&headers, header::ACCEPT_RANGES).as_deref()), (StatusCode::OK, Some("bytes")));
    assert_eq!(text(&headers, header::CONTENT_LENGTH).as_deref(), Some("4000000"));
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=1-3", 1, 3),
        ("bytes=300000-2999999", 300_000, 2_999_999),
        ("bytes=3999999-", 3_999_999, 3_999_999),
        ("bytes=3999990-5000000", 3_999_990, 3_999_999),
    ] {
        let (status, headers, body) = ask(&site, &token, object, Some(range)).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert!(body == content[first..=last], "{range}");
        let said = text(&headers, header::CONTENT_RANGE);
        assert_eq!(said, Some(format!("bytes {first}-{last}/4000000")), "{range}");
        assert_eq!(text(&headers, header::CONTENT_LENGTH), Some((last - first + 1).to_string()), "{range}");
    }
    for (digest, range, size) in [(object, "bytes=4000000-", 4_000_000), (nothing, "bytes=0-0", 0)] {
        let (status, headers, body) = ask(&site, &token, digest, Some(range)).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(text(&headers, header::CONTENT_RANGE), Some(format!("bytes */{size}")));
        assert!(String::from_utf8(body).unwrap().contains("bad_request"));
    }
    for whole in ["bytes=1-3,5-6", "lines=1-3", "bytes=3-1"] {
        let (status, _, body) = ask(&site, &token, object, Some(whole)).await;
        assert!(status == StatusCode::OK && body == content, "{whole}");
    }
    let (status, _, body) = ask(&site, &token, nothing, None).await;
    assert_eq!((status, body), (StatusCode::OK, Vec::new()));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn who_takes_nothing_waits_for_himself_and_not_the_others(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.token(&site.user("ann", UserRole::Admin, &[]).await).await;
    let bob = site.token(&site.user("bob", UserRole::Admin, &[]).await).await;
    let object = store(&site, b"bytes").await;
    let begin = async || {
        let request = Request::builder().uri(format!("/api/v1/objects/{object}"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {ann}"));
        site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..AT_ONCE {
        let response = begin().await;
        assert_eq!(response.status(), StatusCode::OK);
        held.push(response);
    }
    let mut one_more = std::pin::pin!(begin());
    for _ in 0..9 {
        tokio::select! {
            _ = &mut one_more => panic!("ann has more than her turns"),
            (status, _, body) = ask(&site, &bob, object, None) => assert_eq!((status, &body[..]), (StatusCode::OK, &b"bytes"[..])),
        }
    }
    held.pop();
    assert_eq!(one_more.await.status(), StatusCode::OK);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_damaged_object_makes_way_for_what_is_put(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let token = site.token(&site.user("root", UserRole::Admin, &[]).await).await;
    let good = b"the bytes of an image";
    let object = store(&site, good).await;
    let path = site.app.store.path_of(object).unwrap();
    let put = async || {
        let request = Request::builder().method(Method::PUT).uri(format!("/api/v1/objects/{object}"));
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        site.send(request.body(Body::from(&good[..])).unwrap()).await.status
    };
    assert_eq!(put().await, StatusCode::OK);
    let damages: [&[u8]; 4] = [b"the bytes of an imagE", b"the bytes", b"the bytes of an image and more", b""];
    for damaged in damages {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(put().await, StatusCode::CREATED);
        assert_eq!(std::fs::read(&path).unwrap(), good);
        assert_eq!(put().await, StatusCode::OK);
    }
    let aside = std::fs::read_dir(site.app.config.state.join("store/aside")).unwrap();
    let mut aside: Vec<_> = aside.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    aside.sort();
    assert_eq!(aside, [damages[3], damages[1], damages[0], damages[2]], "all can be looked at");
    let partial = site.app.config.state.join("store/partial");
    assert_eq!(std::fs::read_dir(partial).unwrap().count(), 0);
}
