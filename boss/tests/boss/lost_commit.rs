//! A COMMIT whose answer is lost was done or was not: boss reads again before it goes on. Between boss and PostgreSQL
//! stands a program that lets a COMMIT through, waits for its answer, and then cuts the connection instead of giving it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use boss::error::AppError;
use boss::swap::{request_swap_in, request_swap_out};
use boss_api::ErrorCode;
use boss_api::ids::{ExperimentId, JobId};
use boss_api::user::{ExperimentState, JobKind, JobState};
use boss_db::{PgPool, jobs};
use boss_model::node::NodeStep;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::agent::{Agent, Upload};
use crate::site::Site;

/// Of so many COMMITs the answer of one is lost; 0 while all are answered.
#[derive(Debug, Default)]
struct Loss {
    one_of: AtomicUsize,
    seen: AtomicUsize,
    lost: AtomicUsize,
}

impl Loss {
    fn takes_this_one(&self) -> bool {
        let (one_of, seen) = (self.one_of.load(Ordering::SeqCst), self.seen.fetch_add(1, Ordering::SeqCst));
        let takes = one_of > 0 && seen % one_of == 0;
        if takes {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        takes
    }
}

/// A message that says COMMIT and nothing else.
const COMMIT: &[u8] = b"Q\x00\x00\x00\x0bCOMMIT\x00";

async fn pass(
    mut boss: TcpStream,
    mut database: impl AsyncRead + AsyncWrite + Unpin,
    loss: Arc<Loss>,
) -> std::io::Result<()> {
    let (mut asked, mut told) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            n = boss.read(&mut asked) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                let lose = asked[..n].windows(COMMIT.len()).any(|part| part == COMMIT) && loss.takes_this_one();
                database.write_all(&asked[..n]).await?;
                if lose {
                    // Its answer comes once it is durable; nobody hears it.
                    let _unheard = database.read(&mut told).await?;
                    return Ok(());
                }
            }
            n = database.read(&mut told) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                boss.write_all(&told[..n]).await?;
            }
        }
    }
}

/// Returns a pool whose connections go through the program.
async fn unreliable(pool: &PgPool) -> (PgPool, Arc<Loss>) {
    let loss = Arc::new(Loss::default());
    let direct = pool.connect_options();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = direct.get_socket().map(|folder| folder.join(format!(".s.PGSQL.{}", direct.get_port())));
    let address = (direct.get_host().to_owned(), direct.get_port());
    let through = Arc::clone(&loss);
    tokio::spawn(async move {
        loop {
            let (boss, _) = listener.accept().await.unwrap();
            let (loss, socket, address) = (Arc::clone(&through), socket.clone(), address.clone());
            tokio::spawn(async move {
                // Whatever becomes of it: the one side that is left notices.
                let _ = match socket {
                    Some(socket) => pass(boss, UnixStream::connect(socket).await?, loss).await,
                    None => pass(boss, TcpStream::connect(address).await?, loss).await,
                };
                Ok::<_, std::io::Error>(())
            });
        }
    });
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(direct.get_username())
        .database(direct.get_database().unwrap())
        .ssl_mode(PgSslMode::Disable);
    (PgPoolOptions::new().max_connections(8).connect_with(options).await.unwrap(), loss)
}

/// Asks until boss says yes, or the answer that was lost turns out to have been one.
async fn ask<F: Future<Output = Result<JobId, AppError>>>(
    site: &Site,
    id: ExperimentId,
    kind: JobKind,
    request: impl Fn() -> F,
) -> JobId {
    site.until("the wish is recorded", || async {
        match request().await {
            Ok(job) => Some(job),
            Err(error) if error.told().code == ErrorCode::Unavailable => {
                let mut conn = site.app.pool.acquire().await.ok()?;
                let job = jobs::unfinished_of(&mut conn, id).await.ok()??;
                (job.kind == kind).then_some(job.id)
            }
            Err(error) => panic!("{}", error.told().message),
        }
    })
    .await
}

async fn agent(site: &Site, known: u32) -> Agent {
    let agent = site.booted("pc1", known).await.persistent();
    agent.register().await.unwrap();
    agent
}

async fn a_whole_swap_out(pool: PgPool, one_of: usize) {
    let (pool, loss) = unreliable(&pool).await;
    let site = Site::new(pool).await;
    site.add_node("pc1").await;
    let id = site.add_experiment("e", true, &["a"]).await;
    // A boot that was noted and not started because of it counts as one.
    site.set("swap/attempts", "20").await;
    loss.one_of.store(one_of, Ordering::SeqCst);
    let swap_in = ask(&site, id, JobKind::SwapIn, || request_swap_in(&site.app, id, site.user)).await;
    agent(&site, 0).await.write_all().await;
    site.until_job(swap_in, JobState::Done).await;
    let boots = site.power.boots_of("pc1");
    let swap_out = ask(&site, id, JobKind::SwapOut, || request_swap_out(&site.app, id, site.user)).await;
    let agent = agent(&site, boots).await;
    agent.save(&Upload::delta()).await;
    agent.write_all().await;
    site.until_job(swap_out, JobState::Done).await;
    site.until_node("pc1", NodeStep::Free).await;
    site.until_state(id, ExperimentState::Swapped).await;
    loss.one_of.store(0, Ordering::SeqCst);
    assert!(loss.lost.load(Ordering::SeqCst) > 3, "answers were lost");
    let saved = "SELECT count(*) FROM captures WHERE state = 'verified'";
    assert_eq!(site.count(saved).await, 1, "saved once");
    assert_eq!(site.count("SELECT count(*) FROM swap_points WHERE state = 'complete'").await, 1);
    assert_eq!(site.count("SELECT count(*) FROM jobs").await, 2, "each wish is there once");
    assert_eq!(site.count("SELECT count(*) FROM disk_writes WHERE state <> 'done'").await, 0);
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn with_every_fifth_answer_lost_a_swap_out_ends_as_it_should(pool: PgPool) {
    a_whole_swap_out(pool, 5).await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn with_every_third_answer_lost_a_swap_out_ends_as_it_should(pool: PgPool) {
    a_whole_swap_out(pool, 3).await;
}
