//! Who may speak for a machine.

use boss::swap::{request_retry, request_swap_in};
use boss_api::ErrorCode;
use boss_db::PgPool;
use http_body_util::BodyExt as _;
use sigs::Digest;
use tower::ServiceExt as _;

use crate::agent::Agent;
use crate::site::{Site, code};

async fn booting(pool: PgPool) -> (Site, Agent) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    let agent = site.booted("pc1", 0).await;
    (site, agent)
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boot_token_is_exchanged_once_and_a_second_claim_revokes_both(pool: PgPool) {
    let (site, agent) = booting(pool).await;
    assert_eq!(code(agent.poll().await), ErrorCode::NotSignedIn, "not registered yet");
    agent.register().await.unwrap();
    agent.register().await.unwrap();
    agent.poll().await.unwrap();
    let thief = agent.with_another_secret();
    assert_eq!(code(thief.register().await), ErrorCode::NotAllowed);
    assert_eq!(code(thief.poll().await), ErrorCode::NotSignedIn);
    assert_eq!(code(agent.poll().await), ErrorCode::Stale, "both are revoked");
    assert!(site.until_held("pc1").await.contains("two agents"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn another_disk_than_the_registered_one_holds_the_machine(pool: PgPool) {
    let (site, agent) = booting(pool).await;
    assert_eq!(code(agent.register_with("S-other").await), ErrorCode::WrongState);
    assert!(site.until_held("pc1").await.contains("serial"));
    let id = sqlx::query_scalar("SELECT id FROM experiments").fetch_one(&site.app.pool).await.unwrap();
    request_retry(&site.app, boss_api::ids::ExperimentId::new(id), site.user, false).await.unwrap();
    site.agent("pc1", 1).await.write_all().await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_agent_reads_only_what_its_task_names(pool: PgPool) {
    let (site, agent) = booting(pool).await;
    agent.register().await.unwrap();
    agent.task().await;
    let get = |digest: Digest| {
        let (agent, path) = (agent.clone(), format!("objects/{digest}"));
        async move { agent.send(axum::http::Method::GET, &path, vec![]).await }
    };
    let (zdi, sig) = (crate::site::golden("base.zdi"), crate::site::golden("base.sig"));
    assert_eq!(get(Digest::of(&zdi)).await.unwrap(), zdi);
    assert_eq!(code(get(Digest::of(&sig)).await), ErrorCode::NotFound, "stored, and not named");
    assert_eq!(code(agent.post("captures/not-an-id/1/begin", &1).await), ErrorCode::BadRequest);
    let strange = axum::http::Request::builder().uri("/agent/v1/nothing").body(axum::body::Body::empty()).unwrap();
    let answer = boss::agent_api::router(site.app.clone()).oneshot(strange).await.unwrap();
    let told: boss_api::ApiError =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(told.code, ErrorCode::NotFound);
}
