//! Who is served: every route, from the list the router is built of.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use boss_api::user::UserRole;
use boss_db::PgPool;
use boss_model::term::Standing;
use serde_json::json;

use crate::router::{self, Audience, Route};
use crate::test_support::TestApp;

/// Fills the pattern of a path with names of things that exist.
fn filled(route: &Route) -> String {
    let job = "01930000-0000-7000-8000-000000000001";
    route
        .path
        .replace("{pid}", "lab")
        .replace("{eid}", "bench")
        .replace("{project}", "lab")
        .replace("{version}", "1")
        .replace("{digest}", &"ab".repeat(32))
        .replace("{piece}", &"ab".repeat(32))
        .replace("{id}", job)
        .replace("{name}", "base")
}

fn request(method: &Method, path: &str, header: Option<(header::HeaderName, String)>, body: String) -> Request<Body> {
    let kind = if path.starts_with("/api") { "application/json" } else { "application/x-www-form-urlencoded" };
    let mut request = Request::builder().method(method.clone()).uri(path).header(header::CONTENT_TYPE, kind);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.body(Body::from(body)).unwrap()
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn nobody_gets_past_the_door_without_credentials(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let public: Vec<&str> =
        router::all().iter().filter(|route| route.audience == Audience::Public).map(|route| route.path).collect();
    assert_eq!(public, ["/healthz", "/readyz", "/api/v1/login", "/sign-in", "/sign-in", "/static/{file}"]);

    let mut tried = 0;
    for route in router::all().into_iter().filter(|route| route.audience != Audience::Public) {
        let path = filled(&route);
        let name = format!("{} {path}", route.method);
        let nothing = site.send(request(&route.method, &path, None, String::new())).await;
        let bad = format!("Bearer {}", "00".repeat(32));
        let wrong = site.send(request(&route.method, &path, Some((header::AUTHORIZATION, bad)), String::new())).await;
        let bad = format!("ebb={}", "00".repeat(32));
        let cookie = site.send(request(&route.method, &path, Some((header::COOKIE, bad)), String::new())).await;
        for answer in [nothing, wrong, cookie] {
            match route.audience {
                Audience::Program => {
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
                    // An answer to HEAD has no body.
                    assert!(route.method == Method::HEAD || answer.code() == "not_signed_in", "{name}");
                }
                Audience::Browser => {
                    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{name}");
                    assert!(answer.location().starts_with("/sign-in"), "{name}");
                }
                Audience::Public => unreachable!("filtered out"),
            }
            tried += 1;
        }
    }
    assert!(tried > 90, "{tried} requests were tried");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_belongs_to_another_project_does_not_exist(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let bob = site.user("bob", UserRole::Member, &["other"]).await;
    site.experiment("lab", "bench", &ann).await;
    site.image("lab", "base").await;
    let (token, browser) = (site.token(&bob).await, site.browser(&bob).await);

    let mut tried = 0;
    for route in router::all() {
        let about = ["{pid}", "{project}"].iter().any(|part| route.path.contains(part));
        if !about {
            continue;
        }
        let path = filled(&route);
        let answer = match route.audience {
            Audience::Program => {
                let header = (header::AUTHORIZATION, format!("Bearer {token}"));
                site.send(request(&route.method, &path, Some(header), "{}".into())).await
            }
            Audience::Browser | Audience::Public => {
                let header = (header::COOKIE, browser.cookie.clone());
                site.send(request(&route.method, &path, Some(header), format!("csrf={}&typed=bench", browser.csrf)))
                    .await
            }
        };
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{} {path}: {}", route.method, answer.text);
        assert!(!answer.text.contains("client"), "nothing of it is shown");
        tried += 1;
    }
    assert!(tried >= 17, "{tried} requests were tried");
    let none = site.api(Method::GET, "experiments", Some(&token), None).await;
    assert_eq!(none.json(), json!([]));
    let missing = site.api(Method::GET, "experiments/lab/nothing", Some(&token), None).await;
    let hidden = site.api(Method::GET, "experiments/lab/bench", Some(&token), None).await;
    let same = hidden.text.replace("bench", "nothing");
    assert_eq!(missing.text, same, "hidden and missing are told with the same words");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_needs_an_admin_is_refused_to_members_and_operators(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab", "system"]).await;
    let olga = site.user("olga", UserRole::Operator, &[]).await;
    let node = json!({
        "name": "pc1", "power": { "driver": "process", "disks": { "sda": "/disks/a" } },
        "disks": [{ "name": "sda", "serial": "S1", "bytes": 1_048_576, "sector_size": 512 }],
    });
    let image = json!({ "project": "system", "name": "debian", "sealed": "{}" });
    for user in [ann, olga] {
        let token = site.token(&user).await;
        let (object, upload) = (format!("objects/{}", "ab".repeat(32)), format!("uploads/{}", "ab".repeat(32)));
        let [offer, piece, finish] =
            ["offer", &format!("pieces/{}", "ab".repeat(32)), "finish"].map(|what| format!("{upload}/{what}"));
        let requests = [
            (Method::POST, "nodes", node.clone()),
            (Method::PUT, "settings/swap%2Fattempts", json!({ "value": "5" })),
            (Method::PUT, object.as_str(), json!("bytes")),
            (Method::POST, upload.as_str(), json!({ "bytes": 1 })),
            (Method::POST, offer.as_str(), json!({ "frames": [] })),
            (Method::PUT, piece.as_str(), json!("bytes")),
            (Method::POST, finish.as_str(), json!("")),
            (Method::POST, "images", image.clone()),
        ];
        for (method, path, body) in requests {
            // Membership of the project `system` is not enough for its images.
            site.project("system").await;
            let answer = site.api(method, path, Some(&token), Some(body)).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} by {}: {}", user.name, answer.text);
            assert_eq!(answer.code(), "not_allowed");
        }
        // This one is answered without a body.
        assert_eq!(site.api(Method::HEAD, &object, Some(&token), None).await.status, StatusCode::FORBIDDEN);
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_operator_sees_experiments_and_changes_none(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let olga = site.user("olga", UserRole::Operator, &[]).await;
    site.experiment("lab", "bench", &ann).await;
    let token = site.token(&olga).await;
    assert_eq!(site.api(Method::GET, "experiments/lab/bench", Some(&token), None).await.status, StatusCode::OK);
    let change = json!({ "save_swap_state": false });
    let refused = site.api(Method::PATCH, "experiments/lab/bench", Some(&token), Some(change)).await;
    assert_eq!(refused.code(), "not_allowed");
    let page = site.open("/experiments/lab/bench", Some(&site.browser(&olga).await.cookie)).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text.contains("Swap in</button>"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn every_answer_carries_the_policy_and_none_is_kept(pool: PgPool) {
    let site = TestApp::new(pool).await;
    for path in
        ["/sign-in", "/experiments", "/api/v1/whoami", "/api/v1/nothing", "/static/nothing", "/healthz", "/readyz"]
    {
        let answer = site.open(path, None).await;
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {part}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(answer.headers[header::REFERRER_POLICY], "same-origin", "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
    }
    assert_eq!(site.open("/readyz", None).await.text, "ready\n");
    let style = site.open(&web::urls::asset(&web::assets::STYLE), None).await;
    assert_eq!(style.status, StatusCode::OK);
    assert!(style.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    assert_eq!(style.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    assert_eq!(site.open("/api/v1/nothing", None).await.code(), "not_found");
    let wrong = site.api(Method::DELETE, "whoami", None, None).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "bad_request"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boss_that_no_longer_rules_is_not_ready(pool: PgPool) {
    let site = TestApp::new(pool.clone()).await;
    boss_db::term::take(&mut pool.acquire().await.unwrap(), Standing::default()).await.unwrap();
    let answer = site.open("/readyz", None).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert_eq!(site.open("/healthz", None).await.status, StatusCode::OK);
}
