//! Signing in and out, sessions, forms.

use axum::http::{Method, StatusCode};
use boss_api::user::UserRole;
use boss_db::PgPool;
use serde_json::{Value, json};
use time::Duration;

use crate::test_support::{Answer, PASSWORD, PUBLIC, TestApp};

/// Fields or headers.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Opens the sign-in form and sends it, as a browser does.
async fn sign_in(site: &TestApp, cookies: &str, user: &str, password: &str, next: &str) -> Answer {
    let form = site.open("/sign-in", Some(cookies)).await;
    let prefix = if form.cookie("ebb-sign-in").is_some() { "ebb-sign-in" } else { "__Host-ebb-sign-in" };
    let (ticket, _) = form.cookie(prefix).unwrap();
    let cookies = format!("{cookies}; {prefix}={ticket}");
    let fields = [("csrf", ticket.as_str()), ("user", user), ("password", password), ("next", next)];
    site.submit_raw("/sign-in", &cookies, &fields, &[("sec-fetch-site", "same-origin")]).await
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_browser_signs_in_and_out(pool: PgPool) {
    let site = TestApp::new(pool).await;
    site.user("ann", UserRole::Member, &["lab"]).await;
    let first = site.open("/nodes", None).await;
    assert_eq!(first.location(), "/sign-in?next=/nodes");
    let done = sign_in(&site, "", "ann", PASSWORD, "/nodes").await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/nodes"));
    let (token, header) = done.cookie("ebb").unwrap();
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax"] {
        assert!(header.contains(part), "{header}");
    }
    assert!(!header.contains("Secure"), "a browser keeps no Secure cookie of plain HTTP");
    let cookie = format!("ebb={token}");
    let page = site.open("/experiments", Some(&cookie)).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("<span>ann</span>"));

    let csrf = page.text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let out = site.submit_raw("/sign-out", &cookie, &[("csrf", csrf)], &[]).await;
    assert_eq!(out.location(), "/sign-in");
    assert_eq!(out.cookie("ebb").unwrap().0, "");
    let after = site.open("/experiments", Some(&cookie)).await;
    assert_eq!(after.status, StatusCode::SEE_OTHER, "the token is over, not only the cookie");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_site_on_the_network_has_cookies_bound_to_it(pool: PgPool) {
    let site = TestApp::at(pool, PUBLIC).await;
    site.user("ann", UserRole::Member, &["lab"]).await;
    let done = sign_in(&site, "", "ann", PASSWORD, "").await;
    let (_, header) = done.cookie("__Host-ebb").unwrap();
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(header.contains(part), "{header}");
    }
    assert!(!header.contains("Domain"));
    assert!(done.cookie("ebb").is_none());
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_token_put_into_a_browser_before_is_worth_nothing_after(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    // Planted: never given out. And one that was given out, before signing in again.
    let planted = format!("ebb={}", "11".repeat(32));
    let old = site.browser(&ann).await.cookie;
    for before in [planted, old.clone()] {
        let form_cookies = if before == old { "" } else { before.as_str() };
        let form = site.open("/sign-in", Some(form_cookies)).await;
        let (ticket, _) = form.cookie("ebb-sign-in").unwrap();
        let fields = [("csrf", ticket.as_str()), ("user", "ann"), ("password", PASSWORD)];
        let cookies = format!("{before}; ebb-sign-in={ticket}");
        let done = site.submit_raw("/sign-in", &cookies, &fields, &[]).await;
        let (token, _) = done.cookie("ebb").unwrap();
        assert!(!before.contains(&token), "a new token");
        let with_old = site.open("/experiments", Some(&before)).await;
        assert_eq!(with_old.status, StatusCode::SEE_OTHER, "the token from before opens nothing");
        assert_eq!(site.open("/experiments", Some(&format!("ebb={token}"))).await.status, StatusCode::OK);
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_wrong_name_and_a_wrong_password_look_the_same(pool: PgPool) {
    let site = TestApp::new(pool).await;
    site.user("ann", UserRole::Member, &["lab"]).await;
    let wrong_password = sign_in(&site, "", "ann", "not the password", "/nodes").await;
    let wrong_name = sign_in(&site, "", "ben", PASSWORD, "/nodes").await;
    for answer in [&wrong_password, &wrong_name] {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.text.contains("this is not a user and the user&#39;s password"), "{}", answer.text);
        assert!(answer.cookie("ebb").is_none());
    }
    assert!(wrong_password.text.contains("value=\"ann\""), "what was typed stays");
    assert!(wrong_password.text.contains("value=\"/nodes\""), "and so does the way back");
    assert!(!wrong_password.text.contains("not the password"));
    let elsewhere = sign_in(&site, "", "ann", PASSWORD, "//evil.example/").await;
    assert_eq!(elsewhere.location(), "/experiments");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn guessing_is_slowed_down_for_one_account_only(pool: PgPool) {
    let site = TestApp::new(pool).await;
    site.user("ann", UserRole::Member, &["lab"]).await;
    site.user("ben", UserRole::Member, &["lab"]).await;
    let login = async |user: &str, password: &str| {
        site.api(Method::POST, "login", None, Some(json!({ "user": user, "password": password }))).await
    };
    for _ in 0..6 {
        assert_eq!(login("ann", "wrong password").await.code(), "not_signed_in");
    }
    let slowed = login("ann", PASSWORD).await;
    assert_eq!((slowed.status, slowed.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert!(slowed.text.contains("try again in"));
    assert_eq!(login("ben", PASSWORD).await.status, StatusCode::OK);
    site.clock.advance(Duration::seconds(3));
    assert_eq!(login("ann", PASSWORD).await.status, StatusCode::OK, "the right password passes after the wait");
    assert_eq!(login("ann", "wrong password").await.code(), "not_signed_in", "and forgives what was");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn sessions_end(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let is_open = async |cookie: &str| site.open("/experiments", Some(cookie)).await.status == StatusCode::OK;

    let idle = site.browser(&ann).await.cookie;
    site.clock.advance(Duration::minutes(29));
    assert!(is_open(&idle).await);
    site.clock.advance(Duration::minutes(29));
    assert!(is_open(&idle).await, "using it keeps it");
    site.clock.advance(Duration::minutes(30));
    assert!(!is_open(&idle).await, "30 minutes idle");

    let busy = site.browser(&ann).await.cookie;
    let token = site.token(&ann).await;
    for _ in 0..35 {
        site.clock.advance(Duration::minutes(20));
        assert!(is_open(&busy).await);
    }
    site.clock.advance(Duration::minutes(20));
    assert!(!is_open(&busy).await, "12 hours, however busy");

    let whoami = async || site.api(Method::GET, "whoami", Some(&token), None).await.status;
    site.clock.advance(Duration::days(29));
    assert_eq!(whoami().await, StatusCode::OK, "a program's token may be idle");
    site.clock.advance(Duration::days(1));
    assert_eq!(whoami().await, StatusCode::UNAUTHORIZED, "but ends after 30 days");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_cookie_is_no_bearer_token_and_the_other_way_round(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let token = site.token(&ann).await;
    let cookie = site.browser(&ann).await.cookie;
    let as_cookie = site.open("/experiments", Some(&format!("ebb={token}"))).await;
    assert_eq!(as_cookie.status, StatusCode::SEE_OTHER);
    let as_bearer = site.api(Method::GET, "whoami", cookie.strip_prefix("ebb="), None).await;
    assert_eq!(as_bearer.code(), "not_signed_in");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn programs_get_a_token_and_give_it_back(pool: PgPool) {
    let site = TestApp::new(pool).await;
    site.user("ann", UserRole::Operator, &["lab", "attic"]).await;
    let answer = site.api(Method::POST, "login", None, Some(json!({ "user": "ann", "password": PASSWORD }))).await;
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(answer.json()["expires_at"], "2026-12-21T01:00:00Z");
    let me = site.api(Method::GET, "whoami", Some(&token), None).await;
    assert_eq!(me.json(), json!({ "user": "ann", "role": "operator", "projects": ["attic", "lab"] }));
    assert_eq!(site.api(Method::POST, "logout", Some(&token), None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(site.api(Method::GET, "whoami", Some(&token), None).await.code(), "not_signed_in");
    let long = json!({ "user": "ann", "password": "x".repeat(1025) });
    assert_eq!(site.api(Method::POST, "login", None, Some(long)).await.code(), "not_signed_in");
    let stray = json!({ "user": "ann", "password": PASSWORD, "remember": true });
    assert_eq!(site.api(Method::POST, "login", None, Some(stray)).await.code(), "bad_request");
    assert_eq!(site.api(Method::POST, "login", None, Some(Value::Null)).await.code(), "bad_request");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn forms_of_other_sites_and_other_sessions_do_nothing(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    site.experiment("lab", "bench", &ann).await;
    let (own, other) = (site.browser(&ann).await, site.browser(&ann).await);
    let saves = async || {
        let page = site.open("/experiments/lab/bench", Some(&own.cookie)).await;
        let field = page.text.split("id=\"save\"").nth(1).unwrap().split('>').next().unwrap().to_owned();
        field.contains(" checked")
    };
    let path = "/experiments/lab/bench/save-swap-state";
    assert!(saves().await);
    let good = own.csrf.as_str();
    let cases: [(&str, Pairs<'_>, Pairs<'_>); 6] = [
        ("no token", &[], &[]),
        ("empty token", &[("csrf", "")], &[]),
        ("token of another session", &[("csrf", other.csrf.as_str())], &[]),
        ("another site", &[("csrf", good)], &[("sec-fetch-site", "cross-site")]),
        ("another origin", &[("csrf", good)], &[("origin", "https://evil.example")]),
        ("hidden origin", &[("csrf", good)], &[("origin", "null")]),
    ];
    for (case, fields, headers) in cases {
        let answer = site.submit_raw(path, &own.cookie, fields, headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}");
        assert!(answer.text.contains("nothing was done"), "{case}");
        assert!(saves().await, "{case}");
    }
    let answer = site.submit_raw(path, &own.cookie, &[("csrf", good)], &[("origin", "http://127.0.0.1:4710")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert!(!saves().await, "the box is off now");

    // The sign-in form is tied to its browser, too.
    let fields = [("csrf", "11"), ("user", "ann"), ("password", PASSWORD)];
    assert_eq!(site.submit_raw("/sign-in", "", &fields, &[]).await.status, StatusCode::FORBIDDEN);
    let foreign = format!("ebb-sign-in={}", "22".repeat(32));
    assert_eq!(site.submit_raw("/sign-in", &foreign, &fields, &[]).await.status, StatusCode::FORBIDDEN);
}
