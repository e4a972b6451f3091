//! The API of people's programs.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use boss_api::ids::JobId;
use boss_api::user::{JobKind, JobState, OnFailure, UserRole};
use boss_db::PgPool;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::test_support::TestApp;

fn nodes(nodes: &[(&str, &str)]) -> Value {
    nodes.iter().map(|(vname, image)| json!({ "vname": vname, "image": image })).collect()
}

fn new_experiment(eid: &str, own: impl Into<Value>) -> Value {
    let own = own.into();
    json!({ "pid": "lab", "eid": eid, "save_swap_state": true, "nodes": own })
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_experiment_is_made_listed_shown_and_changed(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    site.image("system", "debian").await;
    site.image("system", "debian").await;
    site.image("lab", "own").await;
    let token = site.token(&ann).await;
    let ask = async |method, path: &str, body| site.api(method, path, Some(&token), body).await;

    let body = new_experiment("bench", nodes(&[("server", "debian/1"), ("client", "debian"), ("tap", "own")]));
    let made = ask(Method::POST, "experiments", Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let view = made.json();
    assert_eq!((&view["state"], &view["creator"], &view["job"]), (&json!("swapped"), &json!("ann"), &Value::Null));
    let of: Vec<_> = view["nodes"].as_array().unwrap().iter().map(|node| (&node["vname"], &node["image"])).collect();
    assert_eq!(json!(of), json!([["client", "debian/2"], ["server", "debian/1"], ["tap", "own/1"]]));

    assert_eq!(ask(Method::GET, "experiments/lab/bench", None).await.json(), view);
    assert_eq!(ask(Method::GET, "experiments", None).await.json(), json!([view]));
    assert_eq!(ask(Method::GET, "experiments/lab/bench/points", None).await.json(), json!([]));
    let change = ask(Method::PATCH, "experiments/lab/bench", Some(json!({ "save_swap_state": false }))).await;
    assert_eq!(change.json()["save_swap_state"], false);
    let nothing = ask(Method::PATCH, "experiments/lab/bench", Some(json!({}))).await;
    assert_eq!(nothing.json()["save_swap_state"], false, "what is absent stays");
    let events = ask(Method::GET, "experiments/lab/bench/events", None).await.json();
    let kinds: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"experiment.save-swap-state") && kinds.last() == Some(&"experiment.made"), "{kinds:?}");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_request_that_cannot_be_is_refused_whole(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let retired = site.image("system", "old").await;
    site.image("system", "debian").await;
    boss_db::images::retire(&mut site.app.pool.acquire().await.unwrap(), retired, site.app.now()).await.unwrap();
    let token = site.token(&ann).await;
    let good = nodes(&[("client", "debian")]);
    let many: Vec<(String, &str)> = (0..257).map(|number| (format!("n{number}"), "debian")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(vname, image)| (vname.as_str(), *image)).collect();
    let cases = [
        ("bad_request", "is not a name", new_experiment("a/b", good.clone())),
        ("bad_request", "is not a name", new_experiment("..", good.clone())),
        ("bad_request", "is not a name", new_experiment("bench", nodes(&[("Client", "debian")]))),
        ("bad_request", "is not a name", new_experiment("bench", nodes(&[("client", "../debian")]))),
        ("bad_request", "1 to 256 nodes", new_experiment("bench", json!([]))),
        ("bad_request", "1 to 256 nodes", new_experiment("bench", nodes(&many))),
        (
            "bad_request",
            "two nodes are called client",
            new_experiment("bench", nodes(&[("client", "debian"), ("client", "debian")])),
        ),
        (
            "bad_request",
            "unknown field",
            json!({ "pid": "lab", "eid": "bench", "save_swap_state": true, "nodes": good, "x": 1 }),
        ),
        (
            "not_found",
            "no base image nothing",
            new_experiment("bench", nodes(&[("client", "debian"), ("server", "nothing")])),
        ),
        ("not_found", "no base image debian/9", new_experiment("bench", nodes(&[("client", "debian/9")]))),
        ("not_found", "no base image old", new_experiment("bench", nodes(&[("client", "old")]))),
        ("wrong_state", "is retired", new_experiment("bench", nodes(&[("client", "old/1")]))),
        (
            "not_found",
            "the project attic",
            json!({ "pid": "attic", "eid": "bench", "save_swap_state": true, "nodes": good }),
        ),
    ];
    for (code, words, body) in cases {
        let answer = site.api(Method::POST, "experiments", Some(&token), Some(body)).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert!(answer.text.contains(words), "{}", answer.text);
    }
    let list = site.api(Method::GET, "experiments", Some(&token), None).await;
    assert_eq!(list.json(), json!([]), "nothing is left behind");

    let body = new_experiment("bench", good);
    assert_eq!(
        site.api(Method::POST, "experiments", Some(&token), Some(body.clone())).await.status,
        StatusCode::CREATED
    );
    let again = site.api(Method::POST, "experiments", Some(&token), Some(body)).await;
    assert_eq!((again.status, again.code().as_str()), (StatusCode::CONFLICT, "conflict"));
    assert!(again.text.contains("has an experiment bench already"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn every_error_has_the_one_shape(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let token = site.token(&ann).await;
    let send = async |method: Method, path: &str, body: Body| {
        let request =
            Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        site.send(request.body(body).unwrap()).await
    };
    let cases = [
        (Method::POST, "/api/v1/experiments", Body::from("{"), 400, "bad_request"),
        (Method::POST, "/api/v1/experiments", Body::from(vec![0xff; 10]), 400, "bad_request"),
        (Method::POST, "/api/v1/experiments", Body::from(vec![b' '; 2 << 20]), 413, "too_large"),
        (Method::GET, "/api/v1/experiments/Lab/bench", Body::empty(), 400, "bad_request"),
        (Method::GET, "/api/v1/experiments/lab/%2e%2e", Body::empty(), 400, "bad_request"),
        (Method::GET, "/api/v1/jobs/nonsense", Body::empty(), 400, "bad_request"),
        (Method::GET, "/api/v1/jobs/01930000-0000-7000-8000-000000000009", Body::empty(), 404, "not_found"),
        (Method::GET, "/api/v1/jobs/01930000-0000-7000-8000-000000000009?wait_ms=x", Body::empty(), 400, "bad_request"),
        (Method::GET, "/api/v1/nodes/pc1", Body::empty(), 404, "not_found"),
        (Method::GET, "/api/v1/images/system/none", Body::empty(), 404, "not_found"),
        (Method::GET, "/api/v2/experiments", Body::empty(), 404, "not_found"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = send(method, path, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path}: {}", answer.text);
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn machines_are_registered_by_an_admin_and_shown_with_care(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let root = site.user("root", UserRole::Admin, &[]).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let token = site.token(&root).await;
    let machine = |name: &str, serial: &str, file: &str| {
        json!({
            "name": name, "power": { "driver": "process", "disks": { "sda": file } },
            "disks": [{ "name": "sda", "serial": serial, "bytes": 1_048_576, "sector_size": 512 }],
        })
    };
    let ask = async |body: Value| site.api(Method::POST, "nodes", Some(&token), Some(body)).await;
    let made = ask(machine("pc1", "S1", "/disks/a")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.json()["state"], json!({ "state": "free" }));
    assert_eq!(made.json()["disks"][0]["serial"], "S1");

    for (body, code, words) in [
        (machine("pc1", "S2", "/disks/b"), "conflict", "a node pc1 already"),
        (machine("pc2", "S1", "/disks/b"), "conflict", "serial number"),
        (machine("pc2", "", "/disks/b"), "bad_request", "serial number"),
        (machine("pc2", "S2", "disks/b"), "bad_request", "absolute path"),
        (machine("pc2", "S2", "/disks/../b"), "bad_request", "absolute path"),
        (
            json!({ "name": "pc2", "power": { "driver": "process", "disks": {} }, "disks": [] }),
            "bad_request",
            "1 to 32",
        ),
        (json!({ "name": "pc2", "power": { "driver": "magic" }, "disks": [] }), "bad_request", "driver"),
    ] {
        let answer = ask(body).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert!(answer.text.contains(words) || code == "bad_request", "{}", answer.text);
    }
    let list = site.api(Method::GET, "nodes", Some(&site.token(&ann).await), None).await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let load = json!({ "image": "debian" });
    let free = site.api(Method::POST, "nodes/pc1/load", Some(&token), Some(load.clone())).await;
    assert_eq!(free.code(), "wrong_state", "{}", free.text);
    let refused = site.api(Method::POST, "nodes/pc1/load", Some(&site.token(&ann).await), Some(load)).await;
    assert_eq!(refused.code(), "not_allowed");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_machine_of_another_project_is_shown_without_its_owner(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let root = site.user("root", UserRole::Admin, &[]).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let bob = site.user("bob", UserRole::Member, &["other"]).await;
    let experiment = site.experiment("lab", "bench", &ann).await;
    let body = json!({
        "name": "pc1", "power": { "driver": "process", "disks": { "sda": "/disks/a" } },
        "disks": [{ "name": "sda", "serial": "S1", "bytes": 1_048_576, "sector_size": 512 }],
    });
    site.api(Method::POST, "nodes", Some(&site.token(&root).await), Some(body)).await;
    let mut conn = site.app.pool.acquire().await.unwrap();
    let client = boss_db::experiments::virtual_nodes(&mut conn, experiment).await.unwrap().remove(0);
    let node = boss_db::nodes::find(&mut conn, &"pc1".parse().unwrap()).await.unwrap().unwrap();
    boss_db::nodes::attach(&mut conn, client.id, node.id).await.unwrap();
    let seen_by = async |user| site.api(Method::GET, "nodes/pc1", Some(&site.token(user).await), None).await.json();
    assert_eq!(seen_by(&ann).await["experiment"], "lab/bench");
    assert_eq!(seen_by(&ann).await["vname"], "client");
    assert_eq!(seen_by(&bob).await["experiment"], Value::Null);
    assert_eq!(seen_by(&bob).await["vname"], Value::Null);
    let load = json!({ "image": "debian" });
    let refused = site.api(Method::POST, "nodes/pc1/load", Some(&site.token(&bob).await), Some(load)).await;
    assert_eq!(refused.code(), "not_allowed", "{}", refused.text);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_setting_takes_only_what_its_type_takes(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let root = site.user("root", UserRole::Admin, &[]).await;
    let token = site.token(&root).await;
    let put = async |name: &str, body: Value| {
        site.api(Method::PUT, &format!("settings/{name}"), Some(&token), Some(body)).await
    };
    let attempts = async || {
        let list = site.api(Method::GET, "settings", Some(&token), None).await.json();
        list.as_array().unwrap().iter().find(|setting| setting["name"] == "swap/attempts").unwrap()["value"].clone()
    };
    assert_eq!(attempts().await, "3");
    assert_eq!(put("swap%2Fattempts", json!({ "value": "7" })).await.json()["value"], "7");
    assert_eq!(attempts().await, "7");
    for bad in ["0", "21", "many", "-1", ""] {
        assert_eq!(put("swap%2Fattempts", json!({ "value": bad })).await.code(), "bad_request", "{bad:?}");
    }
    assert_eq!(attempts().await, "7", "what is refused changes nothing");
    let command = put("swap%2Fcommand", json!({ "value": "create-swapimage; rm -rf /" })).await;
    assert_eq!(command.code(), "bad_request");
    assert_eq!(put("swap%2Fnothing", json!({ "value": "1" })).await.code(), "not_found");
    assert_eq!(put("swap%2Fattempts", json!({})).await.json()["value"], "3");
    assert_eq!(attempts().await, "3", "back to the default");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn waiting_for_a_job_ends_with_its_change(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let ann = site.user("ann", UserRole::Member, &["lab"]).await;
    let bob = site.user("bob", UserRole::Member, &["other"]).await;
    let experiment = site.experiment("lab", "bench", &ann).await;
    let id = JobId::new(Uuid::now_v7());
    let job = boss_db::jobs::Job {
        id,
        kind: JobKind::SwapIn,
        experiment,
        node: None,
        requester: ann.id,
        state: JobState::Running,
        saves: true,
        on_failure: OnFailure::ReleaseVerified,
    };
    let mut conn = site.app.pool.acquire().await.unwrap();
    boss_db::jobs::add(&mut conn, &job, site.app.now()).await.unwrap();
    let (token, foreign) = (site.token(&ann).await, site.token(&bob).await);
    let path = format!("jobs/{id}");
    assert_eq!(site.api(Method::GET, &path, Some(&foreign), None).await.code(), "not_found");
    assert_eq!(site.api(Method::GET, &path, Some(&token), None).await.json()["state"], "running", "at once");

    let long = format!("{path}?wait_ms=20000");
    let waiting = site.api(Method::GET, &long, Some(&token), None);
    let changing = async {
        // Whether this comes before or after the first look, the wait must end.
        sqlx::query("UPDATE jobs SET state = 'failed', detail = 'no room', ended_at = $2 WHERE id = $1")
            .bind(id.uuid())
            .bind(site.app.now())
            .execute(&mut *conn)
            .await
            .unwrap();
        site.app.changed.notify_waiters();
    };
    let limit = std::time::Duration::from_secs(10);
    let (answer, ()) = tokio::time::timeout(limit, async { tokio::join!(waiting, changing) }).await.unwrap();
    assert_eq!((&answer.json()["state"], &answer.json()["detail"]), (&json!("failed"), &json!("no room")));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn objects_are_kept_under_their_digest_only(pool: PgPool) {
    let site = TestApp::new(pool).await;
    let root = site.user("root", UserRole::Admin, &[]).await;
    let token = site.token(&root).await;
    let digest = sigs::Digest::of(b"some bytes");
    let put = async |digest: &str, bytes: &'static [u8]| {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("/api/v1/objects/{digest}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        site.send(request.body(Body::from(bytes)).unwrap()).await
    };
    let name = digest.to_string();
    assert_eq!(put(&name, b"other bytes").await.code(), "verification_failed");
    assert_eq!(site.app.store.head(digest).await.unwrap(), None);
    let head = async || site.api(Method::HEAD, &format!("objects/{name}"), Some(&token), None).await.status;
    assert_eq!(head().await, StatusCode::NOT_FOUND);
    assert_eq!(put(&name, b"some bytes").await.status, StatusCode::CREATED);
    assert_eq!(head().await, StatusCode::OK);
    assert_eq!(put(&name, b"some bytes").await.status, StatusCode::OK, "again");
    assert_eq!(site.app.store.head(digest).await.unwrap().map(sigs::ByteLen::get), Some(10));
    assert_eq!(put("nonsense", b"some bytes").await.code(), "bad_request");
}
