//! Projects, experiments, images, settings: what the guards of their queries guard, and what is shown.

use boss_api::ids::{ExperimentId, ImageId, ImageVersionId, ProjectId, UserId, VirtualNodeId};
use boss_api::user::{ExperimentState, ImageSelector, UserRole};
use boss_api::{ExperimentName, Name};
use boss_db::experiments::NewExperiment;
use boss_db::images::NewVersion;
use boss_db::projects::ProjectRole;
use boss_db::users::NewUser;
use boss_db::{DbError, PgConnection, PgPool, experiments, images, keys, projects, settings, term, users, views};
use boss_model::term::Standing;
use sigs::seal::SigningKey;
use sigs::{ByteLen, Digest, Root};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

const NOW: OffsetDateTime = datetime!(2026-11-21 01:00 UTC);

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

async fn user(conn: &mut PgConnection, who: &str) -> UserId {
    let id = UserId::new(Uuid::now_v7());
    let new = NewUser { id, name: &name(who), password_hash: "$", role: UserRole::Member, at: NOW };
    users::add(conn, new).await.expect("a new user");
    id
}

async fn project(conn: &mut PgConnection, pid: &str) -> ProjectId {
    projects::ensure(conn, ProjectId::new(Uuid::now_v7()), &name(pid), NOW).await.expect("a project")
}

async fn version(conn: &mut PgConnection, pid: &str, image: &str) -> ImageVersionId {
    let project = project(conn, pid).await;
    let key = SigningKey::from_seed(&[1; 32]).public();
    // A key that is there already is refused; that is as good.
    if keys::all(conn).await.expect("keys").is_empty() {
        keys::add(conn, key.id(), &key.to_pem().expect("PEM"), "", NOW).await.expect("a new key");
    }
    let image_id =
        images::ensure(conn, ImageId::new(Uuid::now_v7()), project, &name(image), NOW).await.expect("an image");
    let id = ImageVersionId::new(Uuid::now_v7());
    let new = NewVersion {
        id,
        image_id,
        zdi: Digest::of(b"zdi"),
        zdi_bytes: ByteLen::new(10),
        sig: Digest::of(b"sig"),
        sig_bytes: ByteLen::new(5),
        root: Root::from_bytes([9; 32]),
        disk_bytes: ByteLen::new(4096),
        min_disk_bytes: ByteLen::new(4096),
        sealed: "sealed",
        key: key.id(),
        at: NOW,
    };
    images::add_version(conn, new).await.expect("a version");
    id
}

async fn experiment(
    conn: &mut PgConnection,
    project_id: ProjectId,
    eid: &str,
    creator_id: UserId,
) -> Result<ExperimentId, DbError> {
    let id = ExperimentId::new(Uuid::now_v7());
    let new = NewExperiment { id, project_id, eid: &name(eid), save_swap_state: true, creator_id, at: NOW };
    experiments::add(conn, new).await.map(|()| id)
}

