//! Whatever goes wrong, no machine in doubt is freed, and what was sent is not sent again.

use std::sync::Arc;

use boss::swap::{request_retry, request_swap_in, request_swap_out, request_terminate};
use boss_api::ErrorCode;
use boss_api::user::{ExperimentState, JobState};
use boss_db::{PgPool, term};
use boss_model::node::NodeStep;
use boss_model::term::Standing;
use sigs::Root;
use sigs::manifest::Manifest;
use tokio::sync::watch;

use crate::agent::Upload;
use crate::site::{Site, active, code};

const SANITIZED: &str = "SELECT count(*) FROM disk_writes WHERE purpose = 'sanitize'";

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn bytes_damaged_on_the_medium_hold_the_node_until_a_person_retries(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let upload = Upload::delta();
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    agent.offer(&order, &upload).await.unwrap();
    for (digest, bytes) in &upload.frames {
        agent.put(&order, *digest, bytes.clone()).await.unwrap();
    }
    // After it was received with the right digest, the medium loses a bit.
    let staged = site.state.path().join(format!("store/staging/{}.zdi", order.capture));
    let mut bytes = std::fs::read(&staged).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&staged, bytes).unwrap();
    agent.finish(&order, &upload).await.unwrap();
    let reason = site.until_held("pc1").await;
    assert!(reason.contains("verification failed"), "{reason}");
    site.until_state(id, ExperimentState::Held).await;
    site.until_job(job, JobState::Held).await;
    assert_eq!(site.count(SANITIZED).await, 0, "the disk is untouched");

    request_retry(&site.app, id, site.user, false).await.unwrap();
    let agent = site.agent("pc1", 2).await;
    agent.save(&upload).await;
    agent.write_all().await;
    site.until_job(job, JobState::Done).await;
    site.until_node("pc1", NodeStep::Free).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_image_that_lies_about_its_root_holds_the_machine(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    // Every digest is right; only what the blocks are together is another.
    let mut upload = Upload::delta();
    let mut manifest = Manifest::parse(&upload.contents.manifest).unwrap();
    manifest.target_root = Root::from_bytes([7; 32]);
    upload.contents.manifest = manifest.to_bytes();
    agent.save(&upload).await;
    let reason = site.until_held("pc1").await;
    assert!(reason.contains("verification failed") && reason.contains(&manifest.target_root.to_string()), "{reason}");
    site.until_state(id, ExperimentState::Held).await;
    assert_eq!(site.count(SANITIZED).await, 0, "the disk is untouched");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_disk_with_unreadable_sectors_is_held_and_never_taken_for_saved(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let upload = Upload::incomplete();
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    agent.offer(&order, &upload).await.unwrap();
    for (digest, bytes) in &upload.frames {
        agent.put(&order, *digest, bytes.clone()).await.unwrap();
    }
    assert_eq!(code(agent.finish(&order, &upload).await), ErrorCode::Stale);
    let reason = site.until_held("pc1").await;
    assert!(reason.contains("cannot be read") && reason.contains("offset 40960"), "{reason}");
    site.until_state(id, ExperimentState::Held).await;
    assert_eq!(site.power.boots_of("pc1"), 2, "no attempt is made by itself");
    assert_eq!(site.count(SANITIZED).await, 0);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_frame_damaged_on_the_way_is_refused_and_corruption_is_not_tried_again(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let upload = Upload::delta();
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    let (digest, mut bytes) = upload.frames[0].clone();
    bytes[5] ^= 1;
    assert_eq!(code(agent.put(&order, digest, bytes).await), ErrorCode::VerificationFailed);
    assert!(agent.offer(&order, &upload).await.unwrap().contains(&digest), "it is not there");
    agent.fail(&order, "corruption").await.unwrap();
    site.until_held("pc1").await;
    assert_eq!(site.power.boots_of("pc1"), 2, "no attempt is made by itself");
    assert_eq!(site.count(SANITIZED).await, 0);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_agent_that_dies_costs_a_boot_and_no_frame_twice(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let dead = site.agent("pc1", 1).await;
    let upload = Upload::delta();
    let order = dead.order().await;
    dead.begin(&order).await.unwrap();
    let (digest, bytes) = upload.frames[0].clone();
    dead.put(&order, digest, bytes.clone()).await.unwrap();
    dead.put(&order, digest, bytes).await.unwrap();
    site.power.kill("pc1");
    site.pass(1);

    let agent = site.agent("pc1", 2).await;
    let again = agent.order().await;
    assert_eq!((again.capture, again.attempt), (order.capture, 2));
    assert_eq!(site.node("pc1").await.epoch, 2, "the same epoch");
    assert_eq!(code(dead.poll().await), ErrorCode::Stale, "the dead agent comes back");
    assert_eq!(code(dead.progress(&order, 1).await), ErrorCode::Stale);
    assert_eq!(code(agent.progress(&order, 1).await), ErrorCode::Stale, "an older attempt");
    agent.begin(&again).await.unwrap();
    let lacking = agent.offer(&again, &upload).await.unwrap();
    assert!(!lacking.contains(&digest), "what arrived before is not sent again");
    agent.save_begun(&again, &upload).await;
    agent.write_all().await;
    site.until_job(job, JobState::Done).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_disk_that_waits_its_turn_hides_no_other_that_stands_still(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node_with("pc1", &["sda", "sdb"]).await;
    for (setting, value) in [("swap/at_once", "1"), ("swap/attempts", "2"), ("swap/stall_timeout_s", "60")] {
        site.set(setting, value).await;
    }
    let id = site.add_experiment("e", true, &["a"]).await;
    site.swap_in(id, &["pc1"]).await;
    // By a clock that stands still the boot of the swap-in would count as one of the swap-out.
    site.pass(1);
    request_swap_out(&site.app, id, site.user).await.unwrap();
    // The first disk fails in passing. In the next boot the second comes before it, and stands still.
    let agent = site.agent("pc1", 1).await;
    let first = agent.order().await;
    assert_eq!(first.disk.as_str(), "sda");
    agent.begin(&first).await.unwrap();
    agent.fail(&first, "transient").await.unwrap();
    let agent = site.again("pc1").await;
    let second = agent.order().await;
    assert_eq!(second.disk.as_str(), "sdb");
    agent.begin(&second).await.unwrap();
    site.pass(61);
    site.until_count("SELECT count(*) FROM captures WHERE state = 'failed'", 1).await;
    // It gave its turn up, and that is no failure of the one that waited.
    agent.save(&Upload::delta()).await;
    let agent = site.again("pc1").await;
    let again = agent.order().await;
    assert_eq!((again.capture, again.attempt), (second.capture, 2));
    agent.begin(&again).await.unwrap();
    site.pass(61);
    let reason = site.until_held("pc1").await;
    assert!(
        reason.contains("disk sdb was not saved: no byte was scanned") && reason.contains("2 attempts"),
        "{reason}"
    );
    assert_eq!(site.count(SANITIZED).await, 0);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_disk_that_reads_back_as_something_else_holds_the_machine(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    boss::swap::request_swap_in(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 0).await;
    let boss_api::agent::Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    let done = boss_api::agent::WriteDone { root: Some(Upload::delta().root) };
    let answer = agent.post(&format!("writes/{}/done", orders[0].write), &done).await;
    assert_eq!(code(answer), ErrorCode::VerificationFailed);
    assert!(site.until_held("pc1").await.contains("reads back as"));
    site.until_state(id, ExperimentState::Held).await;
    // A held experiment can be ended: what is on the machine came from the store.
    let end = request_terminate(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    agent.write_all().await;
    site.until_job(end, JobState::Done).await;
    site.until_node("pc1", NodeStep::Free).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boss_whose_term_is_over_stops_and_changes_nothing(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    let (_stop, stopping) = watch::channel(false);
    let other = term::take(&mut site.app.pool.acquire().await.unwrap(), Standing::default()).await.unwrap().term;
    assert_eq!(other, site.app.term + 1);
    let ended = boss::reconcile::run(site.app.clone(), stopping).await.unwrap_err();
    assert!(format!("{ended:#}").contains("another boss took over"), "{ended:#}");
    assert!(request_swap_out(&site.app, id, site.user).await.is_err());
    assert_eq!(site.experiment(id).await.state, ExperimentState::Active);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boss_started_again_takes_up_what_arrived(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let upload = Upload::delta();
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    for (digest, bytes) in &upload.frames {
        agent.put(&order, *digest, bytes.clone()).await.unwrap();
    }
    // What a killed boss leaves: the frames, and an index whose end is torn.
    let again =
        boss::store::Staging::open(site.state.path(), Arc::clone(&site.app.room), Arc::clone(&site.app.gate)).unwrap();
    let frames: Vec<_> = upload.frames.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(again.lacking(order.capture, &frames).unwrap(), []);
    let index = site.state.path().join(format!("store/staging/{}.index", order.capture));
    let whole = std::fs::read(&index).unwrap();
    std::fs::write(&index, &whole[..whole.len() - 3]).unwrap();
    let torn =
        boss::store::Staging::open(site.state.path(), Arc::clone(&site.app.room), Arc::clone(&site.app.gate)).unwrap();
    assert_eq!(torn.lacking(order.capture, &frames).unwrap(), [*frames.last().unwrap()]);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_is_loaded_when_the_experiment_ends_is_switched_off_before_its_disk_is_sanitized(pool: PgPool) {
    let site = Site::new(pool).await;
    for node in ["pc1", "pc2"] {
        site.add_node(node).await;
    }
    let id = site.add_experiment("e", true, &["a", "b"]).await;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    // It has its permit, and fetches an image: its disk is not open yet, and would be in a while.
    let fetching = site.agent("pc1", 0).await;
    fetching.task().await;
    let other = site.agent("pc2", 0).await;
    assert_eq!(code(other.with_another_secret().register().await), ErrorCode::NotAllowed);
    site.until_held("pc2").await;

    let end = request_terminate(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    assert_eq!(code(fetching.poll().await), ErrorCode::Stale);
    agent.write_all().await;
    site.agent("pc2", 1).await.write_all().await;
    site.until_job(end, JobState::Done).await;
    site.until_node("pc1", NodeStep::Free).await;
}
