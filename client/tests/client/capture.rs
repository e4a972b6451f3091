//! Saving a disk, also while boss goes away, and what ends an agent.

use std::process::Command;

use boss_api::agent::Task;
use imagezip::capture::CaptureOptions;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Node, assemble, content, noise, poll};

fn changed(base: &[u8]) -> Vec<u8> {
    let mut disk = base.to_vec();
    disk[1 << 20..5 << 20].copy_from_slice(&noise(77, 4 << 20));
    disk[7 << 20..(7 << 20) + 4096].copy_from_slice(&noise(78, 4096));
    disk[12 << 20..20 << 20].copy_from_slice(&noise(79, 8 << 20));
    disk[21 << 20..22 << 20].fill(0);
    disk
}

#[test]
fn boss_goes_away_in_the_middle_and_only_what_was_under_way_is_sent_again() {
    let base_content = content(1);
    let mut node = Node::new(&base_content);
    let base = node.base("base", &base_content);
    let disk = changed(&base_content);
    node.set_disk(&disk);
    node.boss.known().frames_allowed = 3;
    node.boot();
    node.wait_registered();
    let order = node.capture_order(Some(&base), 1);
    node.boss.order(node.capture_task("create-swapimage", &order));
    let begun = |known: &crate::fake_boss::Known| {
        (known.frames.len() >= 3 && !known.capture_progress.is_empty()).then(|| *known.capture_progress.last().unwrap())
    };
    let middle = node.boss.wait("three frames and a report of them", begun);
    assert!(middle.scanned_bytes > 0 && middle.sent_bytes < middle.changed_bytes, "{middle:?}");

    node.boss.kill();
    poll("the program to notice that boss is away", || node.log().contains("send a frame: trying again").then_some(()));
    node.boss.known().frames_allowed = usize::MAX;
    node.boss.start_again();

    let contents = node.boss.wait("the end of the capture", |known| {
        assert!(known.capture_failures.is_empty(), "{:?}", known.capture_failures);
        known.finished.first().map(|(.., contents)| contents.clone())
    });
    // One attempt, one scan. What was on its way when boss was killed may be sent again, no more than that.
    let known = node.boss.known();
    assert_eq!(known.begun, [(order.capture, 1)]);
    assert!(known.frame_puts <= known.frames.len() + 4, "{} for {} frames", known.frame_puts, known.frames.len());
    let last = *known.capture_progress.last().unwrap();
    assert_eq!(last.scanned_bytes, last.total_bytes, "the last numbers arrive before the end");
    assert!(last.changed_bytes >= 12 << 20 && last.changed_bytes < 14 << 20, "{last:?}");
    assert!(known.capture_progress.is_sorted_by_key(|progress| progress.sent_bytes));
    drop(known);
    let image = assemble(&node.boss, &contents);
    assert!(image.len() < 14 << 20, "only what differs is in the image, not {} bytes", image.len());
    assert_eq!(node.disk(), disk, "a capture reads");
}

#[test]
fn a_stale_answer_ends_agent_and_program() {
    let base_content = content(2);
    let mut node = Node::new(&base_content);
    node.boss.known().frames_allowed = 1;
    node.boot();
    node.wait_registered();
    let order = node.capture_order(None, 1);
    node.boss.order(node.capture_task("create-swapimage", &order));
    node.boss.wait("a frame", |known| (!known.frames.is_empty()).then_some(()));
    assert_eq!(running(&order.capture.to_string()), 1);

    node.boss.known().stale = true;
    assert!(node.wait_ended().success());
    assert_eq!(running(&order.capture.to_string()), 0, "the program ends before its agent does");
    let known = node.boss.known();
    assert!(known.capture_failures.is_empty(), "a boot that is over reports nothing");
    assert!(known.finished.is_empty());
}

