//! A boss of the test and its machines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use boss::app::App;
use boss::clock::Clock;
use boss::config::{Config, DatabaseUrl};
use boss::power::{BootControl, Machine, Power, PowerDriver, PowerError, PowerFuture, PowerStatus};
use boss::sealing::BossKeys;
use boss::store::{LocalStore, Staging};
use boss::takeover::{Rule, take_over};
use boss::{agent_api, reconcile};
use boss_api::agent::BootParameters;
use boss_api::ids::{DiskId, ExperimentId, ImageId, ImageVersionId, JobId, NodeId, ProjectId, UserId, VirtualNodeId};
use boss_api::user::{ExperimentState, JobState, PowerConfig, UserRole};
use boss_api::{ApiError, ErrorCode, Name};
use boss_db::experiments::{Experiment, NewExperiment};
use boss_db::images::NewVersion;
use boss_db::nodes::{Disk, Node};
use boss_db::users::NewUser;
use boss_db::{PgPool, experiments, images, keys, nodes, projects, settings, users, views};
use boss_model::node::{NodeState, NodeStep};
use sigs::seal::{BaseStatement, SealKind, Sealed, SigningKey};
use sigs::{ByteLen, Digest, Root, SectorSize, Signature};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::agent::{Agent, serial};

/// Nothing here takes longer, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn golden(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/golden").join(name)).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A clock that only moves when the test says so.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<OffsetDateTime>);

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// Machines whose only life is their status.
#[derive(Debug, Default)]
pub(crate) struct TestPower {
    machines: Mutex<HashMap<Name, (PowerStatus, Option<BootParameters>)>>,
    pub(crate) boots: Mutex<HashMap<Name, u32>>,
    /// How many there were when an agent of a machine was last asked for.
    taken: Mutex<HashMap<Name, u32>>,
    /// Whether machines start their own systems and nobody hears of it.
    pub(crate) deaf: Mutex<bool>,
    /// Whether the machines' own systems never come down.
    pub(crate) hangs: Mutex<bool>,
    pub(crate) asked: Mutex<u32>,
}

impl TestPower {
    fn set(&self, machine: &Machine, status: PowerStatus, parameters: Option<BootParameters>) {
        self.machines.lock().unwrap().insert(machine.name.clone(), (status, parameters));
    }

    /// The agent's process ends.
    pub(crate) fn kill(&self, node: &str) {
        self.machines.lock().unwrap().get_mut(&name(node)).unwrap().0 = PowerStatus::Off;
    }

    pub(crate) fn status_of(&self, node: &str) -> PowerStatus {
        self.machines.lock().unwrap().get(&name(node)).map_or(PowerStatus::Off, |machine| machine.0)
    }

    pub(crate) fn boots_of(&self, node: &str) -> u32 {
        self.boots.lock().unwrap().get(&name(node)).copied().unwrap_or(0)
    }

    pub(crate) fn parameters(&self, node: &str) -> Option<BootParameters> {
        self.machines.lock().unwrap().get(&name(node)).and_then(|machine| machine.1.clone())
    }
}

impl BootControl for TestPower {
    fn boot_mfs<'a>(&'a self, machine: &'a Machine, parameters: &'a BootParameters) -> PowerFuture<'a, ()> {
        *self.boots.lock().unwrap().entry(machine.name.clone()).or_default() += 1;
        self.set(machine, PowerStatus::Mfs, Some(parameters.clone()));
        Box::pin(async { Ok(()) })
    }

    fn boot_disk<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        self.set(machine, PowerStatus::OwnDisk, None);
        if *self.deaf.lock().unwrap() {
            let source = std::io::ErrorKind::TimedOut.into();
            let node = machine.name.clone();
            return Box::pin(async move { Err(PowerError { node, what: "boot the own disk", source }) });
        }
        Box::pin(async { Ok(()) })
    }
}

impl PowerDriver for TestPower {
    fn shut_down<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        *self.asked.lock().unwrap() += 1;
        if *self.hangs.lock().unwrap() {
            return Box::pin(std::future::pending());
        }
        self.set(machine, PowerStatus::Off, None);
        Box::pin(async { Ok(()) })
    }

    fn power_off<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        self.set(machine, PowerStatus::Off, None);
        Box::pin(async { Ok(()) })
    }

    fn status<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, PowerStatus> {
        let status = self.status_of(machine.name.as_str());
        Box::pin(async move { Ok(status) })
    }
}

/// A site with an experiment `e` that saves and is swapped in on these machines.
pub(crate) async fn active(pool: PgPool, machines: &[&str], vnames: &[&str]) -> (Site, ExperimentId) {
    let site = Site::new(pool).await;
    for node in machines {
        site.add_node(node).await;
    }
    let id = site.add_experiment("e", true, vnames).await;
    site.swap_in(id, machines).await;
    (site, id)
}

