//! Whether the database speaks of a file that is not there: looked at while boss does not run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use sha2::{Digest as _, Sha256};

use crate::site::Site;
use crate::{pg, tools};

/// What captures say is stored, the newest first.
const STORED: &str = "SELECT id, encode(zdi_digest, 'hex') FROM captures
    WHERE state IN ('received', 'verified') ORDER BY id DESC LIMIT ";

/// Checks that every object that so many of the newest captures name is in the store, whole.
///
/// # Errors
/// When one is not.
pub fn check(site: &Site, newest: u32) -> anyhow::Result<()> {
    let text = query(site, &format!("{STORED}{newest}"))?;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (capture, digest) = line.split_once('|').with_context(|| format!("psql says {line:?}"))?;
        let path = object(site, digest);
        let bytes = fs::read(&path).with_context(|| {
            format!("row without file: capture {capture} is stored as {digest}, and there is no such object")
        })?;
        let found = hex::encode(Sha256::digest(bytes));
        ensure!(found == digest, "the object {digest} of capture {capture} has the digest {found}");
    }
    Ok(())
}

/// Asks the database of a site.
///
/// # Errors
/// When it does not answer.
pub fn query(site: &Site, query: &str) -> anyhow::Result<String> {
    let psql = pg::programs().context("PostgreSQL is not installed any more")?.join("psql");
    tools::output(Command::new(psql).args(["-X", "-A", "-t", "-c", query]).arg(site.database_url()))
}

fn object(site: &Site, digest: &str) -> PathBuf {
    site.state().join("store/objects").join(&digest[..2]).join(digest)
}
