//! Believes a capture only after reading it back from the medium and computing its root anew.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use boss_api::agent::FailureClass;
use boss_api::ids::CaptureId;
use boss_db::captures::{self, Capture};
use boss_db::{images, nodes};
use boss_model::capture::{CaptureEvent, CaptureStep};
use sha2::{Digest as _, Sha256};
use sigs::{Digest, ReadAt, Root, Signature};

use crate::app::App;
use crate::error::AppError;
use crate::store::digest_of;
use crate::swap::note;

/// How the reading ended.
enum Verdict {
    /// The stored bytes restore the state the agent saw; here is its signature, flushed.
    Proved(Digest, PathBuf),
    /// They do not.
    Refuted(String),
}

/// Verifies a received capture. Started again after a restart: it only reads, until its last transaction.
pub(super) async fn verify(app: &App, id: CaptureId) -> Result<(), AppError> {
    let mut conn = app.pool.acquire().await?;
    let Some(capture) = captures::get(&mut conn, id).await? else { return Ok(()) };
    let base = match capture.base {
        Some(base) => images::version(&mut conn, base).await?,
        None => None,
    };
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
            let sig = app.staging.scratch(id);
            tokio::task::spawn_blocking(move || prove(zdi, image, base, expected, sig))
                .await
                .map_err(AppError::internal)??
        }
        Err(crate::store::StoreError::Missing(digest)) => Verdict::Refuted(format!("the object {digest} is gone")),
        Err(error) => return Err(error.into()),
    };
    match verdict {
        Verdict::Proved(sig, path) => {
            app.store.put_file(sig, &path).await?;
            let mut tx = app.begin().await?;
            capture.state.clone().apply(CaptureEvent::Verify).map_err(AppError::internal)?;
            captures::verified(&mut tx, app.term, &capture, sig, app.now()).await?;
            say(app, &mut tx, &capture, "capture.verified", "was read back and is VERIFIED").await?;
            tx.commit().await?;
        }
        Verdict::Refuted(reason) => {
            tracing::error!(capture = %id, "verification failed: {reason}");
            // Bytes that are not their name would be taken for stored by the next attempt.
            if !intact(app, zdi).await? {
                app.store.delete(zdi).await?;
            }
            let event = CaptureEvent::Fail {
                class: FailureClass::Corruption,
                reason: format!("verification failed: {reason}"),
            };
            let to = capture.state.clone().apply(event).map_err(AppError::internal)?;
            let mut tx = app.begin().await?;
            captures::transition(&mut tx, app.term, &capture, &to, app.now()).await?;
            say(app, &mut tx, &capture, "capture.failed", "could not be verified").await?;
            tx.commit().await?;
        }
    }
    // Only now: before, a restart would have needed what arrived.
    app.staging.discard(id)?;
    app.changed.notify_waiters();
    Ok(())
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
    sig: PathBuf,
) -> Result<Verdict, AppError> {
    let mut bases = Vec::new();
    if let Some((source, root)) = base {
        match Signature::open_trusted(source, root) {
            Ok(signature) => bases.push(signature),
            Err(error) => return Ok(Verdict::Refuted(format!("the base's signature: {}", chain(&error)))),
        }
    }
    let file = File::create(&sig).map_err(AppError::internal)?;
    let mut out = BufWriter::new(file);
    let rebuilt = match boss_verify::rebuild(image, &bases, &mut out) {
        Ok(rebuilt) => rebuilt,
        Err(error) => return Ok(Verdict::Refuted(format!("object {zdi}: {}", chain(&error)))),
    };
    if rebuilt.root != expected {
        return Ok(Verdict::Refuted(format!("the stored bytes give the root {}, not {expected}", rebuilt.root)));
    }
    out.flush().map_err(AppError::internal)?;
    out.get_ref().sync_all().map_err(AppError::internal)?;
    let (digest, _) = digest_of(&sig).map_err(AppError::internal)?;
    Ok(Verdict::Proved(digest, sig))
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

/// Returns whether an object still has the digest it is named by.
async fn intact(app: &App, digest: Digest) -> Result<bool, AppError> {
    use tokio::io::AsyncReadExt as _;
    if app.store.head(digest).await?.is_none() {
        return Ok(true);
    }
    let (_, mut bytes) = app.store.get(digest, None).await?;
    let (mut hash, mut buf) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        let n = bytes.read(&mut buf).await.map_err(AppError::internal)?;
        if n == 0 {
            return Ok(Digest::from_bytes(hash.finalize().into()) == digest);
        }
        hash.update(&buf[..n]);
    }
}
