//! `boss serve`: takes the state directory and a term, listens, reconciles, and stops when told to.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use boss::app::App;
use boss::clock::{Clock as _, SystemClock};
use boss::config::Config;
use boss::power::{Limited, Power, ProcessDriver};
use boss::sealing::BossKeys;
use boss::standstill::{AGENT_SILENCE, PEOPLE_SILENCE, STALL, UnlessStalled};
use boss::store::{LocalStore, Staging, StateLock};
use boss::takeover::{Rule, take_over};
use boss::{agent_api, keeping, reconcile, router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

/// How long switching a machine may take before it counts as a failure.
const POWER_LIMIT: Duration = Duration::from_secs(300);

/// Runs until a signal comes, or until another boss rules.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    // The lock is the first thing that is taken: a second boss must not touch anything.
    let _lock = StateLock::take(&config.state)?;
    let users = bind(config.listen, "people").await?;
    let agents = bind(config.agent_listen, "agents").await?;
    let config = with_real_ports(config, users.local_addr()?, agents.local_addr()?);
    let pool = super::connect(&config.database_url).await?;
    super::migrate(&pool).await?;
    let keys = BossKeys::load_or_create(&config.state)?;
    let Rule { term, gate, keep_unreferenced } = take_over(&pool, &config.state, &keys, SystemClock.now()).await?;
    let store = LocalStore::open(&config.state, Arc::clone(&gate)).context("open the store")?;
    let staging = Staging::open(&config.state, store.room(), Arc::clone(&gate))
        .context("open the staging folder of the store")?;
    let changed = Arc::new(Notify::new());
    let power = ProcessDriver::new(config.agent_program.clone(), &config.state, Arc::clone(&changed));
    let app = App {
        pool,
        config: Arc::new(config),
        room: store.room(),
        pace: Arc::default(),
        store: Arc::new(store),
        staging: Arc::new(staging),
        power: Power::new(Arc::new(Limited::new(power, POWER_LIMIT))),
        keys: Arc::new(keys),
        clock: Arc::new(SystemClock),
        term,
        gate,
        changed,
    };
    if keep_unreferenced {
        let look = keeping::look(&app, Some("the database was older than the store")).await;
        let look = look.map_err(|error| anyhow::anyhow!("keep what no row refers to: {}", error.told().message))?;
        tracing::warn!(?look, "the database was put back: what no row refers to is kept");
    }
    let (stop, stopping) = watch::channel(false);
    let users = UnlessStalled { listener: users, takes_within: STALL, silence: PEOPLE_SILENCE };
    // What an agent fetches goes to its disk, which may be slow.
    let agents = UnlessStalled { listener: agents, takes_within: AGENT_SILENCE, silence: AGENT_SILENCE };
    let user_server = axum::serve(users, router::build(app.clone())).with_graceful_shutdown(told(stopping.clone()));
    let agent_server =
        axum::serve(agents, agent_api::router(app.clone())).with_graceful_shutdown(told(stopping.clone()));
    let reconciler = tokio::spawn(reconcile::run(app.clone(), stopping));
    announce(&app)?;
    let ended = tokio::select! {
        result = user_server => result.context("serve people"),
        result = agent_server => result.context("serve agents"),
        result = reconciler => result.context("reconcile").and_then(|result| result),
        () = asked_to_stop() => Ok(()),
    };
    // What was begun finishes or is taken up by the next start; either is safe, so nobody waits for it.
    let _ = stop.send(true);
    tracing::info!("boss stops");
    ended
}

async fn bind(address: SocketAddr, whom: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen for {whom} on {address}: choose a free port, or stop what uses it"))
}

/// Port 0 means any; what people and agents are told is the port that was given.
fn with_real_ports(mut config: Config, users: SocketAddr, agents: SocketAddr) -> Config {
    if config.listen.port() == 0 {
        config.base_url = config.base_url.replace(&config.listen.to_string(), &users.to_string());
    }
    config.listen = users;
    config.agent_listen = agents;
    config.agent_url = format!("http://{agents}");
    config
}

/// Says on standard output, and in `run/boss.json`, that boss is ready and where.
fn announce(app: &App) -> anyhow::Result<()> {
    let (users, agents) = (app.config.listen, app.config.agent_listen);
    let folder = app.config.state.join("run");
    boss::store::make_private_dir(&folder).context("make the run folder")?;
    let text = serde_json::json!({
        "user_url": format!("http://{users}"),
        "agent_url": format!("http://{agents}"),
        "pid": std::process::id(),
    });
    let partial = folder.join("boss.json.new");
    std::fs::write(&partial, text.to_string()).context("write run/boss.json")?;
    std::fs::rename(&partial, folder.join("boss.json")).context("write run/boss.json")?;
    tracing::info!(term = app.term, "boss rules");
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(std::io::stdout(), "boss is ready: people at http://{users}, agents at http://{agents}");
    Ok(())
}

async fn told(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn asked_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