/// boss, with a base image, a project, and a user.
pub(crate) struct Site {
    pub(crate) app: App,
    pub(crate) power: Arc<TestPower>,
    clock: Arc<TestClock>,
    pub(crate) state: tempfile::TempDir,
    stop: watch::Sender<bool>,
    router: Router,
    pub(crate) user: UserId,
    pub(crate) project: ProjectId,
    pub(crate) image: ImageVersionId,
    pub(crate) root: Root,
    pub(crate) disk_bytes: ByteLen,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

impl Site {
    pub(crate) async fn new(pool: PgPool) -> Self {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(Mutex::new(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())));
        let power = Arc::new(TestPower::default());
        let config = Config {
            listen: ([127, 0, 0, 1], 1).into(),
            agent_listen: ([127, 0, 0, 1], 2).into(),
            database_url: DatabaseUrl::new(""),
            state: state.path().to_path_buf(),
            base_url: "http://127.0.0.1:1".into(),
            agent_url: "http://127.0.0.1:2".into(),
            agent_program: "/nowhere".into(),
        };
        let keys = BossKeys::load_or_create(state.path()).unwrap();
        let Rule { term, gate, .. } = take_over(&pool, state.path(), &keys, clock.now()).await.unwrap();
        let store = LocalStore::open(state.path(), Arc::clone(&gate)).unwrap();
        let app = App {
            pool,
            config: Arc::new(config),
            staging: Arc::new(Staging::open(state.path(), store.room(), Arc::clone(&gate)).unwrap()),
            room: store.room(),
            pace: Arc::default(),
            store: Arc::new(store),
            power: Power::new(Arc::clone(&power) as Arc<dyn PowerDriver>),
            keys: Arc::new(keys),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            term,
            gate,
            changed: Arc::new(Notify::new()),
        };
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(reconcile::run(app.clone(), stopping));
        let router = agent_api::router(app.clone());
        let base = Signature::open(golden("base.sig")).unwrap();
        let mut site = Self {
            router,
            power,
            clock,
            state,
            stop,
            user: UserId::new(Uuid::now_v7()),
            project: ProjectId::new(Uuid::now_v7()),
            image: ImageVersionId::new(Uuid::now_v7()),
            root: base.root(),
            disk_bytes: base.geometry().disk_bytes,
            app,
        };
        site.furnish().await;
        site
    }

    async fn furnish(&mut self) {
        let now = self.app.now();
        let mut tx = self.app.pool.begin().await.unwrap();
        let user = NewUser { id: self.user, name: &name("ann"), password_hash: "-", role: UserRole::Member, at: now };
        users::add(&mut tx, user).await.unwrap();
        let system = ProjectId::new(Uuid::now_v7());
        projects::ensure(&mut tx, system, &name(projects::SYSTEM), now).await.unwrap();
        projects::ensure(&mut tx, self.project, &name("demo"), now).await.unwrap();
        let key = SigningKey::from_seed(&[7; 32]);
        keys::add(&mut tx, key.public().id(), &key.public().to_pem().unwrap(), "", now).await.unwrap();
        let (zdi, sig) = (golden("base.zdi"), golden("base.sig"));
        let statement = BaseStatement {
            name: "debian".into(),
            zdi: Digest::of(&zdi),
            zdi_bytes: ByteLen::of(&zdi),
            sig: Digest::of(&sig),
            target_root: self.root,
            manifest: String::new(),
        };
        let sealed = Sealed::sign(SealKind::Base, serde_json::to_string(&statement).unwrap(), &key);
        let sealed = String::from_utf8(sealed.to_bytes()).unwrap();
        let image = ImageId::new(Uuid::now_v7());
        images::ensure(&mut tx, image, system, &name("debian"), now).await.unwrap();
        let version = NewVersion {
            id: self.image,
            image_id: image,
            zdi: statement.zdi,
            zdi_bytes: statement.zdi_bytes,
            sig: statement.sig,
            sig_bytes: ByteLen::of(&sig),
            root: self.root,
            disk_bytes: self.disk_bytes,
            min_disk_bytes: self.disk_bytes,
            sealed: &sealed,
            key: key.public().id(),
            at: now,
        };
        images::add_version(&mut tx, version).await.unwrap();
        tx.commit().await.unwrap();
        for bytes in [zdi, sig] {
            let limit = ByteLen::of(&bytes);
            let digest = Digest::of(&bytes);
            self.app.store.put_if_absent(digest, limit, Box::pin(std::io::Cursor::new(bytes))).await.unwrap();
        }
    }

    pub(crate) async fn set(&self, setting: &str, value: &str) {
        let mut conn = self.app.pool.acquire().await.unwrap();
        settings::set(&mut conn, setting, value, None, self.app.now()).await.unwrap();
    }

    /// Time passes; boss notices at its next look.
    pub(crate) fn pass(&self, seconds: u64) {
        *self.clock.0.lock().unwrap() += Duration::from_secs(seconds);
        self.app.changed.notify_waiters();
    }

    pub(crate) async fn add_node(&self, node: &str) -> NodeId {
        self.add_node_with(node, &["sda"]).await
    }

