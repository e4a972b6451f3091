//! The store and the rows that refer to it: nothing that is referred to goes, and what nobody refers to goes in the end.
//!
//! An object is durable before a row refers to it, so a file without a row is normal: an upload that nobody registered,
//! a boss that died in between, a database older than the store. Such objects are noted when they are seen, and removed
//! only after a grace. The grace spares people a second upload; it is not what makes removing safe. That is the term's
//! row: whoever adds a reference holds it shared and looks in the same transaction whether the object is there
//! ([`refer`]); whoever removes one holds it alone and asks again whether anything refers to it. So neither sees the
//! other half done.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use boss_api::ErrorCode;
use boss_api::ids::CaptureId;
use boss_db::{PgConnection, captures, nodes, objects, term};
use boss_model::capture::CaptureStep;
use sigs::Digest;
use time::OffsetDateTime;

use crate::app::App;
use crate::error::AppError;
use crate::store::{Arrival, StagedName, Staging, StoreError, blocking};

/// After how long of removing a file it is said, again and again.
const LONG: Duration = Duration::from_secs(30);

/// What a look through the store found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Objects in the store.
    pub objects: usize,
    /// Those that no row refers to and that stay for now.
    pub unreferenced: usize,
    /// Those that were removed.
    pub removed: usize,
    /// Objects that a row refers to and that are not there. Order makes this impossible; a medium can lose files.
    pub missing: usize,
}

/// Makes sure that an object is there, in the transaction that adds a reference to it: from here until it ends, nobody
/// removes it.
///
/// # Errors
/// [`AppError`] not found, when the object has to be sent again.
pub(crate) async fn refer(app: &App, tx: &mut PgConnection, digest: Digest) -> Result<(), AppError> {
    if app.store.head(digest).await?.is_none() {
        let text = format!("the object {digest} is not in the store any more: send it again; nothing was changed");
        return Err(AppError::new(ErrorCode::NotFound, text));
    }
    Ok(objects::forget_unreferenced(tx, digest).await?)
}

/// Returns whether an object is there. If it is, its grace begins anew: who is told so may refer to it until that ends.
///
/// # Errors
/// When another boss rules; when the store or the database fails.
pub(crate) async fn is_there(app: &App, digest: Digest) -> Result<bool, AppError> {
    let mut tx = app.begin().await?;
    let there = app.store.head(digest).await?.is_some();
    if there {
        objects::seen_again(&mut tx, digest, app.now()).await?;
    }
    tx.commit().await.map_err(boss_db::DbError::from)?;
    Ok(there)
}

/// Removes an object now if no row refers to it; returns whether it did. With a time, only if it is on the list of those
/// since then, and not kept: nobody was told since that it is there.
///
/// # Errors
/// When another boss rules; when the store or the database fails.
pub(crate) async fn remove_unreferenced(
    app: &App,
    digest: Digest,
    since: Option<OffsetDateTime>,
) -> Result<bool, AppError> {
    let mut tx = boss_db::begin(&app.pool).await?;
    term::fence_alone(&mut tx, app.term).await?;
    if objects::is_referenced(&mut tx, digest).await? {
        return Ok(false);
    }
    if since.is_some() && objects::unreferenced_since(&mut tx, digest).await? != since {
        return Ok(false);
    }
    // The file first: cut off in between, the next look finds a note of an object that is gone, and drops it.
    let mut removing = pin!(app.store.delete(digest));
    loop {
        match tokio::time::timeout(LONG, &mut removing).await {
            Ok(removed) => break removed?,
            // Whoever gave up waiting would let the term go while the file may still be removed.
            Err(_) => {
                tracing::error!(%digest, "removing an object does not end; nothing else changes here until it does");
            }
        }
    }
    objects::forget_unreferenced(&mut tx, digest).await?;
    tx.commit().await.map_err(boss_db::DbError::from)?;
    Ok(true)
}

