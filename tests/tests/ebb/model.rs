//! The protocol explored in small bounds, and every planted defect found. The whole bounds: `make torture`.

use std::time::Duration;

use anyhow::ensure;
use ebb_tests::model::account::Account;
use ebb_tests::model::planted::Planted;
use ebb_tests::model::scenes::Scene;

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn every_property_holds_in_every_state_of_the_small_scenes() -> anyhow::Result<()> {
    let account = Account::take(&Scene::small(), &[], LIMIT);
    ensure!(account.is_well(), "{}", account.failures.join("\n"));
    // Something was explored.
    ensure!(account.states > 50_000, "{} states", account.states);
    Ok(())
}

#[test]
fn every_planted_defect_is_found() -> anyhow::Result<()> {
    let account = Account::take(&[], Planted::ALL, LIMIT);
    ensure!(account.is_well(), "{}", account.failures.join("\n"));
    Ok(())
}
