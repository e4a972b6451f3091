//! What happens on a machine: its agent at work, its own system, and its disk.

use super::network::{Message, Order, Ordered, Told};
use super::planted::Planted;
use super::protocol::Protocol;
use super::site::{Agent, Content, Machine, Place, Power, Scan, Site, Stage, Writing, Wrong};
use boss_model::capture::CaptureStep;
use boss_model::node::NodeStep;

impl Protocol {
    /// An agent takes an order. The permit of a write is checked against this boot.
    pub(super) fn take(&self, site: &mut Site, order: Order) -> Option<()> {
        let staged = site.machines[usize::from(order.node)].staged.filter(|_| self.has(Planted::CaptureMixesBoots));
        let agent = site.machines[usize::from(order.node)].agent_mut()?;
        let own = order.boot == agent.boot;
        let permitted = match order.what {
            Ordered::Capture { .. } => order.term,
            Ordered::Write { permit, .. } => permit.term,
        };
        let over = order.term < agent.heard || permitted < agent.heard.max(order.term);
        if over {
            return None;
        }
        agent.heard = agent.heard.max(order.term);
        match order.what {
            Ordered::Capture { attempt } => {
                let known = agent.scan.is_some_and(|scan| scan.epoch == order.epoch && scan.attempt >= attempt);
                if !own || known {
                    return None;
                }
                agent.scan = Some(Scan { epoch: order.epoch, attempt, first: staged, done: false });
                let what = Told::Begin { epoch: order.epoch, attempt };
                site.send(Message { node: order.node, boot: order.boot, what });
            }
            Ordered::Write { permit, attempt, target } => {
                // An order of another boot comes only from somebody who kept it; of this epoch nobody but boss has one.
                let kept = !own && order.epoch != agent.epoch;
                let refused = permit.epoch != agent.epoch && !self.has(Planted::PermitWithoutEpoch);
                let same = |writing: &Writing| writing.permit.write == permit.write;
                let known = agent.writes.iter().flatten().find(|writing| same(writing));
                let known = known.is_some_and(|known| known.attempt >= attempt || known.stage != Stage::Ended);
                if !(own || kept) || refused || known {
                    return None;
                }
                let at = agent.writes.iter().position(|slot| slot.as_ref().is_none_or(same))?;
                agent.writes[at] = Some(Writing { permit, attempt, target, stage: Stage::Fetching });
            }
        }
        Some(())
    }

    /// An agent reads half of the disk; with the second half it has the root.
    pub(super) fn read(&self, site: &mut Site, node: usize) -> Option<()> {
        let machine = &mut site.machines[node];
        let disk = machine.disk;
        let agent = machine.agent_mut()?;
        let boot = agent.boot;
        let scan = agent.scan.as_mut().filter(|scan| !scan.done)?;
        let Some(first) = scan.first else {
            scan.first = Some(disk);
            if self.has(Planted::CaptureMixesBoots) {
                machine.staged = Some(disk);
            }
            return Some(());
        };
        scan.done = true;
        let what = Told::Finish { epoch: scan.epoch, attempt: scan.attempt, root: first.joined(disk) };
        site.send(Message { node: u8::try_from(node).ok()?, boot, what });
        Some(())
    }

    /// An agent opens the disk for a write whose images it has and has checked; from here on the old content is gone.
    pub(super) fn open(&self, site: &mut Site, node: usize, slot: usize) -> Option<()> {
        let agent = *site.machines[node].agent()?;
        let writing = agent.writes[slot].filter(|writing| writing.stage == Stage::Fetching)?;
        // The disk is locked by whoever writes it.
        if agent.writes.iter().flatten().any(|writing| writing.stage == Stage::Open) {
            return None;
        }
        let whole = match writing.target {
            Content::Zeros | Content::Torn(_) => true,
            Content::Image => site.store.is_whole(Content::Image),
            Content::State { .. } => site.store.is_whole(writing.target) && site.store.is_whole(Content::Image),
        };
        if !whole {
            return end_write(site, node, slot, Told::WriteFailed { write: writing.permit.write, passes: false });
        }
        if !is_dispensable(site, node) {
            site.wrong.get_or_insert(Wrong::Lost);
        }
        let disk = &mut site.machines[node].disk;
        *disk = Content::Torn(disk.traces() | writing.target.traces());
        set_stage(&mut site.machines[node], slot, Stage::Open);
        Some(())
    }

