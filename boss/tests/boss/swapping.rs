//! The main job, and that nothing of it happens out of order.

use boss::swap::{request_load, request_swap_in, request_swap_out, request_terminate, set_save_swap_state};
use boss_api::ErrorCode;
use boss_api::agent::{Permit, SwapPointStatement, Task, WritePurpose};
use boss_api::user::{ExperimentState, JobState};
use boss_db::{PgPool, points};
use boss_model::node::NodeStep;
use sigs::seal::{SealKind, TrustedKeys};

use crate::agent::Upload;
use crate::site::Site;

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn two_nodes_are_saved_and_come_back_on_each_others_machine(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    site.add_node("pc2").await;
    let id = site.add_experiment("kept", true, &["a", "b"]).await;
    site.swap_in(id, &["pc1", "pc2"]).await;

    let folder = site.state.path().join("proj/demo/exp/kept/swapinfo");
    let sig = |vname: &str| std::fs::read_link(folder.join(format!("{vname}.sig"))).unwrap();
    assert_eq!(sig("a"), sig("b"), "one copy for all nodes with that image");
    let part = std::fs::read_to_string(folder.join("a.part")).unwrap();
    assert!(part.contains("image=debian/1") && part.contains(&site.root.to_string()), "{part}");
    set_save_swap_state(&site.app, id, false).await.unwrap();
    assert!(!folder.join("a.sig").exists() && !folder.join("a.part").exists(), "the box is off");
    set_save_swap_state(&site.app, id, true).await.unwrap();
    assert!(folder.join("a.sig").exists(), "the box is on again");

    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let first = site.agent("pc1", 1).await;
    site.booted("pc2", 1).await;
    assert_eq!(first.poll().await.unwrap(), Task::Idle, "no disk is saved before all machines stand still");
    site.until_node("pc1", NodeStep::Quiescing).await;
    let second = site.agent("pc2", 1).await;
    let upload = Upload::delta();
    let order = first.order().await;
    assert_eq!(order.bases[0].root, site.root);
    first.begin(&order).await.unwrap();
    first.save_begun(&order, &upload).await;
    site.until_node("pc1", NodeStep::Releasable).await;
    assert_eq!(site.count("SELECT count(*) FROM disk_writes WHERE purpose = 'sanitize'").await, 0, "not before all");
    second.save(&upload).await;
    for agent in [&first, &second] {
        let task = agent.task().await;
        let Task::Write { orders, .. } = &task else { panic!("not a write: {task:?}") };
        let keys = TrustedKeys::new([site.app.keys.public()]);
        let permit: Permit = serde_json::from_str(orders[0].permit.verify(SealKind::Permit, &keys).unwrap()).unwrap();
        assert_eq!((permit.purpose, permit.epoch), (WritePurpose::Sanitize, 2));
        assert!(permit.evidence.contains("verified in epoch 2"), "{}", permit.evidence);
        agent.write_all().await;
    }
    site.until_job(job, JobState::Done).await;
    site.until_state(id, ExperimentState::Swapped).await;
    site.until_node("pc1", NodeStep::Free).await;
    let point = points::newest(&mut site.app.pool.acquire().await.unwrap(), id).await.unwrap().unwrap();
    let sealed = sigs::seal::Sealed::parse(point.sealed.unwrap().as_bytes()).unwrap();
    let keys = TrustedKeys::new([site.app.keys.public()]);
    let statement: SwapPointStatement =
        serde_json::from_str(sealed.verify(SealKind::SwapPoint, &keys).unwrap()).unwrap();
    assert_eq!(statement.captures.len(), 2);
    assert!(statement.captures.iter().all(|saved| saved.target_root == upload.root));
    assert!(folder.join("a.sda.1.zdi").exists() && folder.join("1.manifest").exists());

    request_swap_in(&site.app, id, site.user).await.unwrap();
    for node in ["pc1", "pc2"] {
        let agent = site.agent(node, 2).await;
        let task = agent.task().await;
        let Task::Write { orders, .. } = &task else { panic!("not a write: {task:?}") };
        assert_eq!(orders[0].target_root, Some(upload.root), "base and delta");
        let vname = if node == "pc1" { "b" } else { "a" };
        let capture = statement.captures.iter().find(|saved| saved.vname.as_str() == vname).unwrap();
        assert_eq!(orders[0].delta.as_ref().unwrap().capture, capture.capture, "{node} is {vname} now");
        agent.write_all().await;
    }
    site.until_state(id, ExperimentState::Active).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn without_the_box_nothing_is_saved_and_the_permit_says_who_wanted_that(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("gone", false, &["a"]).await;
    site.swap_in(id, &["pc1"]).await;
    assert!(!site.state.path().join("proj/demo/exp/gone/swapinfo/a.sig").exists());
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    site.agent("pc1", 1).await.write_all().await;
    site.until_job(job, JobState::Done).await;
    assert_eq!(site.count("SELECT count(*) FROM captures").await, 0);
    let waived = "SELECT count(*) FROM disk_writes WHERE purpose = 'sanitize' AND evidence LIKE 'not saved: user %'";
    assert_eq!(site.count(waived).await, 1);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_is_asked_for_in_the_wrong_state_is_refused_in_words(pool: PgPool) {
    let site = Site::new(pool).await;
    let node = site.add_node("pc1").await;
    let (one, two) = (site.add_experiment("one", true, &["a"]).await, site.add_experiment("two", true, &["a"]).await);
    let out = request_swap_out(&site.app, one, site.user).await.unwrap_err();
    assert_eq!(out.told().code, ErrorCode::WrongState);
    assert!(out.told().message.contains("demo/one is swapped"), "{}", out.told().message);
    assert!(request_load(&site.app, (one, node), site.image, site.user).await.is_err(), "nobody's machine");
    request_swap_in(&site.app, one, site.user).await.unwrap();
    let full = request_swap_in(&site.app, two, site.user).await.unwrap_err();
    assert!(full.told().message.contains("needs 1 machines, and of the 0 that are free"), "{}", full.told().message);
    assert_eq!(site.experiment(two).await.state, ExperimentState::Swapped, "nothing changed");
    assert!(request_terminate(&site.app, one, site.user).await.is_err(), "busy");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_image_is_loaded_on_demand_and_an_experiment_ends(pool: PgPool) {
    let site = Site::new(pool).await;
    let node = site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    site.swap_in(id, &["pc1"]).await;
    let load = request_load(&site.app, (id, node), site.image, site.user).await.unwrap();
    site.agent("pc1", 1).await.write_all().await;
    site.until_job(load, JobState::Done).await;
    assert_eq!(site.experiment(id).await.state, ExperimentState::Active);
    let end = request_terminate(&site.app, id, site.user).await.unwrap();
    site.agent("pc1", 2).await.write_all().await;
    site.until_job(end, JobState::Done).await;
    assert_eq!(site.experiment(id).await.state, ExperimentState::Ended);
    let folder = site.state.path().join("proj/demo/exp/e/swapinfo");
    site.until("the view is empty", || async {
        std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none()).then_some(())
    })
    .await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn only_so_many_disks_are_saved_at_once_and_the_others_get_their_turn(pool: PgPool) {
    let site = Site::new(pool).await;
    site.set("swap/at_once", "1").await;
    for node in ["pc1", "pc2"] {
        site.add_node(node).await;
    }
    let id = site.add_experiment("turns", true, &["a", "b"]).await;
    site.swap_in(id, &["pc1", "pc2"]).await;
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let (first, second) = (site.agent("pc1", 1).await, site.agent("pc2", 1).await);
    let attempts = "SELECT count(*) FROM captures WHERE attempt > 0";
    site.until_count(attempts, 1).await;
    let (one, other) = match first.poll().await.unwrap() {
        Task::Capture { .. } => (&first, &second),
        _ => (&second, &first),
    };
    let order = one.order().await;
    one.begin(&order).await.unwrap();
    assert_eq!(other.poll().await.unwrap(), Task::Idle, "it waits while the first is read");
    assert_eq!(site.count(attempts).await, 1);
    one.save_begun(&order, &Upload::delta()).await;
    other.save(&Upload::delta()).await;
    for agent in [&first, &second] {
        agent.write_all().await;
    }
    site.until_job(job, JobState::Done).await;
}
