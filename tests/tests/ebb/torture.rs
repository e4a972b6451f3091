//! A bounded part of the torture run; `make torture` does all of it.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use ebb_tests::torture::report::Row;
use ebb_tests::torture::sigkill::Bound;
use ebb_tests::torture::{arming, counted, failpoints, nospace, order, planted};
use ebb_tests::{cleanup, suite, tools};

use crate::scene::alone;

/// Every so many of the cases: no multiple of the number of faults, so that each is among them.
const EVERY: usize = 32;

fn judged(row: &Row) -> anyhow::Result<()> {
    ensure!(row.ok(), "{} of {} found: {:#?}", row.found, row.expected, row.failures);
    Ok(())
}

/// A folder for a test, removed when it is dropped and when a signal ends us.
fn folder() -> anyhow::Result<(tempfile::TempDir, cleanup::Cleanup)> {
    let folder = tempfile::Builder::new().prefix("ebb-torture-").tempdir()?;
    let path = folder.path().to_path_buf();
    Ok((folder, cleanup::Cleanup::new(move || drop(std::fs::remove_dir_all(path)))))
}

#[test]
fn whatever_goes_wrong_at_a_named_place_every_disk_is_right_in_the_end() -> anyhow::Result<()> {
    let _alone = alone();
    let (folder, _removed) = folder()?;
    let cases: Vec<_> = failpoints::all().into_iter().step_by(EVERY).collect();
    judged(&failpoints::run(folder.path(), &cases, 2)?)
}

#[test]
fn boss_and_agents_are_killed_at_any_place_and_every_disk_is_right_in_the_end() -> anyhow::Result<()> {
    let _alone = alone();
    let (folder, _removed) = folder()?;
    judged(&counted::run(folder.path(), Bound { every: 25, spread: 25 }, Some(2), 1)?)
}

#[test]
fn every_object_is_flushed_before_it_has_its_name_and_its_folder_after() -> anyhow::Result<()> {
    let _alone = alone();
    let (folder, _removed) = folder()?;
    judged(&order::run(folder.path())?)
}

#[test]
fn a_full_state_directory_holds_machines_and_harms_nothing() -> anyhow::Result<()> {
    let _alone = alone();
    let (folder, _removed) = folder()?;
    match nospace::run(folder.path(), 2)? {
        Some(row) => judged(&row),
        None => suite::skip("a_full_state_directory_holds_machines_and_harms_nothing", "nothing may be mounted here"),
    }
}

#[test]
fn nothing_of_a_fail_point_is_in_a_release_build() -> anyhow::Result<()> {
    let (folder, _removed) = folder()?;
    let program = "fn main() { if let Err(error) = failpoints::hit(\"some.named.place\") { panic!(\"{error}\") } }";
    std::fs::write(folder.path().join("main.rs"), program)?;
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let lib = planted::workspace()?.join("failpoints/src/lib.rs");
    for (asserts, wanted) in [("no", false), ("yes", true)] {
        let compile = |arguments: &[&str]| {
            let mut command = Command::new(&rustc);
            command.args(["--edition", "2024", "-O", "-C"]).arg(format!("debug-assertions={asserts}"));
            tools::run(command.args(arguments).current_dir(folder.path()))
        };
        compile(&["--crate-type", "rlib", "--crate-name", "failpoints", &lib.to_string_lossy()])?;
        compile(&["main.rs", "--extern", "failpoints=libfailpoints.rlib"])?;
        let built = std::fs::read(folder.path().join("main"))?;
        for word in ["some.named.place", arming::VARIABLE] {
            let there = built.windows(word.len()).any(|bytes| bytes == word.as_bytes());
            ensure!(there == wanted, "{word} with debug assertions {asserts}: {there}");
        }
    }
    Ok(())
}

#[test]
fn every_planted_bug_still_fits_the_code() -> anyhow::Result<()> {
    let root = planted::workspace()?;
    let bugs = planted::bugs(&root)?;
    ensure!(bugs.len() >= 8, "only {} bugs are planted", bugs.len());
    let refused: Vec<_> = bugs.iter().map(|bug| planted::refuses(bug, &root)).collect::<anyhow::Result<Vec<_>>>()?;
    let refused: Vec<_> = refused.into_iter().flatten().collect();
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(())
}