    /// An agent writes the rest and reads all of it back; `right`: the medium kept what it was given.
    pub(super) fn close(&self, site: &mut Site, node: usize, slot: usize, right: bool) -> Option<()> {
        let writing = site.machines[node].agent()?.writes[slot].filter(|writing| writing.stage == Stage::Open)?;
        let write = writing.permit.write;
        if right {
            site.machines[node].disk = writing.target;
        }
        let told = if right || self.has(Planted::CheckedWithoutReading) {
            Told::Done { write, root: writing.target }
        } else {
            Told::WriteFailed { write, passes: false }
        };
        end_write(site, node, slot, told)
    }

    /// An agent gives up what it is at.
    pub(super) fn fail(&self, site: &mut Site, node: usize) -> Option<()> {
        let agent = *site.machines[node].agent()?;
        if let Some(scan) = agent.scan.filter(|scan| !scan.done) {
            let scan = Scan { done: true, ..scan };
            site.machines[node].agent_mut()?.scan = Some(scan);
            let what = Told::CaptureFailed { epoch: scan.epoch, attempt: scan.attempt };
            site.send(Message { node: u8::try_from(node).ok()?, boot: agent.boot, what });
            return Some(());
        }
        let slot = agent.writes.iter().position(|slot| slot.is_some_and(|writing| writing.stage != Stage::Ended))?;
        let write = agent.writes[slot]?.permit.write;
        end_write(site, node, slot, Told::WriteFailed { write, passes: true })
    }
}

/// An agent dies, and with it what it was at.
pub(super) fn die(machine: &mut Machine) -> Option<()> {
    machine.agent()?;
    machine.power = Power::Mfs(None);
    Some(())
}

/// A machine that is being saved loses its power and comes up with its own system, which changes the disk.
pub(super) fn blip(site: &mut Site, node: usize, generations: u8) -> Option<()> {
    let machine = &mut site.machines[node];
    machine.agent()?.scan.filter(|scan| scan.first.is_some() && !scan.done)?;
    machine.disk = changed(machine.disk, None, generations)?;
    machine.power = Power::Own;
    Some(())
}

/// The user of a machine in use changes its disk.
pub(super) fn change(site: &mut Site, node: usize, generations: u8) -> Option<()> {
    let row = &site.db.nodes[node];
    let machine = &mut site.machines[node];
    if row.place != Place::At(NodeStep::InUse) || machine.power != Power::Own {
        return None;
    }
    machine.disk = changed(machine.disk, row.of, generations)?;
    Some(())
}

fn changed(disk: Content, user: Option<(super::site::Tenant, u8)>, generations: u8) -> Option<Content> {
    match (disk, user) {
        (Content::State { of, place, generation }, _) if generation < generations => {
            Some(Content::State { of, place, generation: generation + 1 })
        }
        (Content::Image, Some((of, place))) => Some(Content::State { of, place, generation: 1 }),
        _ => None,
    }
}

/// Returns whether nothing is lost with this content: it came from the store, is saved and proved, or nobody wants it.
fn is_dispensable(site: &Site, node: usize) -> bool {
    let disk = site.machines[node].disk;
    let Content::State { of, .. } = disk else { return true };
    let row = &site.db.nodes[node];
    if row.given_up == Some(row.epoch) {
        return true;
    }
    let rows = site.db.nodes.iter().flat_map(|node| node.captures.iter().flatten());
    let saved = rows.filter(|row| row.step == CaptureStep::Verified).any(|row| row.root == Some(disk));
    // A database that was restored has forgotten rows; the object is adopted.
    site.given_up[of.index()] || site.store.is_whole(disk) && (saved || site.restored)
}

fn set_stage(machine: &mut Machine, slot: usize, stage: Stage) {
    if let Some(Agent { writes, .. }) = machine.agent_mut()
        && let Some(writing) = writes[slot].as_mut()
    {
        writing.stage = stage;
    }
}

fn end_write(site: &mut Site, node: usize, slot: usize, what: Told) -> Option<()> {
    let boot = site.machines[node].agent()?.boot;
    set_stage(&mut site.machines[node], slot, Stage::Ended);
    site.send(Message { node: u8::try_from(node).ok()?, boot, what });
    Some(())
}
