//! What people do about machines that are held, and about swaps they do not want any more.

use boss::auth::authorize::Subject;
use boss::auth::confirm::{self, Confirmed};
use boss::auth::password;
use boss::power::PowerStatus;
use boss::swap::{
    request_cancel, request_discard, request_give_up, request_node_retry, request_retry, request_swap_in,
    request_swap_out, request_terminate,
};
use boss_api::ErrorCode;
use boss_api::agent::{Permit, Task, WriteDone};
use boss_api::ids::{ExperimentId, JobId};
use boss_api::user::{Confirmation, ExperimentState, JobState, SwapPointState};
use boss_db::projects::ProjectRole;
use boss_db::{PgPool, captures, points, projects, users};
use boss_model::capture::CaptureStep;
use boss_model::node::{NodeState, NodeStep};
use sigs::Digest;
use sigs::seal::{SealKind, TrustedKeys};

use crate::agent::{Agent, Upload};
use crate::site::{Site, active, code, name};

/// The user of the site leads the project now, and confirms.
async fn confirmed(site: &Site, id: ExperimentId) -> Confirmed {
    const PASSWORD: &str = "correct horse battery";
    let mut conn = site.app.pool.acquire().await.unwrap();
    users::set_password(&mut conn, site.user, &password::hash(PASSWORD).unwrap()).await.unwrap();
    projects::add_member(&mut conn, site.project, site.user, ProjectRole::Leader).await.unwrap();
    let user = users::get(&mut conn, site.user).await.unwrap().unwrap();
    let subject = Subject { projects: projects::of_user(&mut conn, user.id).await.unwrap(), user };
    let desk = boss::auth::Site::new(site.app.clone());
    let said = Confirmation { typed: "e".into(), password: PASSWORD.into() };
    confirm::to_discard(&desk, &subject, &site.experiment(id).await, &said).await.unwrap()
}

async fn permit(site: &Site, agent: &Agent) -> Permit {
    let task = agent.task().await;
    let Task::Write { orders, .. } = &task else { panic!("not a write: {task:?}") };
    let keys = TrustedKeys::new([site.app.keys.public()]);
    serde_json::from_str(orders[0].permit.verify(SealKind::Permit, &keys).unwrap()).unwrap()
}

async fn newest_point(site: &Site, id: ExperimentId) -> points::SwapPoint {
    points::newest(&mut site.app.pool.acquire().await.unwrap(), id).await.unwrap().unwrap()
}

