//! Programs are killed at each of their durable system calls in turn, and have to come to a good end all the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::syscalls::{Ended, Fault, Injection, count, inject, talk, watch};

/// A program to be tortured: how it is begun, and how what it left is judged.
pub trait Subject {
    /// Returns what it is called.
    fn name(&self) -> &'static str;

    /// Returns true for a program whose threads wake each other by `write`. That such a call fails is no story of disks, and
    /// it is not always the same one.
    fn wakes_by_write(&self) -> bool;

    /// Puts everything back to how it was before, and returns the command to run.
    ///
    /// # Errors
    /// When that is not possible.
    fn reset(&mut self) -> anyhow::Result<Command>;

    /// Looks at what is left of a run in which something went wrong, finishes the work as a user would, and looks again.
    ///
    /// # Errors
    /// With what is wrong.
    fn judge(&mut self, injection: &Injection, ended: &Ended) -> anyhow::Result<()>;
}

/// How many of the calls are tried.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Of each kind every one up to this.
    pub every: u64,
    /// And so many more, spread over the rest.
    pub spread: u64,
}

impl Bound {
    /// Everything there is to try.
    pub const FULL: Self = Self { every: 50, spread: 50 };

    /// Returns the numbers of the calls to try, of so many that are made.
    pub fn numbers(self, calls: u64) -> Vec<u64> {
        let first = calls.min(self.every);
        let rest = calls - first;
        let more = rest.min(self.spread);
        // The last one is always among them.
        let spread = (1..=more).map(|step| first + rest.saturating_mul(step) / more);
        (1..=first).chain(spread).collect()
    }
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Account {
    /// How often each kind of call is made by a run that nothing happens to.
    pub calls: BTreeMap<String, u64>,
    /// How many runs something was to happen to.
    pub tried: u64,
    /// To how many it did.
    pub hit: u64,
    /// What was not well afterwards.
    pub failures: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Account {
    /// Adds the account of another sweep.
    pub fn add(&mut self, other: Self) {
        for (call, count) in other.calls {
            *self.calls.entry(call).or_default() += count;
        }
        self.tried += other.tried;
        self.hit += other.hit;
        self.failures.extend(other.failures);
        self.took += other.took;
    }
}

/// Sweeps a fault over the durable calls of a program, those that `wanted` picks.
///
/// # Errors
/// When the program does not even work when nothing goes wrong, or cannot be run.
pub fn sweep(
    subject: &mut dyn Subject,
    folder: &Path,
    fault: Fault,
    bound: Bound,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<Account> {
    let began = Instant::now();
    let trace = folder.join(format!("{}.trace", subject.name()));
    let command = subject.reset()?;
    let well = watch(&command, &trace)?;
    ensure!(well.output.status.success(), "{} does not work at all: {}", subject.name(), well.said());
    let mut account = Account { calls: count(&well.calls), ..Account::default() };
    // That a pipe or another thread cannot be written to is another story, and not one of disks.
    let kills = fault == Fault::Kill;
    let (talk, wakes) = (talk(&well.calls), subject.wakes_by_write());
    let counted = account.calls.clone().into_iter();
    for (call, calls) in counted.filter(|(call, _)| wanted(call) && (kills || !wakes || call != "write")) {
        for number in bound.numbers(calls) {
            if !kills && talk.contains(&(call.clone(), number)) {
                continue;
            }
            let injection = Injection { call: call.clone(), number, fault };
            let command = subject.reset().with_context(|| format!("before {injection}"))?;
            account.tried += 1;
            let ended = match inject(&command, &trace, &injection) {
                Ok(ended) => ended,
                Err(error) => {
                    account.failures.push(format!("{}, {injection}: {error:#}", subject.name()));
                    continue;
                }
            };
            let hit = match fault {
                Fault::Kill => ended.killed(),
                Fault::Error(_) => ended.calls.iter().any(|call| call.result.contains("INJECTED")),
            };
            account.hit += u64::from(hit);
            if let Err(error) = subject.judge(&injection, &ended) {
                account.failures.push(format!("{}, {injection}: {error:#}", subject.name()));
            }
        }
    }
    fs::remove_file(&trace).with_context(|| format!("remove {}", trace.display()))?;
    account.took = began.elapsed();
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_up_to_the_bound_and_some_of_the_rest() {
        let bound = Bound { every: 3, spread: 2 };
        assert!(bound.numbers(0).is_empty());
        assert_eq!(bound.numbers(2), [1, 2]);
        assert_eq!(bound.numbers(4), [1, 2, 3, 4]);
        assert_eq!(bound.numbers(13), [1, 2, 3, 8, 13]);
        assert_eq!(Bound::FULL.numbers(1000).len(), 100);
    }
}