/// Goes through the store once: notes what nothing refers to, removes what was noted long enough ago and is not kept,
/// says what is missing. With `kept_why`, all that is found without a reference is kept for good, for this reason.
///
/// # Errors
/// When another boss rules; when the store or the database fails.
pub async fn look(app: &App, kept_why: Option<&str>) -> Result<Look, AppError> {
    let stored = app.store.list().await?;
    // After the list: what was referred to since is seen as such.
    let mut tx = app.begin().await?;
    let referenced: HashSet<Digest> = objects::referenced(&mut tx).await?.into_iter().collect();
    let there: HashSet<Digest> = stored.iter().map(|object| object.digest).collect();
    for object in stored.iter().filter(|object| !referenced.contains(&object.digest)) {
        objects::note_unreferenced(&mut tx, object.digest, object.bytes, kept_why, app.now()).await?;
    }
    let noted = objects::unreferenced(&mut tx).await?;
    for gone in noted.iter().filter(|noted| referenced.contains(&noted.digest) || !there.contains(&noted.digest)) {
        objects::forget_unreferenced(&mut tx, gone.digest).await?;
    }
    if kept_why.is_some() {
        term::unreferenced_kept(&mut tx).await?;
    }
    let grace = app.settings(&mut tx).await?.store_grace;
    tx.commit().await.map_err(boss_db::DbError::from)?;
    let mut look = Look { objects: stored.len(), ..Look::default() };
    for digest in referenced.iter().filter(|digest| !there.contains(digest)) {
        // Stored since the list was made, perhaps.
        if app.store.head(*digest).await?.is_none() {
            look.missing += 1;
            tracing::error!(%digest, "an object that is referred to is not in the store: see `boss store check`");
        }
    }
    let now = app.now();
    for noted in noted.iter().filter(|noted| !referenced.contains(&noted.digest) && there.contains(&noted.digest)) {
        let due = noted.kept_why.is_none() && now - noted.seen_at > grace;
        if due && remove_unreferenced(app, noted.digest, Some(noted.seen_at)).await? {
            look.removed += 1;
        } else {
            look.unreferenced += 1;
        }
    }
    Ok(look)
}

/// Goes through what has arrived: what nobody will send more of goes, what of captures no row knows is set aside. Of an
/// object that somebody uploads that is what nothing arrived of for as long as the store keeps what nobody refers to.
///
/// # Errors
/// When the staging folder or the database fails.
pub async fn tidy_staging(app: &App) -> Result<(), AppError> {
    let grace = app.settings(&mut *app.pool.acquire().await?).await?.store_grace;
    let staging = &app.staging;
    let discard = |name: Arrival| in_staging(staging, move |staging| staging.discard(name));
    for name in in_staging(staging, Staging::names).await? {
        match name {
            StagedName::Of(Arrival::Object(object)) => {
                let last = in_staging(staging, move |staging| staging.last_arrived(object)).await?;
                if last.is_some_and(|last| app.now() - OffsetDateTime::from(last) > grace) {
                    tracing::info!(%object, "what arrived of an object is removed: nobody sent more of it");
                    discard(object.into()).await?;
                }
            }
            StagedName::Of(Arrival::Capture(id)) => match fate(&mut *app.pool.acquire().await?, id).await? {
                Fate::Stays => {}
                Fate::Discarded => discard(id.into()).await?,
                Fate::SetAside => {
                    tracing::warn!(capture = %id, "what arrived of a capture that no row knows is set aside");
                    in_staging(staging, move |staging| staging.set_aside(&name)).await?;
                }
            },
            StagedName::Other(_) => in_staging(staging, move |staging| staging.set_aside(&name)).await?,
        }
    }
    Ok(())
}

/// Does something in the staging folder where it may wait: for another boss, for who works with the same files, for the
/// medium.
pub(crate) async fn in_staging<T: Send + 'static>(
    staging: &Arc<Staging>,
    work: impl FnOnce(&Staging) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let staging = Arc::clone(staging);
    blocking(move || work(&staging)).await
}

