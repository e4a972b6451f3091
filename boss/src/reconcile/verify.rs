//! Believes a capture only after reading it back from the medium and computing its root anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boss_api::agent::FailureClass;
use boss_api::ids::CaptureId;
use boss_db::captures::{self, Capture};
use boss_db::{DbError, images, nodes};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_verify::VerifyError;
use sigs::{Digest, ReadAt, Root, Signature, SignatureError};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::app::App;
use crate::error::AppError;
use crate::keeping;
use crate::steps::Steps;
use crate::store::is_whole;
use crate::swap::note;

use super::signature_file::SignatureFile;

/// How long the database may take to say whether a capture is in the same attempt.
const STILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How the reading ended.
enum Verdict {
    /// The stored bytes restore the state the agent saw; here is its signature, flushed.
    Proved(Digest, PathBuf),
    /// They do not.
    Refuted(String),
    /// They could not be read back: the store is at fault.
    Unreadable(String),
}

/// Verifies a received capture. Started again after a restart: it only reads, until its last transaction.
pub(super) async fn verify(app: &App, id: CaptureId) -> Result<(), AppError> {
    let mut conn = app.pool.acquire().await?;
    let Some(capture) = captures::get(&mut conn, id).await? else { return Ok(()) };
    let base = match capture.base {
        Some(base) => images::version(&mut conn, base).await?,
        None => None,
    };
    let limit = app.settings(&mut conn).await?.stall_timeout;
    drop(conn);
    let (Some((zdi, _)), Some(expected), CaptureStep::Received) =
        (capture.zdi, capture.target_root, capture.state.step())
    else {
        return Ok(());
    };
    let opened = async {
        let image = app.store.open(zdi, true).await?;
        let base = match base {
            Some(base) => Some((app.store.open(base.sig, false).await?, base.root)),
            None => None,
        };
        Ok::<_, crate::store::StoreError>((image, base))
    };
    let verdict = match opened.await {
        Ok((image, base)) => {
            let (sig, steps) = (app.staging.scratch(id), Steps::default());
            let (image, base) = (steps.counted(image), base.map(|(source, root)| (steps.counted(source), root)));
            let within = steps.clone();
            let reading = tokio::task::spawn_blocking(move || prove(zdi, image, base, expected, (sig, within)));
            match steps.unless_still(limit, reading).await {
                Some(Ok(verdict)) => verdict,
                // What breaks or hangs once does so again: a person looks at it.
                Some(Err(broken)) => Verdict::Unreadable(format!("object {zdi}: the reader broke: {broken}")),
                None => Verdict::Unreadable(format!(
                    "object {zdi}: the store gave and took no byte for {} seconds (swap/stall_timeout_s)",
                    limit.as_secs()
                )),
            }
        }
        Err(crate::store::StoreError::Missing(digest)) => Verdict::Refuted(format!("the object {digest} is gone")),
        Err(error) => Verdict::Unreadable(chain(&error)),
    };
    let verdict = match verdict {
        Verdict::Proved(sig, path) => match app.store.put_file(sig, &path).await {
            Ok(_) => Verdict::Proved(sig, path),
            Err(error) => Verdict::Unreadable(chain(&error)),
        },
        other => other,
    };
    match verdict {
        Verdict::Proved(sig, _) => {
            let mut tx = app.begin().await?;
            keeping::refer(app, &mut tx, sig).await?;
            keeping::refer(app, &mut tx, zdi).await?;
            capture.state.clone().apply(CaptureEvent::Verify).map_err(AppError::internal)?;
            captures::verified(&mut tx, app.term, &capture, sig, app.now()).await?;
            say(app, &mut tx, &capture, "capture.verified", "was read back and is VERIFIED").await?;
            failpoints::hit("capture.verified.before-commit").map_err(AppError::internal)?;
            tx.commit().await?;
            failpoints::hit("capture.verified.committed").map_err(AppError::internal)?;
        }
        Verdict::Refuted(reason) => {
            tracing::error!(capture = %id, "verification failed: {reason}");
            // What cannot even be looked at cannot be read.
            let seen = app.store.incarnation(zdi).await.ok().flatten();
            let (class, more) = match is_whole(&*app.store, zdi).await {
                Ok(true) => (FailureClass::Corruption, String::new()),
                // Bytes that are not their name would be taken for stored by the next attempt.
                Ok(false) => {
                    if let Some(damaged) = seen {
                        app.store.set_aside(zdi, damaged).await?;
                    }
                    (FailureClass::Corruption, String::new())
                }
                // Perhaps it is whole, and another capture rests on it, too: it stays where it is.
                Err(error) => {
                    (FailureClass::Machine, format!("; and the object cannot be read again: {}", chain(&error)))
                }
            };
            fail(app, &capture, class, format!("verification failed: {reason}{more}")).await?;
        }
        // Never tried again by itself: a person looks at the store first, and the disk is still there.
        Verdict::Unreadable(reason) => {
            tracing::error!(capture = %id, "the store cannot be read back: {reason}");
            fail(app, &capture, FailureClass::Machine, format!("boss could not read it back: {reason}")).await?;
        }
    }
    app.changed.notify_waiters();
    // Only now: before, a restart would have needed what arrived. Nobody waits for it: in a store that stands still it
    // takes as long as that. What then belongs to another attempt stays, and what stays is in nobody's way.
    let (app, attempt) = (app.clone(), capture.attempt);
    tokio::spawn(async move {
        let (pool, runtime) = (app.pool.clone(), Handle::current());
        let still = move || {
            // The store is held meanwhile, also against a boss that takes over.
            let asked = async {
                let now = captures::get(&mut *pool.acquire().await?, id).await?;
                Ok::<_, DbError>(now.is_some_and(|now| now.attempt == attempt))
            };
            runtime.block_on(async { matches!(timeout(STILL_TIMEOUT, asked).await, Ok(Ok(true))) })
        };
        let discarded = keeping::in_staging(&app.staging, move |staging| staging.discard_if(id, still));
        if let Err(error) = discarded.await {
            tracing::warn!(capture = %id, "what arrived is not removed yet: {error}");
        }
    });
    Ok(())
}

