//! The loop that makes it so: looks at what is wanted and what is, and takes the next step.
//!
//! Level-triggered: nothing is remembered between two looks but in the database, so killing boss anywhere and starting
//! it again finishes the work. A look is caused by a change or by the clock; losing a wake-up costs a moment. Slow
//! steps (power, verification) run beside the loop, one at a time per machine and per capture.

mod experiment;
pub(crate) mod hold;
mod mfs;
mod node;
pub(crate) mod permits;
mod signature_file;
mod verify;
mod work;

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boss_api::ids::{CaptureId, NodeId};
use boss_db::{DbError, captures, jobs, nodes, term};
use boss_model::capture::CaptureStep;
use tokio::sync::watch;

use crate::app::App;
use crate::error::AppError;
use crate::store::StoreError;

/// How often the loop looks when nothing changes: limits and dead agents are noticed so late at worst.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the store is gone through. It is no safety that hangs on it: see [`crate::keeping`].
const KEEP_EVERY: Duration = Duration::from_secs(3600);
/// How many captures are verified at once: each reads the medium and hashes on one core.
const VERIFY_AT_ONCE: usize = 4;

#[derive(Debug)]
struct Busy<T>(Arc<Mutex<HashSet<T>>>);

impl<T> Clone for Busy<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Copy + Eq + Hash + Send + 'static> Busy<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn set(&self) -> std::sync::MutexGuard<'_, HashSet<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.set().len()
    }

    /// Runs a step beside the loop unless one runs for the same thing already.
    fn spawn(&self, what: T, step: impl Future<Output = Result<(), AppError>> + Send + 'static) {
        if !self.set().insert(what) {
            return;
        }
        // Given back even when the step panics.
        let release = Release { busy: self.clone(), what };
        tokio::spawn(async move {
            let _release = release;
            if let Err(error) = step.await {
                report(&error);
            }
        });
    }
}

struct Release<T: Copy + Eq + Hash + Send + 'static> {
    busy: Busy<T>,
    what: T,
}

impl<T: Copy + Eq + Hash + Send + 'static> Drop for Release<T> {
    fn drop(&mut self) {
        self.busy.set().remove(&self.what);
    }
}

/// A step that did not work is taken again at the next look; what is worth a person's eye is held instead.
fn report(error: &AppError) {
    tracing::warn!(code = ?error.told().code, "a step is taken again: {}", error.told().message);
    error.log();
}

/// Runs the loop until boss is asked to stop.
///
/// # Errors
/// When another boss rules: this one must stop, and everything it would still do is refused.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let (machines, verifying, keeping) = (Busy::<NodeId>::new(), Busy::<CaptureId>::new(), Busy::<()>::new());
    if let Err(error) = crate::provenance::refresh_all(&app).await {
        report(&error);
    }
    let mut kept_at = None;
    loop {
        if kept_at.is_none_or(|at: Instant| at.elapsed() >= KEEP_EVERY) {
            kept_at = Some(Instant::now());
            keeping.spawn((), keep(app.clone()));
        }
        let changed = app.changed.notified();
        tokio::pin!(changed);
        // From here on a change is not missed, also one made while we look.
        changed.as_mut().enable();
        match look(&app, &machines, &verifying).await {
            Err(error) if error.is_over() => return Err(anyhow::Error::new(error).context("this boss stops")),
            Err(error) => tracing::warn!("look at the work: {error}; boss looks again"),
            Ok(()) => {}
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// Goes through the store and what is arriving.
async fn keep(app: App) -> Result<(), AppError> {
    crate::keeping::tidy_staging(&app).await?;
    let look = crate::keeping::look(&app, None).await?;
    tracing::info!(?look, "the store was gone through");
    Ok(())
}

/// Why a look was not finished.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that looks at the store broke")]
    Thread(#[source] tokio::task::JoinError),
}

impl LookError {
    /// Returns whether this boss must stop: another rules, or the database is an older one.
    const fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Database(DbError::TermOver { .. })
                | Self::Store(StoreError::TermOver { .. } | StoreError::DatabaseWentBack { .. })
        )
    }
}

impl From<sqlx::Error> for LookError {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

async fn look(app: &App, machines: &Busy<NodeId>, verifying: &Busy<CaptureId>) -> Result<(), LookError> {
    let mut conn = app.pool.acquire().await?;
    term::fence(&mut conn, app.term).await?;
    let moves = term::standing(&mut conn).await?.moves;
    let gate = Arc::clone(&app.gate);
    match tokio::task::spawn_blocking(move || gate.note(moves)).await.map_err(LookError::Thread)? {
        Err(error @ (StoreError::TermOver { .. } | StoreError::DatabaseWentBack { .. })) => return Err(error.into()),
        // A store that is full is no reason to leave machines in doubt unattended: it is noted at a later look.
        Err(error) => tracing::warn!("note how far the database is: {error}"),
        Ok(()) => {}
    }
    match app.settings(&mut conn).await {
        Ok(settings) => {
            app.room.keep_back(settings.store_reserve);
            app.pace.set(settings.bytes_per_second);
        }
        Err(error) => report(&error),
    }
    let unfinished = jobs::unfinished(&mut conn).await?;
    let received = captures::in_step(&mut conn, CaptureStep::Received).await?;
    let mut of_jobs = Vec::new();
    for job in unfinished {
        let of = nodes::of_experiment(&mut conn, job.experiment).await?;
        of_jobs.push((job, of));
    }
    drop(conn);
    for capture in received {
        if verifying.count() < VERIFY_AT_ONCE {
            let (app, id) = (app.clone(), capture.id);
            verifying.spawn(id, async move { verify::verify(&app, id).await });
        }
    }
    for (job, of) in of_jobs {
        if let Err(error) = experiment::decide(app, &job).await {
            report(&error);
        }
        for node in of {
            if node.state.step().is_some_and(is_moving) {
                let (app, job, id) = (app.clone(), job.clone(), node.id);
                machines.spawn(id, async move { node::step(&app, id, &job).await });
            }
        }
    }
    Ok(())
}

/// Returns whether boss has something to do on a machine in this place of the cycle.
const fn is_moving(step: boss_model::node::NodeStep) -> bool {
    use boss_model::node::NodeStep as S;
    match step {
        S::Reserved | S::Restoring | S::Checked | S::Quiescing | S::Capturing | S::Sanitizing | S::Rebooting => true,
        S::Free | S::InUse | S::Releasable => false,
    }
}
