//! Pages and their forms, as a browser without scripts uses them.

use axum::http::StatusCode;
use boss_api::user::{ExperimentState, UserRole};
use boss_db::PgPool;

use crate::test_support::{Browser, TestApp};

async fn site_with_ann(pool: PgPool) -> (TestApp, Browser, boss_db::users::User) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let browser = site.browser(&ann).await;
    (site, browser, ann)
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_experiment_is_made_by_the_form(pool: PgPool) {
    let (site, ann, _) = site_with_ann(pool).await;
    site.image("system", "debian").await;
    let empty = site.open("/experiments", Some(&ann.cookie)).await;
    assert!(empty.text.contains("Make the first one"));
    let form = site.open("/experiments/new", Some(&ann.cookie)).await;
    assert!(form.text.contains("debian, newest (now 1)") && form.text.contains("id=\"vname-7\""));
    let fields = [
        ("pid", "lab"),
        ("eid", "bench"),
        ("save", "on"),
        ("do", "make"),
        ("vname", ""),
        ("image", "debian"),
        ("vname", "client"),
        ("image", "debian/1"),
        ("vname", " "),
        ("image", "debian"),
    ];
    let made = site.submit("/experiments/new", &ann, &fields).await;
    assert_eq!((made.status, made.location()), (StatusCode::SEE_OTHER, "/experiments/lab/bench"), "{}", made.text);
    let page = site.open("/experiments/lab/bench", Some(&ann.cookie)).await;
    assert!(page.text.contains("swapped out") && page.text.contains("debian/1") && page.text.contains("1 node,"));
    let list = site.open("/experiments", Some(&ann.cookie)).await;
    assert!(list.text.contains("href=\"/experiments/lab/bench\""));
    assert_eq!(site.open("/", Some(&ann.cookie)).await.location(), "/experiments");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_is_wrong_is_said_beside_what_was_typed(pool: PgPool) {
    let (site, ann, user) = site_with_ann(pool).await;
    site.experiment("lab", "bench", &user).await;
    let send = async |eid: &str, vname: &str, image: &str| {
        let fields =
            [("pid", "lab"), ("eid", eid), ("vname", ""), ("image", "debian"), ("vname", vname), ("image", image)];
        site.submit("/experiments/new", &ann, &fields).await
    };
    let cases = [
        ("a/b", "client", "debian", 400, "id=\"eid-problem\""),
        ("bench", "client", "debian", 409, "has an experiment bench already"),
        ("other", "Bad Name", "debian", 400, "id=\"row-1-problem\""),
        ("other", "client", "nothing", 404, "id=\"row-1-problem\""),
        ("other", "client", "", 400, "choose a base image"),
        ("other", "", "debian", 400, "at least one node"),
    ];
    for (eid, vname, image, status, words) in cases {
        let answer = send(eid, vname, image).await;
        assert_eq!(answer.status.as_u16(), status, "{words}");
        assert!(answer.text.starts_with("<!doctype html>") && answer.text.contains(words), "{words}");
        assert!(answer.text.contains(&format!("name=\"eid\" value=\"{eid}\"")), "{words}: what was typed stays");
        assert!(answer.text.contains(&format!("value=\"{vname}\"")));
        assert!(!answer.text.contains("value=\"on\" checked"), "and the box that was off stays off");
    }
    let more = site
        .submit("/experiments/new", &ann, &[("eid", "x"), ("vname", "client"), ("image", ""), ("do", "more")])
        .await;
    assert_eq!(more.status, StatusCode::OK);
    assert!(more.text.contains("id=\"vname-8\"") && more.text.contains("value=\"client\""));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_cannot_be_done_now_is_said_on_the_page(pool: PgPool) {
    let (site, ann, user) = site_with_ann(pool).await;
    site.experiment("lab", "bench", &user).await;
    // No machine is registered.
    let swap_in = site.submit("/experiments/lab/bench/swap-in", &ann, &[]).await;
    assert_eq!(swap_in.status, StatusCode::CONFLICT);
    assert!(swap_in.text.contains("role=\"alert\">") && swap_in.text.contains("machines"), "{}", swap_in.text);
    let swap_out = site.submit("/experiments/lab/bench/swap-out", &ann, &[]).await;
    assert_eq!(swap_out.status, StatusCode::CONFLICT);
    assert!(swap_out.text.contains("<h1>bench</h1>"));
    let retry = site.submit("/experiments/lab/bench/retry", &ann, &[]).await;
    assert_eq!(retry.status, StatusCode::CONFLICT);
    let wrong = site.submit("/experiments/lab/bench/terminate", &ann, &[("typed", "bank")]).await;
    assert!(wrong.text.contains("id=\"terminate-problem\"") && wrong.text.contains("nothing was done"));
    let page = site.open("/experiments/lab/bench", Some(&ann.cookie)).await;
    assert!(page.text.contains("swapped out"), "nothing was done");
    let ended = site.submit("/experiments/lab/bench/terminate", &ann, &[("typed", "bench")]).await;
    assert_eq!(ended.location(), "/experiments", "{}", ended.text);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_swap_out_that_loses_the_disks_is_asked_for_twice(pool: PgPool) {
    let (site, ann, user) = site_with_ann(pool).await;
    let id = site.experiment("lab", "bench", &user).await;
    let mut conn = site.app.pool.acquire().await.unwrap();
    for (from, to) in [
        (ExperimentState::Swapped, ExperimentState::Activating),
        (ExperimentState::Activating, ExperimentState::Active),
    ] {
        boss_db::experiments::transition(&mut conn, site.app.term, id, (from, to), site.app.now()).await.unwrap();
    }
    let saving = site.open("/experiments/lab/bench/swap-out", Some(&ann.cookie)).await;
    assert_eq!(saving.location(), "/experiments/lab/bench", "with the box on there is nothing to confirm");
    let off = site.submit("/experiments/lab/bench/save-swap-state", &ann, &[]).await;
    assert_eq!(off.status, StatusCode::SEE_OTHER, "{}", off.text);
    let asks = site.open("/experiments/lab/bench/swap-out", Some(&ann.cookie)).await;
    assert!(asks.text.contains("will be lost") && asks.text.contains("<b>client</b>"));

    let active = async || {
        let found = boss_db::experiments::get(&mut site.app.pool.acquire().await.unwrap(), id).await.unwrap();
        found.unwrap().state == ExperimentState::Active
    };
    for fields in [&[][..], &[("typed", "")], &[("typed", "benc")], &[("typed", "BENCH")]] {
        let answer = site.submit("/experiments/lab/bench/swap-out", &ann, fields).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{fields:?}");
        assert!(answer.text.contains("will be lost"));
        assert!(active().await);
    }
    let done = site.submit("/experiments/lab/bench/swap-out", &ann, &[("typed", "bench")]).await;
    assert_eq!(done.location(), "/experiments/lab/bench", "{}", done.text);
    assert!(!active().await);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_page_that_is_not_there_says_so_in_words(pool: PgPool) {
    let (site, ann, _) = site_with_ann(pool).await;
    let missing = site.open("/experiments/lab/nothing", Some(&ann.cookie)).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.text.contains("<h1>Not found</h1>") && missing.text.contains("lab/nothing"));
    let malformed = site.open("/experiments/Lab/no%20name", Some(&ann.cookie)).await;
    assert_eq!(malformed.status, StatusCode::BAD_REQUEST);
    assert!(malformed.text.starts_with("<!doctype html>"));
    for path in ["/nodes", "/images"] {
        assert_eq!(site.open(path, Some(&ann.cookie)).await.status, StatusCode::OK, "{path}");
    }
}
