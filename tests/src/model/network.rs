//! What agents and bosses send each other. Nothing is ever taken from the network: so any of it may arrive twice, late,
//! in another order, or, as nobody is made to take it, never.

use super::site::{Content, Permit, Site};

/// What an agent tells boss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Message {
    pub(super) node: u8,
    pub(super) boot: u8,
    pub(super) what: Told,
}

/// The requests of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Told {
    /// This boot has an agent.
    Register,
    /// The disk is frozen.
    Begin {
        /// Which capture: a machine has one in each epoch.
        epoch: u8,
        /// Which attempt.
        attempt: u8,
    },
    /// All was sent; this is the root.
    Finish {
        /// Which capture.
        epoch: u8,
        /// Which attempt.
        attempt: u8,
        /// What the agent read.
        root: Content,
    },
    /// The capture did not work, and that may pass.
    CaptureFailed {
        /// Which capture.
        epoch: u8,
        /// Which attempt.
        attempt: u8,
    },
    /// The disk was written, and reads back as this.
    Done {
        /// Which write.
        write: u8,
        /// What the agent read.
        root: Content,
    },
    /// The write did not work.
    WriteFailed {
        /// Which write.
        write: u8,
        /// Whether that may pass.
        passes: bool,
    },
}

/// What boss answers to the poll of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) node: u8,
    pub(super) boot: u8,
    pub(super) epoch: u8,
    /// The term of the boss that answers.
    pub(super) term: u8,
    pub(super) what: Ordered,
}

/// The work of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Ordered {
    /// Save the disk.
    Capture {
        /// Which attempt.
        attempt: u8,
    },
    /// Write the disk.
    Write {
        /// Under this permit.
        permit: Permit,
        /// Which attempt.
        attempt: u8,
        /// To hold this.
        target: Content,
    },
}

impl Site {
    pub(super) fn send(&mut self, message: Message) {
        if let Err(at) = self.messages.binary_search(&message) {
            self.messages.insert(at, message);
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        if let Err(at) = self.orders.binary_search(&order) {
            self.orders.insert(at, order);
        }
    }
}