#[test]
fn an_attempt_that_is_over_ends_its_program_and_not_the_agent() {
    let mut node = Node::new(&content(6));
    node.boss.known().frames_allowed = 1;
    node.boot();
    node.wait_registered();
    let mut order = node.capture_order(None, 1);
    node.boss.order(node.capture_task("create-swapimage", &order));
    node.boss.wait("a frame", |known| (!known.frames.is_empty()).then_some(()));
    node.boss.known().over.insert((order.capture, 1));
    order.attempt = 2;
    node.boss.order(node.capture_task("create-swapimage", &order));
    node.boss.wait("the second attempt", |known| known.begun.contains(&(order.capture, 2)).then_some(()));
    assert_eq!(running(&order.capture.to_string()), 1, "the first attempt ended before the second began");
    node.boss.known().frames_allowed = usize::MAX;
    let attempt = node.boss.wait("the end", |known| known.finished.first().map(|(_, attempt, _)| *attempt));
    assert_eq!(attempt, 2);
    let known = node.boss.known();
    assert_eq!(known.begun, [(order.capture, 1), (order.capture, 2)]);
    assert_eq!(known.frame_puts, known.frames.len(), "what the first attempt had sent is not sent again");
    assert!(known.capture_failures.is_empty());
}

#[test]
fn a_stale_registration_ends_the_agent() {
    let mut node = Node::new(&content(3));
    node.boss.known().stale = true;
    node.boot();
    assert!(node.wait_ended().success());
}

#[test]
fn an_agent_waits_for_boss_and_reads_its_parameters_once() {
    let mut node = Node::new(&content(3));
    node.boss.kill();
    node.boot();
    poll("the agent to notice that boss is away", || node.log().contains("register: trying again").then_some(()));
    assert!(!node.path("boot.json").exists(), "the token does not stay in a file");
    node.boss.start_again();
    node.wait_registered();
    let known = node.boss.known();
    let found = &known.registered[0].disks[0];
    assert_eq!((found.serial.as_str(), found.bytes.get()), (crate::fixture::SERIAL, 24 << 20));
    assert!(!node.log().contains(&"00".repeat(32)), "the boot token is not in the log");
    drop(known);
    node.boss.order(Task::PowerOff);
    assert!(node.wait_ended().success());
}

#[test]
fn a_killed_agent_takes_its_program_along() {
    let mut node = Node::new(&content(4));
    node.boss.known().frames_allowed = 1;
    node.boot();
    node.wait_registered();
    let order = node.capture_order(None, 1);
    node.boss.order(node.capture_task("create-swapimage", &order));
    node.boss.wait("a frame", |known| (!known.frames.is_empty()).then_some(()));
    kill_process(Pid::from_raw(node.agent_pid()).unwrap(), Signal::KILL).unwrap();
    assert!(!node.wait_ended().success());
    poll("the program to end", || (running(&order.capture.to_string()) == 0).then_some(()));
}

#[test]
fn an_agent_that_is_asked_to_end_stops_its_program_and_reports_nothing() {
    let mut node = Node::new(&content(4));
    node.boss.known().frames_allowed = 1;
    node.boot();
    node.wait_registered();
    let order = node.capture_order(None, 1);
    node.boss.order(node.capture_task("create-swapimage", &order));
    node.boss.wait("a frame", |known| (!known.frames.is_empty()).then_some(()));
    kill_process(Pid::from_raw(node.agent_pid()).unwrap(), Signal::TERM).unwrap();
    assert!(node.wait_ended().success());
    assert_eq!(running(&order.capture.to_string()), 0);
    assert!(node.boss.known().capture_failures.is_empty());
}

#[test]
fn a_disk_is_saved_by_hand_without_boss() {
    let base_content = content(5);
    let node = Node::new(&base_content);
    let base = node.base("base", &base_content);
    let disk = changed(&base_content);
    node.set_disk(&disk);
    let out = node.path("delta.zdi");
    let run = |root: &str| {
        Command::new(env!("CARGO_BIN_EXE_create-swapimage"))
            .args(["--disk", node.path("sda.img").to_str().unwrap()])
            .args(["--base", base.sig_path.to_str().unwrap(), "--base-root", root])
            .args(["--level", &CaptureOptions::DEFAULT_LEVEL.to_string(), "--out", out.to_str().unwrap()])
            .output()
            .unwrap()
    };
    let foreign = run(&"0".repeat(64));
    assert_eq!(foreign.status.code(), Some(7), "{foreign:?}");
    assert!(!out.exists());
    let good = run(&base.root.to_string());
    assert!(good.status.success(), "{good:?}");
    let container = sigs::zdi::Container::open(sigs::FileSource::open(&out).unwrap()).unwrap();
    assert_eq!(container.manifest().base_roots, [base.root]);
    let report: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!(report["target_root"], container.manifest().target_root.to_string());
}

/// Counts the programs that save for a capture.
fn running(capture: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains("create-swapimage") && line.contains(capture)).count()
}
