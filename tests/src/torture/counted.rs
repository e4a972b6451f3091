//! boss and agents killed at the so-many-th named place that the process comes by, whichever it is: in each turn of the
//! machines, once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use super::arming::Fault;
use super::report::{Method, Row};
use super::sigkill::Bound;
use super::turnover::{Trouble, Turn, Turnover};
use super::workers::{self, Worker};
use crate::talk;

const PROGRAMS: [&str; 2] = ["boss", "node-agent"];

/// Who is killed, and at which place that he comes by.
type Kill = (&'static str, u32);

/// A cycle with what happens in each of its turns.
type Cycle = Vec<(Turn, Option<Kill>)>;

/// How many places a process of each program comes by in each turn.
type Passes = Vec<(Turn, BTreeMap<&'static str, u32>)>;

/// Kills boss and agents at so many places of each turn; with `most`, in so many cycles at most.
///
/// # Errors
/// When not even a cycle in which nobody is killed works.
pub fn run(folder: &Path, bound: Bound, most: Option<usize>, workers: usize) -> anyhow::Result<Row> {
    let began = Instant::now();
    let mut first = Turnover::start(&folder.join("worker-0")).context("start a site")?;
    let passes = learn(&mut first).context("a cycle in which nobody is killed")?;
    let mut cycles = plan(&passes, bound);
    let planned = cycles.iter().flatten().filter(|(_, kill)| kill.is_some()).count();
    if let Some(most) = most {
        // Some of all, not the first of each.
        let step = cycles.len().div_ceil(most.max(1)).max(1);
        cycles = cycles.into_iter().step_by(step).collect();
    }
    let wanted = cycles.iter().flatten().filter(|(_, kill)| kill.is_some()).count();
    let (mut killed, mut trouble, mut failures) = (BTreeMap::<_, usize>::new(), Trouble::default(), Vec::new());
    let told = |index: usize, _: &Cycle, ended: anyhow::Result<(Vec<&'static str>, Trouble)>| {
        let place = format!("[{}/{}]", index + 1, cycles.len());
        match ended {
            Ok((programs, more)) => {
                let times = programs.len();
                talk::say(format!(
                    "{place} killed {times}, held {}, boss started again {}",
                    more.held.len(),
                    more.restarts
                ));
                programs.into_iter().for_each(|program| *killed.entry(program).or_default() += 1);
                trouble.add(more);
            }
            Err(error) => {
                talk::say(format!("{place} {error:#}"));
                failures.push(format!("{error:#}"));
            }
        }
    };
    workers::share(folder, first, workers, &cycles, |worker, _, cycle| one(worker, cycle), told);
    let killed_of = |program| killed.get(program).copied().unwrap_or(0);
    let wanted_of =
        |program| cycles.iter().flatten().filter(|(_, kill)| kill.is_some_and(|kill| kill.0 == program)).count();
    for program in PROGRAMS {
        // How many places there are differs a little from time to time, and the last may not be come by.
        let (killed, wanted) = (killed_of(program), wanted_of(program));
        if killed * 4 < wanted * 3 {
            failures.push(format!("{program} was killed {killed} times instead of {wanted}"));
        }
    }
    let killed = PROGRAMS.into_iter().map(killed_of).sum::<usize>();
    let mut more = serde_json::Map::new();
    for program in PROGRAMS {
        let count: u32 = passes.iter().filter_map(|(_, of)| of.get(program)).sum();
        let name = program.replace('-', "_");
        more.insert(format!("places_of_{name}"), json!(count));
        more.insert(format!("killed_of_{name}"), json!(killed_of(program)));
    }
    more.insert("planned".into(), json!(planned));
    more.insert("not_reached".into(), json!(wanted.saturating_sub(killed)));
    more.insert("held".into(), json!(trouble.held.len()));
    more.insert("restarts".into(), json!(trouble.restarts));
    let killed = u64::try_from(killed).unwrap_or(u64::MAX);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Row { method: Method::Counted, tried: killed, found: killed, expected: killed, seconds, failures, more })
}

/// Takes every turn once, and counts.
fn learn(turnover: &mut Turnover) -> anyhow::Result<Passes> {
    let mut passes = Passes::new();
    for turn in Turn::ALL {
        turnover.arming().clear()?;
        let trouble = turnover.turn(turn)?;
        ensure!(trouble == Trouble::default(), "{turn:?}: {trouble:?}");
        passes.push((turn, PROGRAMS.into_iter().map(|name| (name, turnover.arming().most_of(name))).collect()));
    }
    for program in PROGRAMS {
        let comes_by = passes.iter().any(|(_, of)| of.get(program).is_some_and(|count| *count > 0));
        ensure!(comes_by, "{program} comes by no place at all");
    }
    Ok(passes)
}

/// Spreads what there is to kill over as few cycles as there can be.
fn plan(passes: &Passes, bound: Bound) -> Vec<Cycle> {
    let kills = |of: &BTreeMap<&'static str, u32>| -> Vec<Kill> {
        let numbers = |count: u32| bound.numbers(count.into()).into_iter().filter_map(|number| number.try_into().ok());
        of.iter().flat_map(|(program, count)| numbers(*count).map(move |number| (*program, number))).collect()
    };
    let turns: Vec<_> = passes.iter().map(|(turn, of)| (*turn, kills(of))).collect();
    let cycles = turns.iter().map(|(_, kills)| kills.len()).max().unwrap_or(0);
    (0..cycles).map(|at| turns.iter().map(|(turn, kills)| (*turn, kills.get(at).copied())).collect()).collect()
}

/// One cycle. Returns who was killed in it.
fn one(worker: &mut Worker, cycle: &Cycle) -> anyhow::Result<(Vec<&'static str>, Trouble)> {
    let turnover = worker.turnover()?;
    let (mut killed, mut trouble) = (Vec::new(), Trouble::default());
    for (turn, kill) in cycle {
        turnover.arming().clear()?;
        if let Some((program, number)) = kill {
            turnover.arming().arm(&format!("any.{program}"), Fault::Crash, *number)?;
        }
        trouble.add(turnover.turn(*turn).with_context(|| format!("in {turn:?}, killed: {kill:?}"))?);
        killed.extend(
            kill.map(|(program, _)| program).filter(|name| turnover.arming().has_fired(&format!("any.{name}"))),
        );
    }
    Ok((killed, trouble))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kill_is_in_one_cycle() {
        let of = |boss, agent| BTreeMap::from([("boss", boss), ("node-agent", agent)]);
        let passes = vec![(Turn::FirstOut, of(2, 1)), (Turn::SecondIn, of(5, 0))];
        let cycles = plan(&passes, Bound { every: 2, spread: 1 });
        let kills: Vec<_> =
            cycles.iter().map(|cycle| cycle.iter().map(|(_, kill)| *kill).collect::<Vec<_>>()).collect();
        assert_eq!(
            kills,
            [
                [Some(("boss", 1)), Some(("boss", 1))],
                [Some(("boss", 2)), Some(("boss", 2))],
                [Some(("node-agent", 1)), Some(("boss", 5))],
            ]
        );
    }
}
