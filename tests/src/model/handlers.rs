//! How boss takes what agents say. Every handler reads and writes in one transaction, but for the end of an upload.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::node::NodeStep;
use boss_model::write::{WriteEvent, WriteState};

use super::chores::LOADING;
use super::network::{Message, Order, Ordered, Told};
use super::planted::Planted;
use super::protocol::Protocol;
use super::rules;
use super::saving::Upload;
use super::site::{BootState, Boss, CaptureRow, Db, Place, Site, WriteRow, Wrong};
use super::tasks::hold;

impl Protocol {
    /// Delivers a message to a boss. `None`: it is refused, or changes nothing.
    pub(super) fn deliver(&self, site: &mut Site, boss: &mut Boss, message: Message) -> Option<()> {
        if let Told::Finish { epoch, attempt, root } = message.what {
            let (node, boot) = (usize::from(message.node), message.boot);
            let mut db = site.db;
            let row = self.fenced(&mut db, node, boot, epoch, attempt)?;
            if boss.upload.is_some() || row.step != CaptureStep::Frozen {
                return None;
            }
            boss.upload = Some(Upload { node, boot, epoch, attempt, root, half: false });
            return Some(());
        }
        let before = site.db;
        self.transact(site, boss.term, |db| self.handle(db, message))?;
        let mut twice = site.db;
        if self.handle(&mut twice, message).is_some() && twice != site.db {
            site.wrong.get_or_insert(Wrong::Repeated);
        }
        (site.db != before || site.wrong.is_some()).then_some(())
    }

    fn handle(&self, db: &mut Db, message: Message) -> Option<()> {
        let (node, boot) = (usize::from(message.node), message.boot);
        match message.what {
            Told::Register => {
                let row = &mut db.nodes[node];
                let alive = row.boot.as_mut().filter(|alive| alive.id == boot && alive.epoch == row.epoch)?;
                match alive.state {
                    BootState::Booting => alive.state = BootState::Registered,
                    BootState::Registered => {}
                    BootState::Ended => return None,
                }
            }
            Told::Begin { epoch, attempt } => {
                let row = self.fenced(db, node, boot, epoch, attempt)?;
                if row.step == CaptureStep::Planned {
                    rules::capture(row, CaptureEvent::Begin)?;
                }
            }
            Told::Finish { .. } => {}
            Told::CaptureFailed { epoch, attempt } => {
                let counted_twice = self.has(Planted::FailureCountedTwice);
                let row = self.fenced(db, node, boot, epoch, attempt)?;
                match row.step {
                    CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming => {
                        rules::capture(row, rules::fail(FailureClass::Transient))?;
                    }
                    CaptureStep::Failed if counted_twice => row.attempt += 1,
                    CaptureStep::Failed => {}
                    CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired => return None,
                }
            }
            Told::Done { write, root } => {
                let row = self.fenced_write(db, node, boot, write)?;
                if row.state == WriteState::Done {
                    return Some(());
                }
                if root == row.target {
                    row.state = row.state.apply(WriteEvent::Done).ok()?;
                } else {
                    row.state = row.state.apply(WriteEvent::Fail).ok()?;
                    row.class = Some(FailureClass::Corruption);
                }
            }
            Told::WriteFailed { write, passes } => {
                let row = self.fenced_write(db, node, boot, write)?;
                if row.state == WriteState::Failed {
                    return Some(());
                }
                row.state = row.state.apply(WriteEvent::Fail).ok()?;
                row.class = Some(if passes { FailureClass::Transient } else { FailureClass::Corruption });
            }
        }
        Some(())
    }

    /// Returns whether the agent of this boot may speak for a machine now.
    fn is_believed(&self, db: &Db, node: usize, boot: u8) -> bool {
        let row = &db.nodes[node];
        let now = row.boot.filter(|now| now.state == BootState::Registered && now.epoch == row.epoch);
        now.is_some_and(|now| now.id == boot) || self.has(Planted::OldBootBelieved)
    }

    /// Returns the capture if this agent makes this attempt of it now.
    pub(super) fn fenced<'a>(
        &self,
        db: &'a mut Db,
        node: usize,
        boot: u8,
        epoch: u8,
        attempt: u8,
    ) -> Option<&'a mut CaptureRow> {
        let believed = self.is_believed(db, node, boot);
        let row = &mut db.nodes[node];
        let capturing = row.place == Place::At(NodeStep::Capturing) && row.epoch == epoch;
        let row = row.capture_mut(epoch)?;
        let ours = row.attempt == attempt && row.boot == boot || self.has(Planted::OldBootBelieved);
        (believed && capturing && ours).then_some(row)
    }

    /// Returns the write if this agent makes it now.
    fn fenced_write<'a>(&self, db: &'a mut Db, node: usize, boot: u8, write: u8) -> Option<&'a mut WriteRow> {
        let believed = self.is_believed(db, node, boot);
        let epoch = db.nodes[node].epoch;
        let row = db.nodes[node].write.as_mut().filter(|row| row.id == write && row.epoch == epoch)?;
        let ours = row.boot == boot || self.has(Planted::OldBootBelieved);
        (believed && ours && row.state != WriteState::Void).then_some(row)
    }

    /// A second agent claims a boot with another secret: neither is believed any more.
    pub(super) fn claim(&self, site: &mut Site, term: u8, node: usize) -> Option<()> {
        self.transact(site, term, |db| {
            let row = &mut db.nodes[node];
            let boot =
                row.boot.as_mut().filter(|boot| boot.state == BootState::Registered && boot.epoch == row.epoch)?;
            boot.state = BootState::Ended;
            hold(db, node)
        })
    }

    /// Answers the poll of an agent with what is to be done.
    pub(super) fn answer(&self, site: &Site, node: usize) -> Option<Order> {
        let row = &site.db.nodes[node];
        let boot = row.boot.filter(|boot| boot.state == BootState::Registered && boot.epoch == row.epoch)?;
        let what = match row.place {
            Place::At(NodeStep::Capturing) => {
                let capture = row.capture().filter(|capture| {
                    capture.boot == boot.id && matches!(capture.step, CaptureStep::Planned | CaptureStep::Frozen)
                })?;
                Ordered::Capture { attempt: capture.attempt }
            }
            Place::At(step @ (NodeStep::Restoring | NodeStep::Sanitizing)) => {
                let purposes = if step == NodeStep::Sanitizing { &[WritePurpose::Sanitize][..] } else { &LOADING };
                let write = row.write_for(purposes).filter(|write| {
                    write.boot == boot.id && matches!(write.state, WriteState::Issued | WriteState::Running)
                })?;
                Ordered::Write { permit: write.permit, attempt: write.attempt, target: write.target }
            }
            Place::At(_) | Place::Held(_) => return None,
        };
        let (node, term) = (u8::try_from(node).ok()?, site.ruling.term);
        let order = Order { node, boot: boot.id, epoch: row.epoch, term, what };
        (!site.orders.contains(&order)).then_some(order)
    }
}