enum Fate {
    Stays,
    Discarded,
    SetAside,
}

async fn fate(conn: &mut PgConnection, id: CaptureId) -> Result<Fate, AppError> {
    // A database restored from an older backup knows less than the store.
    let Some(capture) = captures::get(&mut *conn, id).await? else { return Ok(Fate::SetAside) };
    let over = match capture.state.step() {
        CaptureStep::Verified | CaptureStep::Retired => true,
        // Frames of it may be used by the next attempt, as long as the machine is in that epoch.
        CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming | CaptureStep::Failed => {
            nodes::get(conn, capture.node).await?.is_none_or(|node| node.epoch != capture.epoch)
        }
        CaptureStep::Received => false,
    };
    Ok(if over { Fate::Discarded } else { Fate::Stays })
}

#[cfg(test)]
mod tests {
    use boss_api::user::UserRole;
    use boss_db::PgPool;
    use sigs::ByteLen;
    use time::Duration;

    use super::*;
    use crate::test_support::TestApp;

    const LIMIT: ByteLen = ByteLen::new(1 << 20);

    async fn put(site: &TestApp, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let stream = Box::pin(std::io::Cursor::new(bytes.to_vec()));
        site.app.store.put_if_absent(digest, LIMIT, stream).await.unwrap();
        digest
    }

