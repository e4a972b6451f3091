//! `boss store`: what the store holds, what rows refer to, and whether the two agree. It looks beside a running boss and
//! changes no object: what is to go is removed by boss itself.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, bail};
use boss::store::{ImageStore as _, LocalStore};
use boss_db::{DbError, PgPool, objects};
use clap::Subcommand;
use sha2::{Digest as _, Sha256};
use sigs::Digest;
use tokio::io::AsyncReadExt as _;

use super::say;

/// What to do with the store
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what nothing refers to: since when, how large, and why it is kept, if it is
    List,
    /// Check that everything that is referred to is there
    Check {
        /// Read every object, past the cache, and compare it with its name
        #[arg(long)]
        read: bool,
    },
    /// Keep an object that nothing refers to, whatever its age
    Keep {
        /// The object, as `list` names it
        digest: Digest,
        /// Why, for whoever finds it later
        #[arg(long)]
        why: String,
    },
    /// Keep an object no longer: boss removes it when its grace is over
    Release {
        /// The object, as `list` names it
        digest: Digest,
    },
}

/// Something that is referred to is missing or damaged.
#[derive(Debug, thiserror::Error)]
#[error("{missing} objects are missing and {damaged} damaged, named above; restore them from a copy of store/objects")]
pub(crate) struct Defects {
    missing: usize,
    damaged: usize,
}

/// Runs one of them.
pub(crate) async fn run(command: Command, pool: &PgPool, state: &Path) -> anyhow::Result<()> {
    match command {
        Command::List => list(pool).await,
        Command::Check { read } => check(pool, state, read).await,
        Command::Keep { digest, why } => keep(pool, digest, Some(&why)).await,
        Command::Release { digest } => keep(pool, digest, None).await,
    }
}

async fn list(pool: &PgPool) -> anyhow::Result<()> {
    let all = objects::unreferenced(&mut *pool.acquire().await?).await?;
    for object in &all {
        let (since, why) = (object.seen_at.date(), object.kept_why.as_deref().unwrap_or("removed after the grace"));
        say(&format!("{}  {:>15} bytes  since {since}  {why}", object.digest, object.bytes.get()))?;
    }
    if all.is_empty() { say("everything in the store is referred to, as of boss's last look") } else { Ok(()) }
}

async fn keep(pool: &PgPool, digest: Digest, why: Option<&str>) -> anyhow::Result<()> {
    if why.is_some_and(|why| why.trim().is_empty() || why.chars().count() > 500) {
        bail!("--why takes 1 to 500 characters");
    }
    match objects::keep(&mut *pool.acquire().await?, digest, why).await {
        Ok(()) => say(&format!("object {digest} is {}", if why.is_some() { "kept" } else { "kept no longer" })),
        Err(DbError::LostRace { .. }) => {
            bail!(
                "object {digest} is not among those that nothing refers to: see `boss store list`; boss looks every hour"
            )
        }
        Err(error) => Err(error.into()),
    }
}

async fn check(pool: &PgPool, state: &Path, read: bool) -> anyhow::Result<()> {
    let store = LocalStore::of(state);
    let there = store.list().await.context("list the store")?;
    // After the list: an object that came since is looked for by name below.
    let referenced = objects::referenced(&mut *pool.acquire().await?).await?;
    let names: HashSet<Digest> = there.iter().map(|object| object.digest).collect();
    let (mut missing, mut damaged) = (0, 0);
    for digest in &referenced {
        if !names.contains(digest) && store.head(*digest).await?.is_none() {
            missing += 1;
            say(&format!("{digest}  missing"))?;
        }
    }
    if read {
        for object in &there {
            if !is_intact(&store, object.digest).await? {
                damaged += 1;
                say(&format!("{}  damaged", object.digest))?;
            }
        }
    }
    say(&format!("{} objects, {} referred to, {missing} missing, {damaged} damaged", there.len(), referenced.len()))?;
    if missing + damaged > 0 { Err(Defects { missing, damaged }.into()) } else { Ok(()) }
}

/// Returns whether the bytes of an object on the medium have its digest. One that was removed since it was listed has.
async fn is_intact(store: &LocalStore, digest: Digest) -> anyhow::Result<bool> {
    if store.head(digest).await?.is_none() {
        return Ok(true);
    }
    // Opened so, what is cached is dropped first.
    store.open(digest, true).await.with_context(|| format!("open object {digest}"))?;
    let (_, mut bytes) = store.get(digest, None).await.with_context(|| format!("open object {digest}"))?;
    let (mut hash, mut buf) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match bytes.read(&mut buf).await {
            Ok(0) => return Ok(Digest::from_bytes(hash.finalize().into()) == digest),
            Ok(n) => hash.update(&buf[..n]),
            // A medium that does not give it back has lost it as surely as one that gives other bytes.
            Err(error) => {
                say(&format!("{digest}  cannot be read: {error}"))?;
                return Ok(false);
            }
        }
    }
}
