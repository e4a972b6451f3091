//! Who may do what about a held machine: nobody but those who are named, and what loses data only twice confirmed.

use axum::http::{Method, StatusCode};
use boss_api::ids::{DiskId, ExperimentId, NodeId};
use boss_api::user::{ExperimentState, PowerConfig, UserRole};
use boss_db::nodes::{Disk, Node};
use boss_db::projects::ProjectRole;
use boss_db::users::User;
use boss_db::{PgPool, experiments, nodes, projects};
use boss_model::node::{NodeState, NodeStep};
use serde_json::{Value, json};
use sigs::{ByteLen, SectorSize};
use uuid::Uuid;

use crate::reconcile::hold::{Doubt, hold};
use crate::test_support::{PASSWORD, TestApp};

/// An experiment that is being swapped out, whose node `client` on pc1 is held.
struct Scene {
    site: TestApp,
    id: ExperimentId,
    ann: User,
    lea: User,
    olga: User,
    bob: User,
}

async fn seen(site: &TestApp, machine: NodeId) -> Node {
    nodes::get(&mut site.app.pool.acquire().await.unwrap(), machine).await.unwrap().unwrap()
}

async fn add_machine(site: &TestApp, name: &str) -> NodeId {
    let id = NodeId::new(Uuid::now_v7());
    let mut conn = site.app.pool.acquire().await.unwrap();
    let power = PowerConfig::Process { disks: [("sda".parse().unwrap(), format!("/disks/{name}"))].into() };
    nodes::add(&mut conn, id, &name.parse().unwrap(), &power, site.app.now()).await.unwrap();
    let disk = Disk {
        id: DiskId::new(Uuid::now_v7()),
        node_id: id,
        name: "sda".parse().unwrap(),
        serial: format!("S-{name}"),
        bytes: ByteLen::new(1 << 20),
        sector_size: SectorSize::S512,
        position: 0,
    };
    nodes::add_disk(&mut conn, &disk).await.unwrap();
    id
}

impl Scene {
    async fn new(pool: PgPool) -> Self {
        let site = TestApp::new(pool).await;
        let ann = site.user("ann", UserRole::Member, &["lab"]).await;
        let lea = site.user("lea", UserRole::Member, &["lab"]).await;
        let olga = site.user("olga", UserRole::Operator, &[]).await;
        let bob = site.user("bob", UserRole::Member, &["other"]).await;
        let id = site.experiment("lab", "bench", &ann).await;
        let project = site.project("lab").await;
        let mut conn = site.app.pool.acquire().await.unwrap();
        projects::add_member(&mut conn, project, lea.id, ProjectRole::Leader).await.unwrap();
        let vnodes = experiments::virtual_nodes(&mut conn, id).await.unwrap();
        let mut machines = Vec::new();
        for (number, vnode) in (1..).zip(&vnodes) {
            let machine = add_machine(&site, &format!("pc{number}")).await;
            nodes::attach(&mut conn, vnode.id, machine).await.unwrap();
            machines.push(machine);
        }
        sqlx::query("UPDATE nodes SET state = 'in_use'").execute(&mut *conn).await.unwrap();
        sqlx::query("UPDATE experiments SET state = 'active'").execute(&mut *conn).await.unwrap();
        drop(conn);
        crate::swap::request_swap_out(&site.app, id, ann.id).await.unwrap();
        let machine = seen(&site, machines[0]).await;
        hold(&site.app, &machine, Doubt::new("its disk cannot be read", "look at its cable")).await.unwrap();
        Self { site, id, ann, lea, olga, bob }
    }

    async fn ask(&self, who: &User, path: &str, body: Value) -> crate::test_support::Answer {
        let token = self.site.token(who).await;
        self.site.api(Method::POST, path, Some(&token), Some(body)).await
    }

    async fn discard(&self, who: &User, typed: &str, password: &str) -> crate::test_support::Answer {
        let confirmation = json!({ "typed": typed, "password": password });
        self.ask(who, "experiments/lab/bench/discard", json!({ "vname": "client", "confirmation": confirmation })).await
    }

    async fn machine(&self, name: &str) -> NodeState {
        let mut conn = self.site.app.pool.acquire().await.unwrap();
        nodes::find(&mut conn, &name.parse().unwrap()).await.unwrap().unwrap().state
    }