async fn fail(app: &App, capture: &Capture, class: FailureClass, reason: String) -> Result<(), AppError> {
    let to = capture.state.clone().apply(CaptureEvent::Fail { class, reason }).map_err(AppError::internal)?;
    let mut tx = app.begin().await?;
    captures::transition(&mut tx, app.term, capture, &to, app.now()).await?;
    say(app, &mut tx, capture, "capture.failed", "could not be verified").await?;
    Ok(tx.commit().await?)
}

async fn say(
    app: &App,
    tx: &mut boss_db::PgConnection,
    capture: &Capture,
    kind: &str,
    what: &str,
) -> Result<(), AppError> {
    let node = nodes::get(&mut *tx, capture.node).await?;
    let name = node.map_or_else(String::new, |node| format!(" of {}", node.name));
    let message = format!("{} {}{name} {what}", capture.vname, capture.disk_name);
    let of = boss_db::points::get(&mut *tx, capture.point).await?.map(|point| point.experiment);
    note(app, tx, of, Some(capture.node), kind, &message).await
}

fn prove(
    zdi: Digest,
    image: Arc<dyn ReadAt>,
    base: Option<(Arc<dyn ReadAt>, Root)>,
    expected: Root,
    (sig, steps): (PathBuf, Steps),
) -> Verdict {
    let mut bases = Vec::new();
    if let Some((source, root)) = base {
        match Signature::open_trusted(source, root) {
            Ok(signature) => bases.push(signature),
            Err(error) => return Verdict::Refuted(format!("the base's signature: {}", chain(&error))),
        }
    }
    let mut out = match SignatureFile::create(&sig, steps) {
        Ok(file) => file,
        Err(error) => return Verdict::Unreadable(format!("make {}: {error}", sig.display())),
    };
    let rebuilt = match boss_verify::rebuild(image, &bases, &mut out) {
        Ok(rebuilt) => rebuilt,
        Err(error @ (VerifyError::Read { .. } | VerifyError::Signature(SignatureError::Write(_)))) => {
            return Verdict::Unreadable(format!("object {zdi}: {}", chain(&error)));
        }
        Err(error) => return Verdict::Refuted(format!("object {zdi}: {}", chain(&error))),
    };
    if let Some(first) = rebuilt.manifest.bad_sectors().first() {
        let at = first.start;
        return Verdict::Refuted(format!(
            "it is incomplete: sectors of the disk could not be read, from offset {at} on"
        ));
    }
    if rebuilt.root != expected {
        return Verdict::Refuted(format!("the stored bytes give the root {}, not {expected}", rebuilt.root));
    }
    match out.finish() {
        Ok(digest) => Verdict::Proved(digest, sig),
        Err(error) => Verdict::Unreadable(format!("write {}: {error}", sig.display())),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use boss_api::user::UserRole;
    use boss_db::PgPool;

    use super::*;
    use crate::test_support::TestApp;

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn a_verdict_waits_for_no_tidying(pool: PgPool) {
        let (site, soon) = (TestApp::new(pool).await, Duration::from_secs(30));
        let ann = site.user("ann", UserRole::Member, &["lab"]).await;
        let (gone, frame) = (Digest::of(b"an image that is gone"), b"a frame");
        let id = site.saved(site.experiment("lab", "bench", &ann).await, 1, gone, gone).await;
        let received = sqlx::query("UPDATE captures SET state = 'received' WHERE id = $1").bind(id.uuid());
        received.execute(&site.app.pool).await.unwrap();
        site.app.staging.put_frame(id, Digest::of(frame), frame).unwrap();
        // As another boss that takes over: what changes the store waits.
        let store = std::fs::File::open(site.app.config.state.join("store")).unwrap();
        store.lock().unwrap();
        let changed = site.app.changed.notified();
        timeout(soon, verify(&site.app, id)).await.expect("it keeps its place").unwrap();
        timeout(soon, changed).await.expect("nobody is told");
        let capture = captures::get(&mut site.app.pool.acquire().await.unwrap(), id).await.unwrap().unwrap();
        assert_eq!(capture.state.step(), CaptureStep::Failed);
        assert!(!site.app.staging.names().unwrap().is_empty());
        store.unlock().unwrap();
        let removed = async {
            while !site.app.staging.names().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(soon, removed).await.expect("what arrived stays");
    }
}
