//! Writing a disk: what was saved comes back identical, on whatever was there before.

use boss_api::agent::{FailureClass, FreeTreatment, WriteDone, WriteOrder};
use boss_api::ids::WriteId;
use rustix::fs::{FlockOperation, flock};

use crate::fixture::{DISK_BYTES, Node, content, fresh, name, noise, seal_permit};

#[test]
fn what_was_saved_comes_back_identical() {
    let base_content = content(10);
    let mut node = Node::new(&base_content);
    let base = node.base("base", &base_content);
    let mut saved = base_content.clone();
    saved[..2 << 20].copy_from_slice(&noise(5, 2 << 20));
    saved[8 << 20..10 << 20].copy_from_slice(&noise(6, 2 << 20));
    saved[15 << 20..17 << 20].fill(0);
    node.set_disk(&saved);
    node.boot();
    node.wait_registered();
    let delta = node.capture_delta(&base);

    // The machine goes to somebody else, then the base comes back, then what was saved.
    node.set_disk(&noise(99, DISK_BYTES));
    let load = node.write_order(&base);
    node.order_write(&load);
    assert_eq!(node.boss.outcome(load.write), Ok(WriteDone { root: Some(base.root) }));
    assert_eq!(node.disk(), base_content);

    let restore = WriteOrder { delta: Some(delta.order()), target_root: Some(delta.root), ..node.write_order(&base) };
    node.order_write(&restore);
    assert_eq!(node.boss.outcome(restore.write), Ok(WriteDone { root: Some(delta.root) }));
    assert_eq!(node.disk(), saved);
    assert_ne!(delta.root, base.root);

    // Without an image: zeros.
    let write = WriteId::new(fresh());
    let zero = WriteOrder {
        write,
        attempt: 1,
        permit: seal_permit(&node.permit(write)),
        disk: name("sda"),
        image: None,
        delta: None,
        free: FreeTreatment::Zero,
        target_root: None,
    };
    node.order_write(&zero);
    assert_eq!(node.boss.outcome(write), Ok(WriteDone { root: None }));
    assert!(node.disk().iter().all(|byte| *byte == 0));
    assert_eq!(node.disk().len(), DISK_BYTES);
    let known = node.boss.known();
    assert!(known.write_failures.is_empty());
    assert_eq!(known.bad_bearers, 0);
}

#[test]
fn boss_goes_away_while_a_disk_is_written_and_learns_the_end() {
    let base_content = content(11);
    let mut node = Node::new(&noise(98, DISK_BYTES));
    let base = node.base("base", &base_content);
    node.boot();
    node.wait_registered();
    let order = node.write_order(&base);
    node.order_write(&order);
    crate::fixture::poll("the write to begin", || node.log().contains("begin").then_some(()));
    node.boss.kill();
    crate::fixture::poll("the agent to notice that boss is away", || {
        let log = node.log();
        (log.contains("trying again") || log.contains("ask boss what to do")).then_some(())
    });
    node.boss.start_again();
    assert_eq!(node.boss.outcome(order.write), Ok(WriteDone { root: Some(base.root) }));
    assert_eq!(node.disk(), base_content);
}

#[test]
fn a_disk_that_somebody_uses_is_left_alone() {
    let content_before = noise(97, DISK_BYTES);
    let mut node = Node::new(&content_before);
    let base = node.base("base", &content(12));
    let user = std::fs::File::open(node.path("sda.img")).unwrap();
    flock(&user, FlockOperation::LockExclusive).unwrap();
    node.boot();
    node.wait_registered();
    let order = node.write_order(&base);
    node.order_write(&order);
    let failure = node.boss.outcome(order.write).unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient, "{}", failure.reason);
    assert_eq!(node.disk(), content_before);

    let capture = node.capture_order(None, 1);
    node.boss.order(node.capture_task("create-swapimage", &capture));
    let failure = node.boss.wait("the capture to fail", |known| known.capture_failures.first().cloned());
    assert_eq!(failure.2.class, FailureClass::Transient, "{}", failure.2.reason);
}
