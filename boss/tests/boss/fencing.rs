//! Two bosses, one that slept, and a database that was put back: only the one that rules has an effect.

use std::sync::Arc;

use axum::http::Method;
use boss::power::{Command, Machine, PowerStatus, SwitchError};
use boss::store::{Gate, StoreError};
use boss::swap::{
    request_cancel, request_node_retry, request_retry, request_swap_in, request_swap_out, request_terminate,
};
use boss::takeover::take_over;
use boss_api::ErrorCode;
use boss_api::agent::{Permit, TERM_HEADER};
use boss_api::user::ExperimentState;
use boss_db::{DbError, PgPool, captures, term};
use boss_model::capture::CaptureStep;
use boss_model::node::{NodeState, NodeStep};
use boss_model::term::Standing;
use http_body_util::BodyExt as _;
use sigs::Digest;
use sigs::seal::{SealKind, Sealed, TrustedKeys};
use tower::ServiceExt as _;

use crate::agent::Upload;
use crate::site::{Site, code, name};

/// Another boss takes over, on the same database, with a state directory of its own.
async fn another_boss(site: &Site) -> u64 {
    term::take(&mut site.app.pool.acquire().await.unwrap(), Standing::default()).await.unwrap().term
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boss_that_slept_takes_nothing_from_agents_and_tells_them_nothing(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    site.swap_in(id, &["pc1"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let (agent, upload) = (site.agent("pc1", 1).await, Upload::delta());
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    let (digest, bytes) = upload.frames[0].clone();
    agent.put(&order, digest, bytes.clone()).await.unwrap();

    another_boss(&site).await;
    let base = format!("objects/{}", order.bases[0].sig.digest);
    let answers = [
        agent.poll().await.map(drop),
        agent.begin(&order).await,
        agent.offer(&order, &upload).await.map(drop),
        agent.put(&order, Digest::of(b"late"), b"late".to_vec()).await,
        agent.progress(&order, 1).await,
        agent.finish(&order, &upload).await,
        agent.fail(&order, "machine").await,
        agent.send(Method::GET, &base, vec![]).await.map(drop),
        agent.register().await,
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        // Unavailable, and not stale: the one that rules may have the agent go on.
        assert_eq!(code(answer), ErrorCode::Unavailable, "request {number}");
    }
    let capture = captures::get(&mut site.app.pool.acquire().await.unwrap(), order.capture).await.unwrap().unwrap();
    assert_eq!((capture.state.step(), capture.attempt), (CaptureStep::Streaming, 1), "nothing moved");
    let lacking = site.app.staging.lacking(order.capture, &[digest, Digest::of(b"late")]).unwrap();
    assert_eq!(lacking, [Digest::of(b"late")], "nothing more was kept");

    // And where the other one has the store, too, even a request that had passed every look at the database.
    Gate::raise(site.state.path(), Standing { term: 99, moves: 0 }).unwrap();
    let late = site.app.staging.put_frame(order.capture, digest, &bytes);
    assert!(matches!(late, Err(StoreError::TermOver { own: 1, found: Some(99) })), "{late:?}");
    assert!(site.app.staging.finish(order.capture, &upload.contents).is_err());
    assert!(site.app.staging.discard(order.capture).is_err());
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boss_that_stood_still_switches_no_machine_once_another_rules(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 0).await;
    agent.write_all().await;
    site.until_node("pc1", NodeStep::InUse).await;
    let machine = Machine { name: name("pc1"), power: site.node("pc1").await.power };
    let before = (site.power.boots_of("pc1"), *site.power.asked.lock().unwrap());
    // It had looked whether it rules, stood still, and goes on now.
    another_boss(&site).await;
    for command in [Command::ShutDown, Command::PowerOff, Command::BootDisk, Command::BootMfs(&agent.parameters)] {
        let what = format!("{command:?}");
        let refused = site.app.switch(&machine, command).await.unwrap_err();
        assert!(matches!(refused, SwitchError::NotGiven(DbError::TermOver { own: 1, .. })), "{what}: {refused:?}");
    }
    assert_eq!((site.power.boots_of("pc1"), *site.power.asked.lock().unwrap()), before, "nothing was asked of it");
    assert_eq!(site.power.status_of("pc1"), PowerStatus::OwnDisk, "it runs as before");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn every_answer_to_an_agent_says_the_term(pool: PgPool) {
    let site = Site::new(pool).await;
    for path in ["/agent/v1/poll", "/agent/v1/nothing"] {
        let request = axum::http::Request::builder().method(Method::POST).uri(path);
        let answer = boss::agent_api::router(site.app.clone())
            .oneshot(request.body(axum::body::Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.headers()[TERM_HEADER], site.app.term.to_string().as_str(), "{path}");
        answer.into_body().collect().await.unwrap();
    }
}

async fn permits(site: &Site) -> Vec<Permit> {
    let keys = TrustedKeys::new([site.app.keys.public()]);
    let texts: Vec<String> =
        sqlx::query_scalar("SELECT permit FROM disk_writes ORDER BY id").fetch_all(&site.app.pool).await.unwrap();
    let read = |text: String| {
        let sealed = Sealed::parse(text.as_bytes()).unwrap();
        serde_json::from_str(sealed.verify(SealKind::Permit, &keys).unwrap()).unwrap()
    };
    texts.into_iter().map(read).collect()
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boss_that_takes_over_seals_open_permits_anew_and_no_others(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    site.agent("pc1", 0).await.task().await;
    let before = permits(&site).await;
    assert_eq!(before.iter().map(|permit| permit.term).collect::<Vec<_>>(), [1]);
    let rule = take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap();
    assert_eq!(rule.term, 2);
    let after = permits(&site).await;
    assert_eq!(after, [Permit { term: 2, ..before[0].clone() }], "nothing else about it changes");
    sqlx::query("UPDATE disk_writes SET state = 'done'").execute(&site.app.pool).await.unwrap();
    take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap();
    assert_eq!(permits(&site).await, after, "what is over stays as it was");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_database_that_was_put_back_frees_and_overwrites_nothing(pool: PgPool) {
    let site = Site::new(pool).await;
    for node in ["pc1", "pc2", "pc3"] {
        site.add_node(node).await;
    }
    let (one, two) = (site.add_experiment("one", true, &["a"]).await, site.add_experiment("two", true, &["a"]).await);
    site.swap_in(one, &["pc1"]).await;
    request_swap_in(&site.app, two, site.user).await.unwrap();
    let agent = site.agent("pc2", 0).await;
    agent.task().await;
    let noted = async || Gate::last(site.state.path()).unwrap();
    site.until("the store knows how often machines moved", || async { (noted().await.moves >= 5).then_some(()) }).await;
    let before = noted().await;
    let open = permits(&site).await;

    // Since this backup nobody started a boss and no machine changed hands, but one moved: say, its system runs.
    let dusty =
        "UPDATE nodes SET state = 'held', held_reason = 'dust', held_owner = 'operator', held_next = 'clean it',
                     held_from = 'free' WHERE name = 'pc3'";
    sqlx::query(dusty).execute(&site.app.pool).await.unwrap();
    sqlx::query("UPDATE nodes SET moves = moves - 1 WHERE name = 'pc1'").execute(&site.app.pool).await.unwrap();
    let rule = take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap();
    assert!(rule.term > before.term);
    for (node, from) in [("pc1", NodeStep::InUse), ("pc2", NodeStep::Restoring), ("pc3", NodeStep::Free)] {
        let NodeState::Held(held) = site.node(node).await.state else { panic!("{node} is not held") };
        assert_eq!(held.from, from, "{node}");
        assert!(held.reason.contains("restored from a backup"), "{}", held.reason);
        assert_eq!(held.reason.contains("dust"), node == "pc3", "what was wrong before is not forgotten");
        assert!(held.is_for_the_site(), "{node}");
    }
    let app = boss::app::App { term: rule.term, gate: Arc::clone(&rule.gate), ..site.app.clone() };
    // The rows may say of another's machine that it is theirs: people of the experiments have no say in it.
    for refused in [
        request_retry(&app, one, site.user, false).await,
        request_terminate(&app, one, site.user).await,
        request_cancel(&app, two, site.user).await,
    ] {
        let told = refused.unwrap_err();
        assert!(told.told().message.contains("waits for an operator of the site"), "{}", told.told().message);
    }
    assert!(rule.keep_unreferenced, "what the database lost is still in the store");
    assert_eq!(site.experiment(one).await.state, ExperimentState::Held);
    assert_eq!(site.experiment(two).await.state, ExperimentState::Held);
    assert_eq!(permits(&site).await, open, "no permit is carried into the new term");
    assert_eq!(noted().await.term, rule.term);
    assert_eq!(
        site.count("SELECT count(*) FROM agent_boots WHERE state IN ('booting', 'registered')").await,
        0,
        "no agent of before is listened to"
    );
    // It is said once: the next start finds store and database at the same point.
    sqlx::query("DELETE FROM events").execute(&site.app.pool).await.unwrap();
    let again = take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap();
    assert_eq!(site.count("SELECT count(*) FROM events WHERE kind = 'node.held'").await, 0);
    assert!(again.keep_unreferenced, "nobody kept it yet: the start before was cut off");
    let app = boss::app::App { term: again.term, gate: Arc::clone(&again.gate), ..site.app.clone() };
    boss::keeping::look(&app, Some("put back")).await.unwrap();
    request_node_retry(&app, site.node("pc1").await.id, site.user).await.unwrap();
    assert_eq!(site.node("pc1").await.state.step(), Some(NodeStep::InUse), "somebody looked");
    let last = take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap();
    assert!(!last.keep_unreferenced);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_term_is_above_that_of_the_store_when_the_databases_was_put_back(pool: PgPool) {
    let site = Site::new(pool).await;
    sqlx::query("UPDATE boss_term SET term = 0").execute(&site.app.pool).await.unwrap();
    Gate::raise(site.state.path(), Standing { term: 41, moves: 0 }).unwrap();
    let rule = take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap();
    assert_eq!(rule.term, 42);
    let gate = Arc::clone(&rule.gate);
    drop(boss::store::LocalStore::open(site.state.path(), gate).unwrap());
    assert!(boss::store::LocalStore::open(site.state.path(), Arc::clone(&site.app.gate)).is_err(), "the one of before");
    let damaged = site.state.path().join("store/term");
    std::fs::write(&damaged, "term\n").unwrap();
    let refused = take_over(&site.app.pool, site.state.path(), &site.app.keys, site.app.now()).await.unwrap_err();
    let said = format!("{:#}", anyhow::Error::new(refused));
    assert!(said.contains("store/term says no term"), "{said}");
}
