//! The program that the site runs at swap-out: how its end is understood, what it is given, when it is run again.

use std::fs;

use boss_api::agent::{Failure, FailureClass};
use sigs::Digest;

use crate::fixture::{Node, content, script};

fn failure(node: &Node, program: &str) -> Failure {
    let order = node.capture_order(None, 1);
    node.boss.order(node.capture_task(program, &order));
    let found = |known: &crate::fake_boss::Known| {
        let mut failures = known.capture_failures.iter();
        failures.find(|(capture, ..)| *capture == order.capture).map(|(.., failure)| failure.clone())
    };
    node.boss.wait("the capture to fail", found)
}

#[test]
fn the_end_of_the_program_says_whether_to_try_again() {
    let mut node = Node::new(&content(30));
    node.boot();
    node.wait_registered();
    let table = [
        ("exit 7", FailureClass::Corruption),
        ("exit 8", FailureClass::Transient),
        ("exit 9", FailureClass::Transient),
        ("exit 10", FailureClass::Transient),
        ("kill -9 $$", FailureClass::Transient),
        ("exit 1", FailureClass::Machine),
        ("exit 2", FailureClass::Machine),
    ];
    for (index, (end, class)) in table.iter().enumerate() {
        let program = script(&node.path(&format!("end-{index}")), &format!("echo the last words >&2\n{end}"));
        let failure = failure(&node, &program);
        assert_eq!(failure.class, *class, "{end}: {}", failure.reason);
        assert!(failure.reason.contains("the last words"), "{}", failure.reason);
    }
    for (program, because) in [("/no/such/program", "/no/such/program"), ("../x", "neither")] {
        let failure = failure(&node, program);
        assert_eq!(failure.class, FailureClass::Machine);
        assert!(failure.reason.contains(because), "{}", failure.reason);
    }
}

#[test]
fn the_secret_is_only_in_a_file_that_nobody_else_reads() {
    let mut node = Node::new(&content(31));
    node.boot();
    node.wait_registered();
    let seen = node.path("seen");
    let body = format!(
        "S={}\ntr '\\0' '\\n' < /proc/$$/environ > $S.env\ntr '\\0' '\\n' < /proc/$$/cmdline > $S.arguments\n\
         cat \"$EBB_TOKEN_FILE\" > $S.secret\nstat -c %a \"$EBB_TOKEN_FILE\" > $S.mode\nexit 1",
        seen.display()
    );
    let program = script(&node.path("spy"), &body);
    failure(&node, &program);
    let read = |what: &str| fs::read_to_string(node.path(&format!("seen.{what}"))).unwrap();
    let secret = read("secret");
    let hash = node.boss.known().registered[0].secret_hash;
    assert_eq!(Digest::of(&hex::decode(secret.trim()).unwrap()), hash, "it is the agent's own");
    assert_eq!(read("mode").trim(), "600");
    for place in [read("env"), read("arguments"), node.log()] {
        assert!(!place.contains(secret.trim()), "{place}");
    }
    for argument in ["--boss-url", "--capture", "--attempt", "--disk", "--serial", "--bytes", "--level"] {
        assert!(read("arguments").contains(argument), "{argument}");
    }
}

#[test]
fn an_attempt_is_begun_once_and_a_new_one_again() {
    let mut node = Node::new(&content(32));
    node.boot();
    node.wait_registered();
    let runs = node.path("runs");
    let program = script(&node.path("count"), &format!("echo run >> {}\nexit 8", runs.display()));
    let count = || fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let mut order = node.capture_order(None, 1);
    node.boss.order(node.capture_task(&program, &order));
    node.boss.wait("the first attempt to fail", |known| (known.capture_failures.len() == 1).then_some(()));
    // boss repeats the order as if it had not heard.
    let asked = node.boss.known().polls;
    node.boss.wait("boss to be asked again", |known| (known.polls > asked + 2).then_some(()));
    assert_eq!(count(), 1);
    order.attempt = 2;
    node.boss.order(node.capture_task(&program, &order));
    node.boss.wait("the second attempt to fail", |known| (known.capture_failures.len() == 2).then_some(()));
    assert_eq!(count(), 2);
    assert_eq!(node.boss.known().capture_failures[1].1, 2);
}

#[test]
fn another_disk_than_ordered_is_not_read() {
    let mut node = Node::new(&content(33));
    fs::write(node.path("sda.img.serial"), "ANOTHER").unwrap();
    node.boot();
    node.wait_registered();
    let failure = failure(&node, "create-swapimage");
    assert_eq!(failure.class, FailureClass::Machine);
    assert!(failure.reason.contains("ANOTHER"), "{}", failure.reason);
    assert!(node.boss.known().frames.is_empty());
}

#[test]
fn what_cannot_be_logged_is_no_reason_to_fail() {
    let mut node = Node::new(&content(35));
    node.boot();
    node.wait_registered();
    let body = format!("EBB_LOG=debug exec {} \"$@\" 2>/dev/full", env!("CARGO_BIN_EXE_create-swapimage"));
    let program = script(&node.path("silent"), &body);
    let order = node.capture_order(None, 1);
    node.boss.order(node.capture_task(&program, &order));
    let ended = node.boss.wait("the capture to end", |known| {
        let failed = known.capture_failures.first().map(|(.., failure)| Err(failure.reason.clone()));
        failed.or_else(|| (!known.finished.is_empty()).then_some(Ok(())))
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn a_full_work_folder_is_said_and_passes() {
    let base_content = content(34);
    let mut node = Node::new(&base_content);
    let base = node.base("base", &base_content);
    node.boot();
    node.wait_registered();
    let boots = fs::read_dir(node.path("work")).unwrap().map(|entry| entry.unwrap().path());
    let [folder] = boots.collect::<Vec<_>>().try_into().unwrap();
    // What is written through this link finds no room.
    let fill = |object: &boss_api::agent::ObjectRef| {
        std::os::unix::fs::symlink("/dev/full", folder.join(object.digest.to_string())).unwrap();
    };
    let is_said = |failure: &Failure| {
        assert_eq!(failure.class, FailureClass::Transient, "{}", failure.reason);
        let expected = format!("{} is full; make room", folder.display());
        assert!(failure.reason.contains(&expected), "{}", failure.reason);
    };

    fill(&base.sig);
    let program = script(&node.path("saves"), "echo the last words >&2\nexit 8");
    let mut order = node.capture_order(Some(&base), 1);
    node.boss.order(node.capture_task(&program, &order));
    let failure = |count: usize| {
        let found = |known: &crate::fake_boss::Known| known.capture_failures.get(count - 1).cloned();
        node.boss.wait("the capture to fail", found).2
    };
    is_said(&failure(1));
    // The link went with what was not fetched, which is as if room was made.
    order.attempt = 2;
    node.boss.order(node.capture_task(&program, &order));
    let second = failure(2);
    assert!(second.reason.contains("the last words"), "{}", second.reason);

    fill(&base.zdi);
    let write = node.write_order(&base);
    node.order_write(&write);
    let failure = node.boss.outcome(write.write).unwrap_err();
    is_said(&failure);
    assert!(failure.reason.contains("untouched"), "{}", failure.reason);
    assert_eq!(node.disk(), base_content);
}