fn is_constraint(error: &DbError, wanted: &str) -> bool {
    matches!(error, DbError::Constraint { constraint } if constraint == wanted)
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_move_needs_the_right_state_and_the_ruling_term(pool: PgPool) {
    let conn = &mut *pool.acquire().await.unwrap();
    let own = term::take(conn, Standing::default()).await.unwrap().term;
    let (ann, lab) = (user(conn, "ann").await, project(conn, "lab").await);
    let id = experiment(conn, lab, "bench", ann).await.unwrap();
    let (swapped, activating) = (ExperimentState::Swapped, ExperimentState::Activating);
    let wrong_state = experiments::transition(conn, own, id, (activating, ExperimentState::Active), NOW).await;
    assert!(matches!(wrong_state, Err(DbError::LostRace { .. })), "{wrong_state:?}");
    let later = term::take(conn, Standing::default()).await.unwrap().term;
    let wrong_term = experiments::transition(conn, own, id, (swapped, activating), NOW).await;
    assert!(matches!(wrong_term, Err(DbError::LostRace { .. })), "{wrong_term:?}");
    experiments::transition(conn, later, id, (swapped, activating), NOW).await.unwrap();
    let again = experiments::transition(conn, later, id, (swapped, activating), NOW).await;
    assert!(matches!(again, Err(DbError::LostRace { .. })), "only once: {again:?}");
    assert_eq!(experiments::get(conn, id).await.unwrap().unwrap().state, activating);
    let moving = experiments::in_states(conn, &[activating]).await.unwrap();
    assert_eq!(moving.iter().map(|of| of.id).collect::<Vec<_>>(), [id]);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn an_ended_experiment_gives_its_name_back_and_nothing_else(pool: PgPool) {
    let conn = &mut *pool.acquire().await.unwrap();
    let own = term::take(conn, Standing::default()).await.unwrap().term;
    let (ann, lab) = (user(conn, "ann").await, project(conn, "lab").await);
    let first = experiment(conn, lab, "bench", ann).await.unwrap();
    let taken = experiment(conn, lab, "bench", ann).await.unwrap_err();
    assert!(is_constraint(&taken, "experiments_eid_key"), "{taken:?}");
    let attic = project(conn, "attic").await;
    experiment(conn, attic, "bench", ann).await.unwrap();

    let image = version(conn, "system", "debian").await;
    let node = VirtualNodeId::new(Uuid::now_v7());
    experiments::add_virtual_node(conn, node, first, &name("client"), image).await.unwrap();
    let twice = VirtualNodeId::new(Uuid::now_v7());
    let twice = experiments::add_virtual_node(conn, twice, first, &name("client"), image).await.unwrap_err();
    assert!(is_constraint(&twice, "virtual_nodes_vname_key"), "{twice:?}");

    for (from, to) in [
        (ExperimentState::Swapped, ExperimentState::Terminating),
        (ExperimentState::Terminating, ExperimentState::Ended),
    ] {
        experiments::transition(conn, own, first, (from, to), NOW).await.unwrap();
    }
    let over = experiments::set_save_swap_state(conn, first, false).await;
    assert!(matches!(over, Err(DbError::LostRace { .. })), "the box of one that has ended stays: {over:?}");
    let second = experiment(conn, lab, "bench", ann).await.unwrap();
    let full: ExperimentName = "lab/bench".parse().unwrap();
    let found = experiments::find(conn, &full).await.unwrap().unwrap();
    assert_eq!(found.id, second);
    assert!(views::experiment(conn, &found).await.unwrap().nodes.is_empty(), "a reused name inherits nothing");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn members_see_their_projects_and_the_sites_images(pool: PgPool) {
    let conn = &mut *pool.acquire().await.unwrap();
    let (ann, bob, lab) = (user(conn, "ann").await, user(conn, "bob").await, project(conn, "lab").await);
    projects::add_member(conn, lab, ann, ProjectRole::Member).await.unwrap();
    experiment(conn, lab, "bench", ann).await.unwrap();
    version(conn, "lab", "own").await;
    version(conn, "system", "debian").await;
    let mut seen = Vec::new();
    for who in [Some(ann), Some(bob), None] {
        let experiments = experiments::visible(conn, who).await.unwrap().len();
        let images: Vec<String> =
            views::images(conn, who).await.unwrap().iter().map(|image| image.name.to_string()).collect();
        seen.push((experiments, images.join(" ")));
    }
    assert_eq!(seen, [(1, "own debian".into()), (0, "debian".into()), (1, "own debian".into())]);
    projects::remove_member(conn, lab, ann).await.unwrap();
    assert!(experiments::visible(conn, Some(ann)).await.unwrap().is_empty());
    assert_eq!(projects::role(conn, lab, ann).await.unwrap(), None);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_selector_means_the_own_image_first_and_the_newest_that_is_not_retired(pool: PgPool) {
    let conn = &mut *pool.acquire().await.unwrap();
    let (lab, attic) = (project(conn, "lab").await, project(conn, "attic").await);
    let of_site = version(conn, "system", "debian").await;
    let own_1 = version(conn, "lab", "debian").await;
    let own_2 = version(conn, "lab", "debian").await;
    let resolve = async |conn: &mut PgConnection, project, text: &str| {
        let selector: ImageSelector = text.parse().expect("a selector");
        images::resolve(conn, project, &selector).await.expect("an answer").map(|version| version.id)
    };
    assert_eq!(resolve(conn, lab, "debian").await, Some(own_2));
    assert_eq!(resolve(conn, lab, "debian/1").await, Some(own_1));
    assert_eq!(resolve(conn, attic, "debian").await, Some(of_site), "never that of a third project");
    assert_eq!(resolve(conn, lab, "debian/3").await, None);
    images::retire(conn, own_2, NOW).await.unwrap();
    assert!(matches!(images::retire(conn, own_2, NOW).await, Err(DbError::LostRace { .. })));
    assert_eq!(resolve(conn, lab, "debian").await, Some(own_1));
    assert_eq!(
        resolve(conn, lab, "debian/2").await,
        Some(own_2),
        "asked for by number it is found, for a refusal in words"
    );
    assert_eq!(images::version(conn, own_2).await.unwrap().unwrap().retired_at, Some(NOW));
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_new_password_ends_every_session(pool: PgPool) {
    use boss_db::sessions::{self, NewSession, SessionKind};
    let conn = &mut *pool.acquire().await.unwrap();
    let ann = user(conn, "ann").await;
    let token_hash = &[7; 32];
    let new =
        NewSession { token_hash, user_id: ann, kind: SessionKind::Web, csrf_token: "c", at: NOW, expires_at: NOW };
    sessions::add(conn, new).await.unwrap();
    assert_eq!(sessions::find(conn, token_hash).await.unwrap().unwrap().user.id, ann);
    users::set_password(conn, ann, "$2").await.unwrap();
    assert_eq!(sessions::find(conn, token_hash).await.unwrap(), None);
    assert_eq!(users::find_with_hash(conn, &name("ann")).await.unwrap().unwrap().1, "$2");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_setting_goes_back_to_its_default_when_it_is_unset(pool: PgPool) {
    let conn = &mut *pool.acquire().await.unwrap();
    settings::set(conn, "swap/attempts", "5", None, NOW).await.unwrap();
    settings::set(conn, "swap/attempts", "6", None, NOW).await.unwrap();
    assert_eq!(settings::get(conn, "swap/attempts").await.unwrap().as_deref(), Some("6"));
    settings::unset(conn, "swap/attempts").await.unwrap();
    assert_eq!(settings::get(conn, "swap/attempts").await.unwrap(), None);
}

/// What is shown while a node is being saved, and after its machine was taken for sanitizing.
#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn progress_is_that_of_the_running_job(pool: PgPool) {
    let conn = &mut *pool.acquire().await.unwrap();
    let (ann, lab) = (user(conn, "ann").await, project(conn, "lab").await);
    let image = version(conn, "system", "debian").await;
    let id = experiment(conn, lab, "bench", ann).await.unwrap();
    let vnode = VirtualNodeId::new(Uuid::now_v7());
    experiments::add_virtual_node(conn, vnode, id, &name("client"), image).await.unwrap();
    let [node, disk, job, point, capture, write] = [(); 6].map(|()| Uuid::now_v7());
    let statements = [
        "INSERT INTO nodes (id, name, state, power, state_since, created_at)
         VALUES ($1, 'pc1', 'capturing', '{}', now(), now())",
        "INSERT INTO disks (id, node_id, name, serial, bytes, sector_size, position) VALUES ($2, $1, 'sda', 's', 4096, 512, 0)",
        "UPDATE virtual_nodes SET node_id = $1 WHERE id = $8",
        "INSERT INTO jobs (id, kind, experiment_id, requester_id, state, created_at) VALUES ($3, 'swap-out', $7, $9, 'running', now())",
        "INSERT INTO swap_points (id, experiment_id, number, state, opened_at) VALUES ($4, $7, 1, 'open', now())",
        "INSERT INTO captures (id, swap_point_id, virtual_node_id, node_id, disk_id, epoch, state, scanned_bytes, total_bytes,
                               changed_bytes, sent_bytes)
         VALUES ($5, $4, $8, $1, $2, 0, 'streaming', 30, 100, 20, 10)",
        "INSERT INTO disk_writes (id, node_id, disk_id, epoch, job_id, purpose, evidence, permit, state, done_bytes, total_bytes, issued_at)
         VALUES ($6, $1, $2, 0, $3, 'sanitize', 'e', 'p', 'running', 7, 8, now())",
    ];
    // Every statement uses some of the same ids.
    let ids = [node, disk, job, point, capture, write, id.uuid(), vnode.uuid(), ann.uuid()];
    for statement in statements {
        let mut text = statement.to_owned();
        for (index, id) in ids.iter().enumerate().rev() {
            text = text.replace(&format!("${}", index + 1), &format!("'{id}'"));
        }
        sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut *conn).await.unwrap();
    }
    let found = experiments::get(conn, id).await.unwrap().unwrap();
    let view = views::experiment(conn, &found).await.unwrap();
    let shown: Vec<_> = view.nodes[0]
        .progress
        .iter()
        .map(|progress| {
            (format!("{:?}", progress.activity), progress.done_bytes, progress.total_bytes, progress.changed_bytes)
        })
        .collect();
    assert_eq!(shown, [("Capture".into(), 30, 100, 20), ("Sanitize".into(), 7, 8, 0)]);
    assert_eq!(view.last_point.unwrap().captures[0].state, "streaming");
    sqlx::query("UPDATE jobs SET state = 'done', ended_at = now()").execute(&mut *conn).await.unwrap();
    let view = views::experiment(conn, &found).await.unwrap();
    assert!(view.job.is_none() && view.nodes[0].progress.is_empty(), "no job, no progress");
}
