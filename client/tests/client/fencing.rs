//! A boss that is over is not believed: not its orders, not its permits, and not after the agent was started again.

use boss_api::agent::{FailureClass, WriteOrder};

use crate::fake_boss::EPOCH;
use crate::fixture::{DISK_BYTES, Node, content, noise, seal_permit};

/// Waits until boss was asked some more, so that whatever the agent makes of the answers it has made by then.
fn asked_again(node: &Node) {
    let before = node.boss.known().polls;
    node.boss.wait("the agent to ask on", |known| (known.polls >= before + 3).then_some(()));
}

/// As [`asked_again`], while there is no order.
fn asked_again_idle(node: &Node) {
    node.boss.wait("the agent to ask", |known| (known.idle_polls > 0).then_some(()));
}

#[test]
fn orders_of_a_boss_that_is_over_are_not_carried_out() {
    let before = noise(30, DISK_BYTES);
    let mut node = Node::new(&before);
    let base = node.base("base", &content(30));
    node.boss.known().term = 5;
    node.boot();
    node.wait_registered();
    asked_again_idle(&node);
    node.boss.known().term = 4;
    let order = node.write_order(&base);
    // Its permit is good in every respect; only who hands it out is over.
    let order = WriteOrder { permit: permit_of_term(&node, &order, 5), ..order };
    node.order_write(&order);
    asked_again(&node);
    assert!(node.boss.known().write_failures.is_empty());
    assert_eq!(node.disk(), before, "nothing was done");
    assert!(node.log().contains("it rules in term 4, and a boss was heard that rules in term 5"), "{}", node.log());
    node.boss.known().term = 5;
    assert!(node.boss.outcome(order.write).is_ok(), "the one that rules is believed");
    assert_eq!(node.disk(), content(30));
}

fn permit_of_term(node: &Node, order: &WriteOrder, term: u64) -> sigs::seal::Sealed {
    let mut permit = node.permit(order.write);
    permit.term = term;
    seal_permit(&permit)
}

#[test]
fn a_permit_of_an_older_term_is_void_and_one_sealed_anew_is_not() {
    let before = noise(31, DISK_BYTES);
    let mut node = Node::new(&before);
    let base = node.base("base", &content(31));
    node.boss.known().term = 5;
    node.boot();
    node.wait_registered();
    let order = node.write_order(&base);
    let old = WriteOrder { permit: permit_of_term(&node, &order, 4), ..order.clone() };
    node.order_write(&old);
    let refused = node.boss.outcome(old.write).unwrap_err();
    assert!(refused.reason.contains("of term 4, and a boss rules in term 5"), "{}", refused.reason);
    assert_eq!(refused.class, FailureClass::Transient, "the next attempt brings the new one");
    assert_eq!(node.disk(), before, "nothing was done");
    let renewed = WriteOrder { attempt: 2, permit: permit_of_term(&node, &order, 5), ..order };
    node.boss.known().write_failures.clear();
    node.order_write(&renewed);
    assert!(node.boss.outcome(renewed.write).is_ok());
    assert_eq!(node.disk(), content(31));
}

#[test]
fn an_agent_that_is_started_again_remembers_whom_it_heard() {
    let mut node = Node::new(&noise(32, DISK_BYTES));
    node.boss.known().term = 5;
    node.boot();
    node.wait_registered();
    asked_again_idle(&node);
    node.end_agent();

    // An older boss takes its call, and is not believed.
    node.boss.known().term = 4;
    let registered = node.boss.known().registered.len();
    let polls = node.boss.known().idle_polls;
    node.boot();
    node.boss.wait("the agent to call again", |known| (known.registered.len() >= registered + 2).then_some(()));
    assert_eq!(node.boss.known().idle_polls, polls, "it is not asked for orders");
    node.end_agent();

    // One in the same term that counts the machine's epochs from an older state of things is refused for good.
    node.boss.known().term = 5;
    node.boss.known().epoch = EPOCH - 1;
    node.boot();
    assert_eq!(node.wait_ended().code(), Some(6));
    assert!(node.log().contains("it was in epoch 7 before"), "{}", node.log());

    // One that came after both decides anew.
    node.boss.known().term = 6;
    let polls = node.boss.known().idle_polls;
    node.boot();
    node.boss.wait("the agent to ask", |known| (known.idle_polls > polls).then_some(()));
}
