//! A boss for tests: a real database, a real store in a folder of its own, a clock that only tests move, no network.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use boss_api::Name;
use boss_api::ids::{CaptureId, ExperimentId, ImageId, ImageVersionId, ProjectId, UserId, VirtualNodeId};
use boss_api::user::UserRole;
use boss_db::experiments::NewExperiment;
use boss_db::images::NewVersion;
use boss_db::projects::ProjectRole;
use boss_db::sessions::SessionKind;
use boss_db::users::{NewUser, User};
use boss_db::{PgPool, experiments, images, keys, projects, users};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sigs::seal::SigningKey;
use sigs::{ByteLen, Digest, Root};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::app::App;
use crate::auth::{password, session};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::power::{Power, ProcessDriver};
use crate::router;
use crate::sealing::BossKeys;
use crate::store::{LocalStore, Staging};
use crate::takeover::{Rule, take_over};

/// The password of every user here.
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const LOCAL: &str = "http://127.0.0.1:4710";
pub(crate) const PUBLIC: &str = "https://boss.example.net";

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<OffsetDateTime>);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A boss, and what a test needs to ask it.
pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) router: Router,
    pub(crate) clock: Arc<TestClock>,
    _state: tempfile::TempDir,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of an error; also checks that it has the one shape of errors.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert!(json["message"].as_str().is_some_and(|message| message.len() > 10), "{json}");
        json["code"].as_str().unwrap().to_owned()
    }

    pub(crate) fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The value a cookie is set to, and the whole header.
    pub(crate) fn cookie(&self, name: &str) -> Option<(String, String)> {
        let all = self.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap());
        let mut own = all.filter(|value| value.starts_with(&format!("{name}=")));
        own.next().map(|value| {
            let pair = value.split(';').next().unwrap();
            (pair.split_once('=').unwrap().1.to_owned(), value.to_owned())
        })
    }
}

/// A browser that is signed in.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

impl TestApp {
    pub(crate) async fn new(pool: PgPool) -> Self {
        Self::at(pool, LOCAL).await
    }

