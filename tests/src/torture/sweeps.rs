//! All sweeps there are: which programs are killed at their system calls, and which get errors from them.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::images::{Maker, Making, Restoring};
use super::report::{Method, Row};
use super::sigkill::{Account, Bound, Subject, sweep};
use super::syscalls::{Fault, available};
use super::transfers::Transfer;

/// Kills every program at each of its durable calls.
///
/// # Errors
/// When the programs do not work at all, or cannot be traced here.
pub fn kills(folder: &Path) -> anyhow::Result<Row> {
    run(folder, Method::Sigkill, &[Fault::Kill])
}

/// Has each durable call of every program fail.
///
/// # Errors
/// As [`kills`].
pub fn errors(folder: &Path) -> anyhow::Result<Row> {
    run(folder, Method::Errno, &[Fault::Error("EIO"), Fault::Error("ENOSPC")])
}

/// Returns the programs, each with what it needs in a folder of its own.
fn subjects(folder: &Path) -> anyhow::Result<Vec<Box<dyn Subject>>> {
    let place = |name: &str| -> anyhow::Result<_> {
        let place = folder.join(name);
        fs::create_dir_all(&place)?;
        Ok(place)
    };
    Ok(vec![
        Box::new(Transfer::new(&place("transfer")?, false)?),
        Box::new(Transfer::new(&place("release")?, true)?),
        Box::new(Making::new(&place("create")?, Maker::Imagezip)?),
        Box::new(Making::new(&place("swapimage")?, Maker::Swapimage)?),
        Box::new(Restoring::new(&place("restore")?)?),
    ])
}

fn run(folder: &Path, method: Method, faults: &[Fault]) -> anyhow::Result<Row> {
    available()?;
    let began = Instant::now();
    let (mut all, mut more) = (Account::default(), serde_json::Map::new());
    for mut subject in subjects(folder)? {
        for fault in faults {
            let account = sweep(subject.as_mut(), folder, *fault, Bound::FULL, |_| true)?;
            let what = json!({"calls": account.calls, "tried": account.tried, "hit": account.hit});
            more.insert(format!("{} {fault}", subject.name()), what);
            all.add(account);
        }
    }
    let wrong = u64::try_from(all.failures.len()).unwrap_or(u64::MAX);
    if all.hit * 10 < all.tried * 9 {
        all.failures.push(format!("only {} of {} calls were hit", all.hit, all.tried));
    }
    Ok(Row {
        method,
        tried: all.tried,
        found: all.tried.saturating_sub(wrong),
        expected: all.tried,
        seconds: began.elapsed().as_secs_f64(),
        failures: all.failures,
        more,
    })
}
