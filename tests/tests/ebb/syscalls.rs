//! Programs that do durable things are killed at their system calls, or have these fail, and nothing is lost. This is the
//! bounded part; `make torture` tries all calls.

use std::path::Path;

use anyhow::ensure;
use ebb_tests::suite;
use ebb_tests::talk;
use ebb_tests::torture::images::{Maker, Making, Restoring};
use ebb_tests::torture::sigkill::{Account, Bound, Subject, sweep};
use ebb_tests::torture::syscalls::{Fault, available, watch};
use ebb_tests::torture::transfer_order::judge;
use ebb_tests::torture::transfer_states;
use ebb_tests::torture::transfers::Transfer;

/// Of each kind of call the first and some of the rest; the last is among them.
const BOUND: Bound = Bound { every: 1, spread: 3 };

/// Of each transfer so many of the states that a crash may leave.
const STATES: usize = 12;

/// Has a subject tortured in a folder of its own.
fn torture(
    test: &str,
    fault: Fault,
    wanted: impl Fn(&str) -> bool,
    subject: impl Fn(&Path) -> anyhow::Result<Box<dyn Subject>>,
) -> anyhow::Result<()> {
    bounded(test, BOUND, fault, wanted, subject)
}

fn bounded(
    test: &str,
    bound: Bound,
    fault: Fault,
    wanted: impl Fn(&str) -> bool,
    subject: impl Fn(&Path) -> anyhow::Result<Box<dyn Subject>>,
) -> anyhow::Result<()> {
    if let Err(reason) = available() {
        return suite::skip(test, &format!("{reason:#}"));
    }
    let folder = tempfile::tempdir()?;
    let account = sweep(subject(folder.path())?.as_mut(), folder.path(), fault, bound, wanted)?;
    let Account { calls, tried, hit, failures, took } = account;
    talk::say(format!("{test}: {fault} at {hit} of {tried} calls in {:.1} s; it makes {calls:?}", took.as_secs_f64()));
    ensure!(failures.is_empty(), "{} of {tried}:\n{}", failures.len(), failures.join("\n"));
    // What is counted for one run is there in the next, but for what threads say to each other.
    ensure!(tried > 0 && hit * 10 >= tried * 9, "only {hit} of {tried} calls were hit");
    Ok(())
}

#[test]
fn a_transfer_that_is_killed_is_finished_by_resuming() -> anyhow::Result<()> {
    torture("a transfer is killed", Fault::Kill, |_| true, |folder| Ok(Box::new(Transfer::new(folder, true)?)))
}

#[test]
fn a_transfer_whose_calls_fail_says_so_and_loses_nothing() -> anyhow::Result<()> {
    let grows = |call: &str| matches!(call, "pwrite64" | "fallocate" | "fdatasync" | "mkdir" | "renameat2");
    let subject = |folder: &Path| -> anyhow::Result<Box<dyn Subject>> { Ok(Box::new(Transfer::new(folder, true)?)) };
    // A flush is not to be tried again, at any place.
    let every_flush = Bound { every: 50, spread: 0 };
    bounded("a flush of a transfer fails", every_flush, Fault::Error("EIO"), |call| call == "fsync", subject)?;
    torture("a transfer gets an error", Fault::Error("EIO"), |call| call != "fsync", subject)?;
    torture("a transfer gets no room", Fault::Error("ENOSPC"), grows, subject)
}

#[test]
fn an_image_that_is_killed_in_the_making_is_none() -> anyhow::Result<()> {
    for maker in [Maker::Imagezip, Maker::Swapimage] {
        torture(
            "an image is made and that is killed",
            Fault::Kill,
            |_| true,
            |folder| Ok(Box::new(Making::new(folder, maker)?)),
        )?;
    }
    Ok(())
}

#[test]
fn a_restore_that_is_killed_cannot_boot_and_is_finished_by_doing_it_again() -> anyhow::Result<()> {
    torture("a restore is killed", Fault::Kill, |_| true, |folder| Ok(Box::new(Restoring::new(folder)?)))
}

#[test]
fn a_transfer_flushes_before_it_says_so() -> anyhow::Result<()> {
    if let Err(reason) = available() {
        return suite::skip("the order of a transfer", &format!("{reason:#}"));
    }
    let folder = tempfile::tempdir()?;
    let mut transfer = Transfer::new(folder.path(), true)?;
    let command = transfer.reset()?;
    let ended = watch(&command, &folder.path().join("trace"))?;
    ensure!(ended.output.status.success(), "{}", ended.said());
    let journal = transfer.journal().display().to_string();
    let (given, wrong) = judge(&ended.calls, &journal);
    ensure!(given == 4 && wrong.is_empty(), "{given} names:\n{}", wrong.join("\n"));
    // It is seen when any one of the flushes is not there. Before its first record it has nothing to flush of its own.
    let first = ended.calls.iter().position(|call| call.name == "pwrite64" && call.file() == Some(journal.as_str()));
    let flush = |name: &str| matches!(name, "fsync" | "fdatasync");
    let later = ended.calls.iter().enumerate().skip(first.unwrap_or(0));
    for (place, flush) in later.filter(|(_, call)| flush(&call.name)) {
        let mut calls = ended.calls.clone();
        calls.remove(place);
        let (_, wrong) = judge(&calls, &journal);
        ensure!(!wrong.is_empty(), "nobody misses the flush of {} at {place}", flush.file().unwrap_or("a file"));
    }
    Ok(())
}

#[test]
fn whatever_a_crash_leaves_of_a_transfer_is_finished_and_nothing_is_lost() -> anyhow::Result<()> {
    if let Err(reason) = available() {
        return suite::skip("what a crash leaves of a transfer", &format!("{reason:#}"));
    }
    let folder = tempfile::tempdir()?;
    let account = transfer_states::run(folder.path(), STATES)?;
    let transfer_states::Account { states, tried, failures } = account;
    talk::say(format!("{tried} of {states} states"));
    ensure!(failures.is_empty(), "{} of {tried}:\n{}", failures.len(), failures.join("\n"));
    ensure!(tried >= STATES && states > tried, "only {tried} of {states} were tried");
    Ok(())
}