    pub(crate) async fn add_node_with(&self, node: &str, disks: &[&str]) -> NodeId {
        let id = NodeId::new(Uuid::now_v7());
        let paths = disks.iter().map(|disk| (name(disk), format!("/dev/{node}-{disk}"))).collect();
        let mut tx = self.app.pool.begin().await.unwrap();
        nodes::add(&mut tx, id, &name(node), &PowerConfig::Process { disks: paths }, self.app.now()).await.unwrap();
        for (position, disk) in (0..).zip(disks) {
            let disk = Disk {
                id: DiskId::new(Uuid::now_v7()),
                node_id: id,
                name: name(disk),
                serial: serial(node, disk),
                bytes: self.disk_bytes,
                sector_size: SectorSize::S512,
                position,
            };
            nodes::add_disk(&mut tx, &disk).await.unwrap();
        }
        tx.commit().await.unwrap();
        id
    }

    pub(crate) async fn add_experiment(&self, eid: &str, save: bool, vnames: &[&str]) -> ExperimentId {
        let id = ExperimentId::new(Uuid::now_v7());
        let mut tx = self.app.pool.begin().await.unwrap();
        let new = NewExperiment {
            id,
            project_id: self.project,
            eid: &name(eid),
            save_swap_state: save,
            creator_id: self.user,
            at: self.app.now(),
        };
        experiments::add(&mut tx, new).await.unwrap();
        for vname in vnames {
            let virtual_node = VirtualNodeId::new(Uuid::now_v7());
            experiments::add_virtual_node(&mut tx, virtual_node, id, &name(vname), self.image).await.unwrap();
        }
        tx.commit().await.unwrap();
        id
    }

    pub(crate) async fn experiment(&self, id: ExperimentId) -> Experiment {
        experiments::get(&mut self.app.pool.acquire().await.unwrap(), id).await.unwrap().unwrap()
    }

    pub(crate) async fn node(&self, node: &str) -> Node {
        nodes::find(&mut self.app.pool.acquire().await.unwrap(), &name(node)).await.unwrap().unwrap()
    }

    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, look: impl Fn() -> F) -> T {
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::select! {
                () = &mut patience => panic!("not within {PATIENCE:?}: {what}"),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    }

    pub(crate) async fn until_node(&self, node: &str, step: NodeStep) -> Node {
        let what = format!("{node} is {step}");
        self.until(&what, || async { Some(self.node(node).await).filter(|n| n.state == NodeState::At(step)) }).await
    }

    /// Waits until a machine is held, and returns why.
    pub(crate) async fn until_held(&self, node: &str) -> String {
        let look = || async {
            match self.node(node).await.state {
                NodeState::Held(held) => Some(held.reason),
                NodeState::At(_) => None,
            }
        };
        self.until(&format!("{node} is held"), look).await
    }

    pub(crate) async fn until_state(&self, id: ExperimentId, state: ExperimentState) {
        let what = format!("the experiment is {state}");
        self.until(&what, || async { (self.experiment(id).await.state == state).then_some(()) }).await;
    }

    pub(crate) async fn until_job(&self, id: JobId, state: JobState) {
        let look = || async {
            let mut conn = self.app.pool.acquire().await.unwrap();
            let job = views::job(&mut conn, id).await.unwrap().unwrap();
            (job.view.state == state).then_some(())
        };
        self.until(&format!("the job is {state:?}"), look).await;
    }

    /// Waits for the next boot of a machine after the first `known`, and returns an agent that is not registered.
    pub(crate) async fn booted(&self, node: &str, known: u32) -> Agent {
        let look = || async { (self.power.boots_of(node) > known).then(|| self.power.parameters(node)).flatten() };
        let parameters = self.until(&format!("{node} boots the MFS again after {known}"), look).await;
        self.power.taken.lock().unwrap().insert(name(node), self.power.boots_of(node));
        Agent::booted(self.router.clone(), parameters, node, self.disk_bytes)
    }

    /// Waits for a boot and registers its agent.
    pub(crate) async fn agent(&self, node: &str, known: u32) -> Agent {
        let agent = self.booted(node, known).await;
        agent.register().await.unwrap();
        agent
    }

    /// Waits for the boot after the one whose agent was had last, and registers its agent.
    pub(crate) async fn again(&self, node: &str) -> Agent {
        let known = self.power.taken.lock().unwrap().get(&name(node)).copied().unwrap_or(0);
        self.agent(node, known).await
    }

    /// Swaps an experiment in, with agents that do all they are told.
    pub(crate) async fn swap_in(&self, id: ExperimentId, machines: &[&str]) {
        let known: Vec<u32> = machines.iter().map(|node| self.power.boots_of(node)).collect();
        let job = boss::swap::request_swap_in(&self.app, id, self.user).await.unwrap();
        for (node, known) in machines.iter().zip(known) {
            let agent = self.agent(node, known).await;
            agent.write_all().await;
        }
        self.until_job(job, JobState::Done).await;
        self.until_state(id, ExperimentState::Active).await;
    }

    /// Waits until a query counts so many.
    pub(crate) async fn until_count(&self, query: &'static str, wanted: i64) {
        self.until(query, || async { (self.count(query).await == wanted).then_some(()) }).await;
    }

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.app.pool).await.unwrap()
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> ErrorCode {
    result.unwrap_err().code
}
