//! Disks on which the kernel was stopped.

use std::fs;

use super::super::tools::{reason, run, survey_file};
use super::crash::{Disk, Flush};
use super::judge::{Measure, Sizes, judge, log, share};

const MIB: u64 = 1 << 20;

/// Crashes a file system a few times and has every crash judged; returns how many fast commits there were.
fn crashes(options: &[&str], mount: &str, block: u64, measure: Measure) -> Option<u32> {
    let cluster = if options.contains(&"bigalloc") { 4 } else { 1 };
    let sizes = Sizes { block, cluster };
    let mut disk = Disk::new(options, 32 * MIB);
    let (mut transactions, mut blocks, mut fast_commits) = (0, 0, 0);
    for (round, edits) in [60, 110].into_iter().enumerate() {
        let flush = if round == 0 { Flush::Log } else { Flush::Nothing };
        let what = format!("{options:?} {mount} round {round}");
        disk.crash(mount, edits, flush)?;
        let found = judge(&disk.path(), sizes, measure, round, &what)?;
        fast_commits += found.fast_commits;
        transactions += found.transactions;
        blocks += found.blocks;
        assert!(share(&disk.path()) < 0.7, "{what}: {}", share(&disk.path()));
    }
    assert!(transactions > 1 && blocks > 10, "{options:?}: {transactions} {blocks}");
    Some(fast_commits)
}

const SMALL: &str = "size=4";

#[test]
fn ext4_as_mke2fs_makes_it() {
    crashes(&["-t", "ext4", "-b", "4096", "-J", SMALL], "", 4096, Measure::Exact);
}

#[test]
fn ext4_with_blocks_of_1_kib() {
    crashes(&["-t", "ext4", "-b", "1024", "-J", "size=2"], "", 1024, Measure::Exact);
}

#[test]
fn ext4_without_checksums() {
    crashes(&["-t", "ext4", "-b", "4096", "-O", "^metadata_csum", "-J", SMALL], "", 4096, Measure::Exact);
}

#[test]
fn ext4_without_64bit_and_with_an_orphan_file() {
    crashes(&["-t", "ext4", "-b", "4096", "-O", "^64bit,orphan_file", "-J", SMALL], "", 4096, Measure::Exact);
}

#[test]
fn ext4_with_bigalloc() {
    crashes(&["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384", "-J", SMALL], "", 4096, Measure::Late);
}

#[test]
fn ext3_with_a_journal_of_pointers() {
    crashes(&["-t", "ext3", "-b", "1024", "-J", "size=2"], "", 1024, Measure::Exact);
}

#[test]
fn data_in_the_journal() {
    crashes(&["-t", "ext4", "-b", "1024", "-J", "size=4"], "data=journal", 1024, Measure::Late);
    crashes(&["-t", "ext3", "-b", "1024", "-J", "size=4"], "data=journal", 1024, Measure::Late);
}

#[test]
fn checksums_of_whole_transactions() {
    let options = ["-t", "ext4", "-b", "4096", "-O", "^metadata_csum", "-J", SMALL];
    crashes(&options, "journal_checksum", 4096, Measure::Exact);
}

#[test]
fn commits_that_do_not_wait() {
    let options = ["-t", "ext4", "-b", "4096", "-J", SMALL];
    crashes(&options, "data=writeback,journal_async_commit", 4096, Measure::Exact);
}

#[test]
fn fast_commits() {
    let options = ["-t", "ext4", "-b", "4096", "-O", "fast_commit", "-J", "size=6"];
    let Some(found) = crashes(&options, "", 4096, Measure::Takes) else { return };
    assert!(found > 0, "the test needs fast commits");
}

#[test]
fn a_journal_larger_than_a_group() {
    crashes(&["-t", "ext4", "-b", "1024", "-g", "1024", "-J", "size=3"], "", 1024, Measure::Exact);
}

#[test]
fn in_use_with_nothing_in_the_log() {
    let mut disk = Disk::new(&["-t", "ext4", "-b", "4096", "-J", SMALL], 32 * MIB);
    if disk.crash("", 0, Flush::Nothing).is_none() {
        return;
    }
    let sizes = Sizes { block: 4096, cluster: 1 };
    let Some(found) = judge(&disk.path(), sizes, Measure::Exact, 0, "empty") else { return };
    assert_eq!((found.transactions, found.blocks), (0, 0));
}

#[test]
fn errors_and_a_log_nobody_would_replay_are_not_believed() {
    let mut disk = Disk::new(&["-t", "ext4", "-b", "4096", "-J", SMALL], 32 * MIB);
    if disk.crash("", 40, Flush::Log).is_none() {
        return;
    }
    assert!(log(&survey_file(&disk.path())).transactions > 0);
    let text = disk.path().display().to_string();
    let script = disk.path().with_extension("script");
    for (command, says) in [
        ("feature -needs_recovery\n", "marked as unmounted, but its journal is not empty"),
        ("feature needs_recovery\nset_super_value state 3\n", "not marked clean"),
        ("set_super_value state 1\nset_super_value error_count 2\n", "recorded 2 errors"),
    ] {
        fs::write(&script, command).unwrap();
        run("debugfs", &["-w", "-f", &script.display().to_string(), &text]);
        assert!(reason(&survey_file(&disk.path())).contains(says), "{command}");
    }
}