    pub(crate) async fn at(pool: PgPool, base_url: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(Mutex::new(datetime!(2026-11-21 01:00 UTC))));
        let changed = Arc::new(Notify::new());
        let config = Config {
            listen: ([127, 0, 0, 1], 4710).into(),
            agent_listen: ([127, 0, 0, 1], 4711).into(),
            database_url: DatabaseUrl::new("unused: the pool is there"),
            state: state.path().into(),
            base_url: base_url.into(),
            agent_url: "http://127.0.0.1:4711".into(),
            agent_program: PathBuf::from("/nonexistent/node-agent"),
        };
        let power = ProcessDriver::new(config.agent_program.clone(), state.path(), Arc::clone(&changed));
        let keys = BossKeys::from_key(SigningKey::from_seed(&[42; 32])).unwrap();
        let Rule { term, gate, .. } = take_over(&pool, state.path(), &keys, clock.now()).await.unwrap();
        let store = LocalStore::open(state.path(), Arc::clone(&gate)).unwrap();
        let app = App {
            pool,
            staging: Arc::new(Staging::open(state.path(), store.room(), Arc::clone(&gate)).unwrap()),
            room: store.room(),
            pace: Arc::default(),
            store: Arc::new(store),
            power: Power::new(Arc::new(power)),
            keys: Arc::new(keys),
            config: Arc::new(config),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            term,
            gate,
            changed,
        };
        Self { router: router::build(app.clone()), app, clock, _state: state }
    }

    /// Adds a user who is a member of these projects; they are made when they do not exist.
    pub(crate) async fn user(&self, name: &str, role: UserRole, pids: &[&str]) -> User {
        static HASH: OnceLock<String> = OnceLock::new();
        let hash = HASH.get_or_init(|| password::hash(PASSWORD).unwrap());
        let mut conn = self.app.pool.acquire().await.unwrap();
        let name: Name = name.parse().unwrap();
        let at = self.app.now();
        let new = NewUser { id: UserId::new(Uuid::now_v7()), name: &name, password_hash: hash, role, at };
        users::add(&mut conn, new).await.unwrap();
        let user = users::find(&mut conn, &name).await.unwrap().unwrap();
        for pid in pids {
            let project = self.project(pid).await;
            projects::add_member(&mut conn, project, user.id, ProjectRole::Member).await.unwrap();
        }
        user
    }

    pub(crate) async fn project(&self, pid: &str) -> ProjectId {
        let mut conn = self.app.pool.acquire().await.unwrap();
        let id = ProjectId::new(Uuid::now_v7());
        projects::ensure(&mut conn, id, &pid.parse().unwrap(), self.app.now()).await.unwrap()
    }

    /// Gives a user a token for the API.
    pub(crate) async fn token(&self, user: &User) -> String {
        let mut conn = self.app.pool.acquire().await.unwrap();
        let (token, _) = session::open(&mut conn, user, SessionKind::Api, self.app.now()).await.unwrap();
        token.expose()
    }

    /// Signs a user in, without the page.
    pub(crate) async fn browser(&self, user: &User) -> Browser {
        let mut conn = self.app.pool.acquire().await.unwrap();
        let (token, _) = session::open(&mut conn, user, SessionKind::Web, self.app.now()).await.unwrap();
        let session = boss_db::sessions::find(&mut conn, &token.hash()).await.unwrap().unwrap();
        let name = if self.app.config.base_url == LOCAL { "ebb" } else { "__Host-ebb" };
        Browser { cookie: format!("{name}={}", token.expose()), csrf: session.csrf_token }
    }

    /// Puts a version of an image into the database, without its files.
    pub(crate) async fn image(&self, pid: &str, name: &str) -> ImageVersionId {
        let project = self.project(pid).await;
        let mut conn = self.app.pool.acquire().await.unwrap();
        let key = SigningKey::from_seed(&[7; 32]).public();
        if keys::all(&mut conn).await.unwrap().iter().all(|known| known.id != key.id()) {
            let pem = key.to_pem().unwrap();
            keys::add(&mut conn, key.id(), &pem, "for tests", self.app.now()).await.unwrap();
        }
        let at = self.app.now();
        let image_id = ImageId::new(Uuid::now_v7());
        let image_id = images::ensure(&mut conn, image_id, project, &name.parse().unwrap(), at).await.unwrap();
        let id = ImageVersionId::new(Uuid::now_v7());
        let new = NewVersion {
            id,
            image_id,
            zdi: Digest::of(id.uuid().as_bytes()),
            zdi_bytes: ByteLen::new(1000),
            sig: Digest::of(b"sig"),
            sig_bytes: ByteLen::new(100),
            root: Root::from_bytes([1; 32]),
            disk_bytes: ByteLen::new(1 << 20),
            min_disk_bytes: ByteLen::new(1 << 20),
            sealed: "{}",
            key: key.id(),
            at,
        };
        images::add_version(&mut conn, new).await.unwrap();
        id
    }

    /// Makes an experiment of two nodes, `client` and `server`, from `system`'s image `debian`, which it makes too.
    pub(crate) async fn experiment(&self, pid: &str, eid: &str, creator: &User) -> ExperimentId {
        let image = self.image("system", "debian").await;
        let project_id = self.project(pid).await;
        let id = ExperimentId::new(Uuid::now_v7());
        let mut conn = self.app.pool.acquire().await.unwrap();
        let eid: Name = eid.parse().unwrap();
        let at = self.app.now();
        let new = NewExperiment { id, project_id, eid: &eid, save_swap_state: true, creator_id: creator.id, at };
        experiments::add(&mut conn, new).await.unwrap();
        for vname in ["client", "server"] {
            let node = VirtualNodeId::new(Uuid::now_v7());
            experiments::add_virtual_node(&mut conn, node, id, &vname.parse().unwrap(), image).await.unwrap();
        }
        id
    }

    /// Has a row of a swap point of an experiment refer to an object, as its saved disk or as the signature of that.
    pub(crate) async fn saved(&self, experiment: ExperimentId, number: i32, zdi: Digest, sig: Digest) -> CaptureId {
        let sql = "WITH node AS (INSERT INTO nodes (id, name, state, power, state_since, created_at)
                                 VALUES ($1, 'pc' || $3, 'free', '{\"driver\": \"process\", \"disks\": {}}',
                                         now(), now()) RETURNING id),
                        disk AS (INSERT INTO disks (id, node_id, name, serial, bytes, sector_size, position)
                                 SELECT $1, id, 'sda', 'S' || $3, 1048576, 512, 0 FROM node RETURNING id),
                        point AS (INSERT INTO swap_points (id, experiment_id, number, state, opened_at)
                                  VALUES ($1, $2, $3, 'incomplete', now()) RETURNING id)
                   INSERT INTO captures (id, swap_point_id, virtual_node_id, node_id, disk_id, epoch, state, zdi_digest,
                                         zdi_bytes, sig_digest, target_root)
                   SELECT $1, point.id, v.id, node.id, disk.id, 1, 'verified', $4, 1, $5, $5
                   FROM node, disk, point, virtual_nodes v WHERE v.experiment_id = $2 AND v.vname = 'client'";
        let id = Uuid::now_v7();
        let query = sqlx::query(sql).bind(id).bind(experiment.uuid()).bind(number);
        let query = query.bind(zdi.as_bytes().as_slice()).bind(sig.as_bytes().as_slice());
        assert_eq!(query.execute(&self.app.pool).await.unwrap().rows_affected(), 1);
        CaptureId::new(id)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// A program asks.
    pub(crate) async fn api(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// A browser opens a page.
    pub(crate) async fn open(&self, path: &str, cookie: Option<&str>) -> Answer {
        let mut request = Request::builder().uri(path);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A browser sends a form of a page of the site, with the token of its session.
    pub(crate) async fn submit(&self, path: &str, browser: &Browser, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("csrf", browser.csrf.as_str())];
        all.extend_from_slice(fields);
        self.submit_raw(path, &browser.cookie, &all, &[("sec-fetch-site", "same-origin")]).await
    }

    pub(crate) async fn submit_raw(
        &self,
        path: &str,
        cookie: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace('%', "%25").replace('&', "%26").replace(' ', "+")))
            .collect();
        self.send(request.body(Body::from(body.join("&"))).unwrap()).await
    }
}
