//! Every setting acts: each is changed, and the difference is seen.

use boss::swap::{request_swap_in, request_swap_out};
use boss_api::agent::Task;
use boss_api::ids::ExperimentId;
use boss_api::user::{ExperimentState, JobState};
use boss_db::PgPool;
use boss_model::node::NodeStep;

use crate::agent::{Agent, Upload};
use crate::site::Site;

/// A machine about to be saved, with these settings.
async fn saving(pool: PgPool, settings: &[(&str, &str)]) -> (Site, ExperimentId, Agent) {
    let site = Site::new(pool).await;
    for (setting, value) in settings {
        site.set(setting, value).await;
    }
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    site.swap_in(id, &["pc1"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    (site, id, agent)
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn command_and_level_are_what_the_agent_is_told(pool: PgPool) {
    let (_site, _, agent) = saving(pool, &[("swap/command", "/opt/save"), ("swap/zstd_level", "7")]).await;
    let Task::Capture { command, .. } = agent.task().await else { panic!("not a capture") };
    assert_eq!((command.program.as_str(), command.zstd_level), ("/opt/save", 7));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn attempts_bound_how_often_a_transient_failure_is_tried(pool: PgPool) {
    let (site, _, agent) = saving(pool, &[("swap/attempts", "2")]).await;
    let order = agent.order().await;
    agent.fail(&order, "transient").await.unwrap();
    let agent = site.agent("pc1", 2).await;
    let order = agent.order().await;
    assert_eq!(order.attempt, 2);
    agent.fail(&order, "transient").await.unwrap();
    assert!(site.until_held("pc1").await.contains("2 attempts"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_attempt_that_stands_still_is_given_up_and_one_that_moves_is_not(pool: PgPool) {
    let (site, _, agent) = saving(pool, &[("swap/stall_timeout_s", "20"), ("swap/attempts", "1")]).await;
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    for scanned in 1..4 {
        site.pass(15);
        agent.progress(&order, scanned).await.unwrap();
    }
    // The same number again is no progress.
    site.pass(15);
    agent.progress(&order, 3).await.unwrap();
    assert_eq!(site.node("pc1").await.state.step(), Some(NodeStep::Capturing));
    site.pass(15);
    assert!(site.until_held("pc1").await.contains("swap/stall_timeout_s"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_attempt_that_takes_too_long_is_given_up_although_it_moves(pool: PgPool) {
    let (site, _, agent) = saving(pool, &[("swap/command_timeout_s", "40"), ("swap/attempts", "1")]).await;
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    for scanned in 1..3 {
        site.pass(15);
        agent.progress(&order, scanned).await.unwrap();
    }
    site.pass(15);
    assert!(site.until_held("pc1").await.contains("swap/command_timeout_s"));
}

async fn one_saved_one_not(pool: PgPool, on_failure: &str) -> (Site, ExperimentId) {
    let site = Site::new(pool).await;
    site.set("swap/on_failure", on_failure).await;
    site.add_node("pc1").await;
    site.add_node("pc2").await;
    let id = site.add_experiment("e", true, &["a", "b"]).await;
    site.swap_in(id, &["pc1", "pc2"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let (good, bad) = (site.agent("pc1", 1).await, site.agent("pc2", 1).await);
    good.save(&Upload::delta()).await;
    let order = bad.order().await;
    bad.fail(&order, "machine").await.unwrap();
    site.until_held("pc2").await;
    if on_failure == "release-verified" {
        good.write_all().await;
    }
    (site, id)
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn release_verified_frees_the_saved_and_holds_the_rest(pool: PgPool) {
    let (site, id) = one_saved_one_not(pool, "release-verified").await;
    site.until_node("pc1", NodeStep::Free).await;
    assert_eq!(site.count("SELECT count(*) FROM swap_points WHERE state = 'incomplete'").await, 1);
    // The held one stood still all the time: saved later, the point is complete.
    let job = boss::swap::request_retry(&site.app, id, site.user, false).await.unwrap();
    let agent = site.agent("pc2", 2).await;
    agent.save(&Upload::delta()).await;
    agent.write_all().await;
    site.until_job(job, JobState::Done).await;
    assert_eq!(site.count("SELECT count(*) FROM swap_points WHERE state = 'complete'").await, 1);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn hold_all_keeps_the_saved_ones_too(pool: PgPool) {
    let (site, id) = one_saved_one_not(pool, "hold-all").await;
    assert!(site.until_held("pc1").await.contains("hold-all"));
    assert_eq!(site.experiment(id).await.state, ExperimentState::Held);
    assert_eq!(site.count("SELECT count(*) FROM disk_writes WHERE purpose = 'sanitize'").await, 0);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_boot_that_takes_too_long_is_made_again(pool: PgPool) {
    let site = Site::new(pool).await;
    site.set("node/boot_timeout_s", "30").await;
    site.set("swap/attempts", "1").await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    let silent = site.booted("pc1", 0).await;
    site.pass(29);
    assert_eq!(site.power.boots_of("pc1"), 1);
    site.pass(2);
    site.booted("pc1", 1).await;
    assert!(silent.register().await.is_err(), "too late");
    site.pass(31);
    assert!(site.until_held("pc1").await.contains("booted 2 times"));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_system_that_does_not_shut_down_is_switched_off_after_its_time(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    site.swap_in(id, &["pc1"]).await;
    *site.power.hangs.lock().unwrap() = true;
    site.set("node/shutdown_timeout_s", "1").await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    // The default is 120 s, more than this waits.
    site.agent("pc1", 1).await;
    assert_eq!(*site.power.asked.lock().unwrap(), 1, "it was asked first");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn free_machines_hold_the_default_image_or_zeros(pool: PgPool) {
    let (site, id, agent) = saving(pool, &[("node/default_image", "debian")]).await;
    agent.save(&Upload::delta()).await;
    let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    assert_eq!(orders[0].target_root, Some(site.root), "overwritten with the default image");
    agent.write_all().await;
    site.until_state(id, ExperimentState::Swapped).await;
    assert_eq!(site.count("SELECT count(*) FROM segments").await, 1);

    site.set("node/default_image", "").await;
    site.swap_in(id, &["pc1"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 3).await;
    agent.save(&Upload::delta()).await;
    let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    assert_eq!((orders[0].image.as_ref(), orders[0].target_root), (None, None), "zeroed");
    agent.write_all().await;
    site.until_state(id, ExperimentState::Swapped).await;
    assert_eq!(site.count("SELECT count(*) FROM segments").await, 0);
}