    async fn state(&self) -> ExperimentState {
        experiments::get(&mut self.site.app.pool.acquire().await.unwrap(), self.id).await.unwrap().unwrap().state
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.site.app.pool).await.unwrap()
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn only_a_leader_who_means_it_gives_up_what_could_not_be_saved(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let refused = [
        (&scene.bob, "bench", PASSWORD, "not_found", "does not exist"),
        (&scene.ann, "bench", PASSWORD, "not_allowed", "ask a leader of the project"),
        (&scene.olga, "bench", PASSWORD, "not_allowed", "may not change this experiment"),
        (&scene.lea, "bank", PASSWORD, "bad_request", "not the experiment's name"),
        (&scene.lea, "", PASSWORD, "bad_request", "not the experiment's name"),
        (&scene.lea, "bench", "wrong horse battery", "not_allowed", "not the password of lea"),
        (&scene.lea, "bench", "", "not_allowed", "not the password of lea"),
    ];
    for (who, typed, password, code, words) in refused {
        let answer = scene.discard(who, typed, password).await;
        assert_eq!(answer.code(), code, "{} {typed:?}: {}", who.name, answer.text);
        assert!(answer.text.contains(words), "{}", answer.text);
    }
    let confirmation = json!({ "typed": "bench", "password": PASSWORD });
    let other = json!({ "vname": "server", "confirmation": confirmation });
    let answer = scene.ask(&scene.lea, "experiments/lab/bench/discard", other).await;
    assert_eq!(answer.code(), "wrong_state", "what is not held is not given up: {}", answer.text);
    assert!(matches!(scene.machine("pc1").await, NodeState::Held(_)), "nothing was done");
    assert_eq!(scene.count("SELECT count(*) FROM waivers").await, 0);

    let done = scene.discard(&scene.lea, "bench", PASSWORD).await;
    assert_eq!(done.status, StatusCode::ACCEPTED, "{}", done.text);
    assert_eq!(scene.machine("pc1").await, NodeState::At(NodeStep::Releasable));
    assert_eq!(scene.state().await, ExperimentState::Swapping, "the others go on");
    let said = "SELECT count(*) FROM events e JOIN users u ON u.id = e.user_id
                WHERE e.kind = 'node.discarded' AND u.name = 'lea' AND e.message LIKE 'lea gave up what is on client%'";
    assert_eq!(scene.count(said).await, 1, "it is written down who did it");
    let word = "SELECT count(*) FROM waivers w JOIN users u ON u.id = w.user_id JOIN nodes n ON n.id = w.node_id
                WHERE u.name = 'lea' AND n.name = 'pc1' AND w.epoch = n.epoch";
    assert_eq!(scene.count(word).await, 1);
    assert_eq!(scene.discard(&scene.lea, "bench", PASSWORD).await.code(), "wrong_state", "only once");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn guessing_the_password_of_a_leader_is_slow_here_too(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let mut codes = Vec::new();
    for number in 0..7 {
        codes.push(scene.discard(&scene.lea, "bench", &format!("a wrong guess {number}")).await.code());
    }
    assert_eq!(codes.last().unwrap(), "unavailable", "{codes:?}");
    assert_eq!(scene.discard(&scene.lea, "bench", PASSWORD).await.code(), "unavailable", "the right one waits, too");
    assert!(matches!(scene.machine("pc1").await, NodeState::Held(_)));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_is_held_is_let_go_on_by_members_and_operators_and_nobody_else(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let retry = async |who: &User| scene.ask(who, "experiments/lab/bench/retry", json!({})).await;
    assert_eq!(retry(&scene.bob).await.code(), "not_found");
    let node = scene.ask(&scene.bob, "nodes/pc1/retry", json!({})).await;
    assert_eq!(node.code(), "not_allowed", "{}", node.text);
    assert!(matches!(scene.machine("pc1").await, NodeState::Held(_)));
    assert_eq!(retry(&scene.olga).await.status, StatusCode::ACCEPTED);
    assert_eq!(scene.machine("pc1").await, NodeState::At(NodeStep::Quiescing));
    assert_eq!(scene.state().await, ExperimentState::Swapping);
    assert_eq!(retry(&scene.ann).await.code(), "wrong_state", "nothing is held any more");

    // A machine that no experiment has is the operators' business.
    let free = add_machine(&scene.site, "pc9").await;
    let free = seen(&scene.site, free).await;
    // What was found of a machine that has moved since is found again, or not.
    let earlier = [
        Node { epoch: free.epoch + 1, ..free.clone() },
        Node { state: NodeState::At(NodeStep::Reserved), ..free.clone() },
    ];
    for earlier in &earlier {
        hold(&scene.site.app, earlier, Doubt::new("it was hot", "cool it")).await.unwrap();
        assert_eq!(scene.machine("pc9").await, NodeState::At(NodeStep::Free));
    }
    hold(&scene.site.app, &free, Doubt::new("it is hot", "cool it")).await.unwrap();
    assert_eq!(scene.ask(&scene.ann, "nodes/pc9/retry", json!({})).await.code(), "not_allowed");
    let done = scene.ask(&scene.olga, "nodes/pc9/retry", json!({})).await;
    assert_eq!((done.status, &done.json()["state"]), (StatusCode::OK, &json!({ "state": "free" })), "{}", done.text);
    assert_eq!(scene.ask(&scene.olga, "nodes/pc9/retry", json!({})).await.code(), "wrong_state");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_note_is_shown_and_goes_when_the_machine_goes_on(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let keep = async |who: &User, until: &str, note: &str| {
        scene.ask(who, "nodes/pc1/keep", json!({ "until": until, "note": note })).await
    };
    assert_eq!(keep(&scene.bob, "2026-12-01T00:00:00Z", "mine").await.code(), "not_allowed");
    let long = "x".repeat(501);
    for (until, note) in [
        ("2026-11-20T00:00:00Z", "it is over already"),
        ("2028-01-01T00:00:00Z", "too far"),
        ("2026-12-01T00:00:00Z", "  "),
        ("2026-12-01T00:00:00Z", "two\nlines"),
        ("2026-12-01T00:00:00Z", long.as_str()),
        ("tomorrow", "no time"),
    ] {
        assert_eq!(keep(&scene.ann, until, note).await.code(), "bad_request", "{until} {note}");
    }
    let kept = keep(&scene.ann, "2026-12-01T00:00:00Z", "I copy it by hand <b>").await;
    assert_eq!(kept.status, StatusCode::OK, "{}", kept.text);
    let note = json!({ "by": "ann", "until": "2026-12-01T00:00:00Z", "note": "I copy it by hand <b>" });
    assert_eq!(kept.json()["state"]["kept"], note);
    let page = scene.site.open("/experiments/lab/bench", Some(&scene.site.browser(&scene.lea).await.cookie)).await;
    assert!(page.text.contains("ann wants it left as it is until") && page.text.contains("by hand &#60;b&#62;"));
    scene.ask(&scene.olga, "experiments/lab/bench/retry", json!({})).await;
    assert_eq!(scene.count("SELECT count(*) FROM nodes WHERE kept_by IS NOT NULL").await, 0);
    assert_eq!(keep(&scene.ann, "2026-12-01T00:00:00Z", "again").await.code(), "wrong_state");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_experiment_with_unsaved_machines_is_not_ended_by_the_back_door(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let end = scene.ask(&scene.lea, "experiments/lab/bench/terminate", json!({})).await;
    assert_eq!(end.code(), "wrong_state");
    assert!(end.text.contains("pc1 is held and its disks are not saved"), "{}", end.text);
    scene.discard(&scene.lea, "bench", PASSWORD).await;
    let busy = scene.ask(&scene.ann, "experiments/lab/bench/terminate", json!({})).await;
    assert_eq!(busy.code(), "wrong_state", "the swap-out goes on: {}", busy.text);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn the_page_offers_each_reader_what_that_one_may_do(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let page = async |who: &User| {
        let browser = scene.site.browser(who).await;
        scene.site.open("/experiments/lab/bench", Some(&browser.cookie)).await.text
    };
    let [ann, lea, olga] = [page(&scene.ann).await, page(&scene.lea).await, page(&scene.olga).await];
    for html in [&ann, &lea, &olga] {
        assert!(html.contains("this machine is the only copy") && html.contains("its disk cannot be read"));
        assert!(html.contains(">Retry</button>") && html.contains(">Leave the note</button>"));
    }
    assert!(lea.contains(">Give it up</button>") && lea.contains("type=\"password\""));
    assert!(ann.contains("Only a leader of lab can give up") && !ann.contains(">Give it up</button>"));
    assert!(!olga.contains(">Give it up</button>") && !olga.contains("Take the swap-out back"));
    assert!(ann.contains("Take the swap-out back"));

    let browser = scene.site.browser(&scene.lea).await;
    let discard = async |typed: &str, password: &str| {
        let fields = [("vname", "client"), ("typed", typed), ("password", password)];
        scene.site.submit("/experiments/lab/bench/discard", &browser, &fields).await
    };
    let wrong = discard("bench", "wrong").await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(
        wrong.text.contains("role=\"alert\">nothing was done") && !wrong.text.contains("wrong\""),
        "{}",
        wrong.text
    );
    assert_eq!(discard("bank", PASSWORD).await.status, StatusCode::BAD_REQUEST);
    let note = [("vname", "client"), ("until", "2026-12-24"), ("note", "for ann")];
    let kept = scene.site.submit("/experiments/lab/bench/keep", &browser, &note).await;
    assert_eq!(kept.location(), "/experiments/lab/bench", "{}", kept.text);
    let done = discard("bench", PASSWORD).await;
    assert_eq!(done.location(), "/experiments/lab/bench", "{}", done.text);
    assert_eq!(scene.machine("pc1").await, NodeState::At(NodeStep::Releasable));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_swap_out_is_taken_back_by_those_who_may_ask_for_one(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let cancel = async |who: &User| scene.ask(who, "experiments/lab/bench/cancel", json!({})).await;
    assert_eq!(cancel(&scene.bob).await.code(), "not_found");
    assert_eq!(cancel(&scene.olga).await.code(), "not_allowed");
    let done = cancel(&scene.ann).await;
    assert_eq!((done.status, &done.json()["kind"]), (StatusCode::ACCEPTED, &json!("cancel")), "{}", done.text);
    assert_eq!(scene.machine("pc1").await, NodeState::At(NodeStep::Rebooting));
    assert_eq!(scene.state().await, ExperimentState::Activating);
    let give_up = scene.ask(&scene.lea, "experiments/lab/bench/giveup", json!({})).await;
    assert_eq!(give_up.code(), "wrong_state", "{}", give_up.text);
}