/// Two nodes are swapped out: `a` is saved, and `b` fails for good.
async fn one_saved_one_held(site: &Site, id: ExperimentId) -> (JobId, Agent) {
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let (a, b) = (site.agent("pc1", 1).await, site.agent("pc2", 1).await);
    a.save(&Upload::delta()).await;
    site.until_node("pc1", NodeStep::Releasable).await;
    let order = b.order().await;
    b.begin(&order).await.unwrap();
    b.fail(&order, "corruption").await.unwrap();
    site.until_held("pc2").await;
    (job, a)
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_one_node_could_not_save_is_given_up_and_the_other_keeps_what_it_saved(pool: PgPool) {
    let (site, id) = active(pool, &["pc1", "pc2"], &["a", "b"]).await;
    let (job, a) = one_saved_one_held(&site, id).await;
    // The policy of the job: the saved one is released at once, and the other does not spoil it.
    assert!(permit(&site, &a).await.evidence.contains("verified in epoch 2"));
    a.write_all().await;
    site.until_node("pc1", NodeStep::Free).await;
    assert_eq!(newest_point(&site, id).await.sealed, None, "there may still come more");

    let confirmed = confirmed(&site, id).await;
    request_discard(&site.app, id, &name("b"), &confirmed).await.unwrap();
    let b = site.again("pc2").await;
    let permit = permit(&site, &b).await;
    assert!(permit.evidence.starts_with("given up: user "), "{}", permit.evidence);
    assert!(permit.evidence.contains(&site.user.to_string()), "{}", permit.evidence);
    b.write_all().await;
    site.until_job(job, JobState::Done).await;
    site.until_state(id, ExperimentState::Swapped).await;
    let point = newest_point(&site, id).await;
    assert_eq!(point.state, SwapPointState::Incomplete);
    assert!(point.sealed.is_some(), "what is saved of it can be swapped in");

    // `a` comes with what it saved, `b` with its base image.
    request_swap_in(&site.app, id, site.user).await.unwrap();
    let mut roots = Vec::new();
    for node in ["pc1", "pc2"] {
        let agent = site.again(node).await;
        let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
        roots.push(orders[0].target_root);
        agent.write_all().await;
    }
    roots.sort_by_key(|root| *root == Some(site.root));
    assert_eq!(roots, [Some(Upload::delta().root), Some(site.root)]);
    site.until_state(id, ExperimentState::Active).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn the_policy_is_that_of_the_moment_when_the_swap_out_was_asked_for(pool: PgPool) {
    let site = Site::new(pool).await;
    for node in ["pc1", "pc2"] {
        site.add_node(node).await;
    }
    let id = site.add_experiment("e", true, &["a", "b"]).await;
    site.swap_in(id, &["pc1", "pc2"]).await;
    site.set("swap/on_failure", "hold-all").await;
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    site.set("swap/on_failure", "release-verified").await;
    let (a, b) = (site.agent("pc1", 1).await, site.agent("pc2", 1).await);
    a.save(&Upload::delta()).await;
    let order = b.order().await;
    b.begin(&order).await.unwrap();
    b.fail(&order, "corruption").await.unwrap();
    site.until_held("pc2").await;
    let reason = site.until_held("pc1").await;
    assert!(reason.contains("another machine of the experiment is not"), "{reason}");
    let mut conn = site.app.pool.acquire().await.unwrap();
    let view = boss_db::views::job(&mut conn, job).await.unwrap().unwrap().view;
    assert_eq!(view.on_failure, Some(boss_api::user::OnFailure::HoldAll), "and it is shown");
    drop(conn);
    // Giving up the one lets the other go, which was held only because of it.
    let confirmed = confirmed(&site, id).await;
    request_discard(&site.app, id, &name("b"), &confirmed).await.unwrap();
    for node in ["pc1", "pc2"] {
        site.again(node).await.write_all().await;
    }
    site.until_job(job, JobState::Done).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_retry_with_full_images_compares_with_no_base(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let order = agent.order().await;
    assert_eq!(order.bases.len(), 1);
    agent.begin(&order).await.unwrap();
    agent.fail(&order, "corruption").await.unwrap();
    site.until_held("pc1").await;
    request_retry(&site.app, id, site.user, true).await.unwrap();
    let agent = site.agent("pc1", 2).await;
    let order = agent.order().await;
    assert_eq!((order.bases.len(), order.attempt), (0, 2), "nothing to compare with");
    // A delta is not what was ordered now.
    agent.begin(&order).await.unwrap();
    let upload = Upload::delta();
    for (digest, bytes) in &upload.frames {
        agent.put(&order, *digest, bytes.clone()).await.unwrap();
    }
    assert_eq!(code(agent.finish(&order, &upload).await), ErrorCode::VerificationFailed);
    agent.save_begun(&order, &Upload::full()).await;
    agent.write_all().await;
    site.until_state(id, ExperimentState::Swapped).await;
    // It comes back without a base.
    request_swap_in(&site.app, id, site.user).await.unwrap();
    let agent = site.again("pc1").await;
    let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    assert!(orders[0].image.is_none() && orders[0].delta.is_some());
    assert_eq!(orders[0].target_root, Some(Upload::full().root));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_swap_out_is_taken_back_while_its_machines_are_untouched(pool: PgPool) {
    let (site, id) = active(pool, &["pc1", "pc2"], &["a", "b"]).await;
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let (a, b) = (site.agent("pc1", 1).await, site.agent("pc2", 1).await);
    let upload = Upload::delta();
    a.save(&upload).await;
    site.until_node("pc1", NodeStep::Releasable).await;
    let order = b.order().await;
    b.begin(&order).await.unwrap();
    b.put(&order, upload.frames[0].0, upload.frames[0].1.clone()).await.unwrap();

    let back = request_cancel(&site.app, id, site.user).await.unwrap();
    // What is still under way comes too late: gone, and nothing of it is kept.
    let late = [
        b.put(&order, Digest::of(b"late"), b"late".to_vec()).await,
        b.offer(&order, &upload).await.map(drop),
        b.progress(&order, 1).await,
        b.finish(&order, &upload).await,
        b.poll().await.map(drop),
    ];
    for (number, answer) in late.into_iter().enumerate() {
        assert_eq!(code(answer), ErrorCode::Stale, "request {number}");
    }
    site.until_job(back, JobState::Done).await;
    site.until_job(job, JobState::Failed).await;
    site.until_state(id, ExperimentState::Active).await;
    for node in ["pc1", "pc2"] {
        assert_eq!(site.node(node).await.epoch, 3, "they changed hands");
        assert_eq!(site.power.status_of(node), boss::power::PowerStatus::OwnDisk);
    }
    let point = newest_point(&site, id).await;
    assert_eq!((point.state, point.sealed), (SwapPointState::Incomplete, None));
    let all = captures::of_point(&mut site.app.pool.acquire().await.unwrap(), point.id).await.unwrap();
    let steps: Vec<_> = all.iter().map(|capture| capture.state.step()).collect();
    assert_eq!(steps, [CaptureStep::Verified, CaptureStep::Failed], "what was saved stays saved");
    let staging = site.state.path().join("store/staging");
    site.until("nothing is left of what was not", || async {
        std::fs::read_dir(&staging).unwrap().next().is_none().then_some(())
    })
    .await;
    assert_eq!(site.count("SELECT count(*) FROM disk_writes WHERE purpose = 'sanitize'").await, 0);

    // The next swap-out is as if there had been none.
    let job = request_swap_out(&site.app, id, site.user).await.unwrap();
    let (a, b) = (site.again("pc1").await, site.again("pc2").await);
    a.save(&upload).await;
    b.save(&upload).await;
    a.write_all().await;
    b.write_all().await;
    site.until_job(job, JobState::Done).await;
    assert_eq!(newest_point(&site, id).await.state, SwapPointState::Complete);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_machine_that_is_being_overwritten_does_not_go_back_and_is_named(pool: PgPool) {
    let (site, id) = active(pool, &["pc1", "pc2"], &["a", "b"]).await;
    let (job, a) = one_saved_one_held(&site, id).await;
    site.until_node("pc1", NodeStep::Sanitizing).await;
    let refused = request_cancel(&site.app, id, site.user).await.unwrap_err();
    assert_eq!(refused.told().code, ErrorCode::WrongState);
    let said = &refused.told().message;
    assert!(said.contains("cannot be taken back: a on pc1 is being overwritten") && !said.contains("b on"), "{said}");
    a.write_all().await;
    site.until_node("pc1", NodeStep::Free).await;
    let refused = request_cancel(&site.app, id, site.user).await.unwrap_err();
    assert!(refused.told().message.contains("a has no machine any more"), "{}", refused.told().message);
    assert!(matches!(site.node("pc2").await.state, NodeState::Held(_)), "nothing was done");
    site.until_job(job, JobState::Held).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_swap_out_that_is_held_is_taken_back_too(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    agent.fail(&order, "machine").await.unwrap();
    site.until_held("pc1").await;
    let back = request_cancel(&site.app, id, site.user).await.unwrap();
    site.until_job(back, JobState::Done).await;
    site.until_node("pc1", NodeStep::InUse).await;
    site.until_state(id, ExperimentState::Active).await;
    let nothing = request_cancel(&site.app, id, site.user).await.unwrap_err();
    assert!(nothing.told().message.contains("is active: no swap-out can be taken back"), "{}", nothing.told().message);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_swap_out_that_is_taken_back_and_held_on_its_way_back_is_terminated(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    let order = agent.order().await;
    agent.begin(&order).await.unwrap();
    agent.fail(&order, "machine").await.unwrap();
    site.until_held("pc1").await;
    *site.power.deaf.lock().unwrap() = true;
    let back = request_cancel(&site.app, id, site.user).await.unwrap();
    site.until_held("pc1").await;
    site.until_job(back, JobState::Held).await;
    let NodeState::Held(held) = site.node("pc1").await.state else { panic!("pc1 is not held") };
    assert_eq!(held.from, NodeStep::Rebooting);
    *site.power.deaf.lock().unwrap() = false;
    let end = request_terminate(&site.app, id, site.user).await.unwrap();
    site.again("pc1").await.write_all().await;
    site.until_job(end, JobState::Done).await;
    site.until_job(back, JobState::Failed).await;
    site.until_node("pc1", NodeStep::Free).await;
    site.until_state(id, ExperimentState::Ended).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_swap_in_that_is_held_is_given_up_and_what_was_saved_stays(pool: PgPool) {
    let (site, id) = active(pool, &["pc1"], &["a"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 1).await;
    agent.save(&Upload::delta()).await;
    agent.write_all().await;
    site.until_state(id, ExperimentState::Swapped).await;

    let swap_in = request_swap_in(&site.app, id, site.user).await.unwrap();
    let agent = site.agent("pc1", 2).await;
    let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    let early = request_give_up(&site.app, id, site.user, None).await.unwrap_err();
    assert_eq!(early.told().code, ErrorCode::WrongState, "it is not held");
    let wrong = WriteDone { root: Some(site.root) };
    agent.post(&format!("writes/{}/done", orders[0].write), &wrong).await.unwrap_err();
    site.until_held("pc1").await;
    let up = request_give_up(&site.app, id, site.user, None).await.unwrap();
    site.until_job(swap_in, JobState::Failed).await;
    let agent = site.agent("pc1", 3).await;
    assert!(permit(&site, &agent).await.evidence.contains("gave the swap-in up before the machine ran"));
    agent.write_all().await;
    site.until_job(up, JobState::Done).await;
    site.until_state(id, ExperimentState::Swapped).await;
    site.until_node("pc1", NodeStep::Free).await;
    assert_eq!(newest_point(&site, id).await.state, SwapPointState::Complete, "untouched");
    // By a clock that stands still all boots would count as those of this swap-in.
    site.pass(1);
    request_swap_in(&site.app, id, site.user).await.unwrap();
    let agent = site.again("pc1").await;
    let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    assert_eq!(orders[0].target_root, Some(Upload::delta().root), "and it comes back");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_node_that_runs_already_is_given_up_only_with_a_word_for_it(pool: PgPool) {
    let site = Site::new(pool).await;
    for node in ["pc1", "pc2"] {
        site.add_node(node).await;
    }
    let id = site.add_experiment("e", true, &["a", "b"]).await;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    site.agent("pc1", 0).await.write_all().await;
    site.until_node("pc1", NodeStep::InUse).await;
    let agent = site.agent("pc2", 0).await;
    let Task::Write { orders, .. } = agent.task().await else { panic!("not a write") };
    let wrong = WriteDone { root: Some(Upload::delta().root) };
    agent.post(&format!("writes/{}/done", orders[0].write), &wrong).await.unwrap_err();
    site.until_held("pc2").await;
    let refused = request_give_up(&site.app, id, site.user, None).await.unwrap_err();
    assert_eq!(refused.told().code, ErrorCode::NotAllowed);
    assert!(refused.told().message.contains("pc1 runs already"), "{}", refused.told().message);
    assert_eq!(site.node("pc1").await.state, NodeState::At(NodeStep::InUse), "nothing was done");

    let confirmed = confirmed(&site, id).await;
    let up = request_give_up(&site.app, id, site.user, Some(&confirmed)).await.unwrap();
    let a = site.again("pc1").await;
    assert!(permit(&site, &a).await.evidence.starts_with("given up: user "));
    a.write_all().await;
    let b = site.again("pc2").await;
    assert!(permit(&site, &b).await.evidence.contains("before the machine ran"));
    b.write_all().await;
    site.until_job(up, JobState::Done).await;
    site.until_state(id, ExperimentState::Swapped).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_machine_that_is_saved_again_is_not_given_up_because_another_is_still_held(pool: PgPool) {
    let site = Site::new(pool).await;
    for node in ["pc1", "pc2"] {
        site.add_node(node).await;
    }
    site.set("swap/on_failure", "hold-all").await;
    let id = site.add_experiment("e", true, &["a", "b"]).await;
    site.swap_in(id, &["pc1", "pc2"]).await;
    request_swap_out(&site.app, id, site.user).await.unwrap();
    let (a, b) = (site.agent("pc1", 1).await, site.agent("pc2", 1).await);
    a.save(&Upload::delta()).await;
    let order = b.order().await;
    b.begin(&order).await.unwrap();
    b.fail(&order, "corruption").await.unwrap();
    for node in ["pc1", "pc2"] {
        site.until_held(node).await;
    }
    request_node_retry(&site.app, site.node("pc2").await.id, site.user).await.unwrap();
    assert_eq!(site.node("pc2").await.state.step(), Some(NodeStep::Capturing));
    assert_eq!(site.experiment(id).await.state, ExperimentState::Held, "pc1 is");
    let refused = request_terminate(&site.app, id, site.user).await.unwrap_err();
    assert!(
        refused.told().message.contains("pc2 is capturing and its disks are not saved"),
        "{}",
        refused.told().message
    );
    assert_eq!(site.count("SELECT count(*) FROM disk_writes WHERE purpose = 'sanitize'").await, 0);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_node_whose_start_was_not_heard_of_may_run_and_is_given_up_only_with_a_word_for_it(pool: PgPool) {
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    *site.power.deaf.lock().unwrap() = true;
    request_swap_in(&site.app, id, site.user).await.unwrap();
    site.agent("pc1", 0).await.write_all().await;
    site.until_held("pc1").await;
    assert_eq!(site.power.status_of("pc1"), PowerStatus::OwnDisk, "it runs");
    let refused = request_give_up(&site.app, id, site.user, None).await.unwrap_err();
    assert_eq!(refused.told().code, ErrorCode::NotAllowed);
    assert!(refused.told().message.contains("pc1 may run already"), "{}", refused.told().message);
    let confirmed = confirmed(&site, id).await;
    let up = request_give_up(&site.app, id, site.user, Some(&confirmed)).await.unwrap();
    let agent = site.again("pc1").await;
    assert!(permit(&site, &agent).await.evidence.starts_with("given up: user "));
    agent.write_all().await;
    site.until_job(up, JobState::Done).await;
    site.until_node("pc1", NodeStep::Free).await;
}