    async fn is_there(site: &TestApp, digest: Digest) -> bool {
        site.app.store.head(digest).await.unwrap().is_some()
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn what_somebody_was_told_of_since_the_look_began_stays(pool: PgPool) {
        let site = TestApp::new(pool).await;
        let stray = put(&site, b"stray").await;
        look(&site.app, None).await.unwrap();
        let noted = Some(site.app.now());
        site.clock.advance(Duration::days(8));
        assert!(super::is_there(&site.app, stray).await.unwrap());
        assert!(!remove_unreferenced(&site.app, stray, noted).await.unwrap());
        assert!(is_there(&site, stray).await);
        let told = Some(site.app.now());
        let mut conn = site.app.pool.acquire().await.unwrap();
        objects::keep(&mut conn, stray, Some("it is dear")).await.unwrap();
        assert!(!remove_unreferenced(&site.app, stray, told).await.unwrap());
        assert!(super::is_there(&site.app, stray).await.unwrap());
        assert_eq!(objects::unreferenced(&mut conn).await.unwrap()[0].kept_why.as_deref(), Some("it is dear"));
        objects::keep(&mut conn, stray, None).await.unwrap();
        assert!(remove_unreferenced(&site.app, stray, told).await.unwrap());
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn what_nothing_refers_to_goes_after_the_grace_and_no_sooner(pool: PgPool) {
        let site = TestApp::new(pool).await;
        let user = site.user("ann", UserRole::Admin, &["p"]).await;
        site.experiment("p", "e", &user).await;
        // The signature of the test's image; its other object is not in the store.
        let (stray, kept) = (put(&site, b"stray").await, put(&site, b"sig").await);
        let found = look(&site.app, None).await.unwrap();
        assert_eq!(found, Look { objects: 2, unreferenced: 1, removed: 0, missing: 1 });
        site.clock.advance(Duration::days(7));
        assert_eq!(look(&site.app, None).await.unwrap().removed, 0, "not a moment early");
        site.clock.advance(Duration::seconds(1));
        assert_eq!(look(&site.app, None).await.unwrap().removed, 1);
        assert!(!is_there(&site, stray).await);
        assert!(is_there(&site, kept).await, "referred to");
        // Uploaded again, its grace begins again.
        put(&site, b"stray").await;
        assert_eq!(look(&site.app, None).await.unwrap().removed, 0);
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn what_is_kept_stays_whatever_the_clock_says(pool: PgPool) {
        let site = TestApp::new(pool).await;
        let lost = put(&site, b"of a row the backup does not have").await;
        look(&site.app, Some("the database was older than the store")).await.unwrap();
        site.clock.advance(Duration::days(4000));
        assert_eq!(look(&site.app, None).await.unwrap().removed, 0);
        assert!(is_there(&site, lost).await);
        objects::keep(&mut site.app.pool.acquire().await.unwrap(), lost, None).await.unwrap();
        assert_eq!(look(&site.app, None).await.unwrap().removed, 1);
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn an_object_is_not_removed_while_somebody_is_about_to_refer_to_it(pool: PgPool) {
        let site = TestApp::new(pool).await;
        let digest = put(&site, b"about to be referred to").await;
        look(&site.app, None).await.unwrap();
        let mut tx = site.app.begin().await.unwrap();
        refer(&site.app, &mut tx, digest).await.unwrap();
        let (app, mut removing) = (site.app.clone(), tokio::task::JoinSet::new());
        removing.spawn(async move { remove_unreferenced(&app, digest, None).await });
        // It waits in the database, where we can see it.
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let look = async {
            while sqlx::query_scalar::<_, i64>(waits).fetch_one(&site.app.pool).await.unwrap() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), look).await.expect("nobody waits for the term");
        assert!(is_there(&site, digest).await);
        let image = site.image("p", "i").await;
        sqlx::query("UPDATE image_versions SET zdi_digest = $1 WHERE id = $2")
            .bind(digest.as_bytes().as_slice())
            .bind(image.uuid())
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert!(!removing.join_next().await.unwrap().unwrap().unwrap(), "it is referred to now");
        assert!(is_there(&site, digest).await);
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn a_reference_to_what_is_gone_is_refused_and_an_older_boss_removes_nothing(pool: PgPool) {
        let site = TestApp::new(pool.clone()).await;
        let mut tx = site.app.begin().await.unwrap();
        let refused = refer(&site.app, &mut tx, Digest::of(b"never sent")).await.unwrap_err();
        assert_eq!(refused.told().code, ErrorCode::NotFound);
        drop(tx);
        let digest = put(&site, b"x").await;
        TestApp::new(pool).await;
        remove_unreferenced(&site.app, digest, None).await.unwrap_err();
        assert!(is_there(&site, digest).await);
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn what_arrived_for_a_capture_that_no_row_knows_is_set_aside(pool: PgPool) {
        let site = TestApp::new(pool).await;
        let unknown = CaptureId::new(uuid::Uuid::now_v7());
        let frame = b"a frame";
        site.app.staging.put_frame(unknown, Digest::of(frame), frame).unwrap();
        tidy_staging(&site.app).await.unwrap();
        assert!(site.app.staging.names().unwrap().is_empty());
        let aside = site.app.config.state.join("store/aside");
        assert_eq!(std::fs::read_dir(aside).unwrap().count(), 2, "its frames and their index");
    }

    #[sqlx::test(migrator = "boss_db::MIGRATOR")]
    async fn what_arrived_of_an_object_goes_when_nobody_sends_more_for_the_grace(pool: PgPool) {
        let site = TestApp::new(pool).await;
        let (object, piece) = (Digest::of(b"never whole"), b"a piece");
        site.app.staging.put_frame(object, Digest::of(piece), piece).unwrap();
        let folder = site.app.config.state.join("store/staging");
        let came = |at: OffsetDateTime| {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
                file.set_modified(at.into()).unwrap();
            }
        };
        came(site.app.now() - Duration::days(7));
        tidy_staging(&site.app).await.unwrap();
        assert_eq!(site.app.staging.lacking(object, &[Digest::of(piece)]).unwrap(), [], "not a moment early");
        came(site.app.now() - Duration::days(7) - Duration::seconds(1));
        tidy_staging(&site.app).await.unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        assert_eq!(site.app.staging.lacking(object, &[Digest::of(piece)]).unwrap().len(), 1);
    }
}
