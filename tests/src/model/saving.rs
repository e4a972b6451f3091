//! How what arrives becomes an object and a row, and how it comes to be VERIFIED.

use boss_api::agent::FailureClass;
use boss_model::capture::CaptureEvent;

use super::planted::Planted;
use super::protocol::Protocol;
use super::rules;
use super::site::{Boss, Content, Health, Site};

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verification {
    /// The object is to be read.
    Read,
    /// It gives the right root.
    Proved,
    /// It is damaged, and goes.
    Delete,
    /// It does not give the root.
    Refuted,
}

/// The end of an upload, between the check that it is wanted and the row that says it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Upload {
    pub(super) node: usize,
    pub(super) boot: u8,
    pub(super) epoch: u8,
    pub(super) attempt: u8,
    pub(super) root: Content,
    /// The first of the two effects is done.
    pub(super) half: bool,
}

impl Protocol {
    /// Has a boss do the next effect of an upload. Without the answer to COMMIT it must not undo what it did.
    pub(super) fn go_upload(&self, site: &mut Site, boss: &mut Boss, answered: bool) {
        let Some(upload) = boss.upload.take() else { return };
        let row_first = self.has(Planted::RowBeforeObject);
        if upload.half == row_first {
            site.store.put(upload.root);
            boss.upload = (!row_first).then_some(Upload { half: true, ..upload });
            return;
        }
        let unasked = row_first || self.has(Planted::ReferredUnasked);
        let there = unasked || site.store.is_there(upload.root);
        let done = self.transact(site, boss.term, |db| {
            there.then_some(())?;
            let row = self.fenced(db, upload.node, upload.boot, upload.epoch, upload.attempt)?;
            rules::capture(row, CaptureEvent::Receive)?;
            row.root = Some(upload.root);
            Some(())
        });
        if done.is_some() {
            site.store.refer(upload.root);
        }
        if done.is_some() && row_first {
            boss.upload = Some(Upload { half: true, ..upload });
        }
        if !answered && self.has(Planted::CommitErrorUndone) {
            site.store.delete(upload.root);
        }
    }

    /// Does the next effect of a verification, and returns what is left of it.
    pub(super) fn verify(
        &self,
        site: &mut Site,
        term: u8,
        (node, epoch, attempt): (usize, u8, u8),
        root: Content,
        stage: Verification,
    ) -> Option<Verification> {
        match stage {
            Verification::Read if site.store.is_whole(root) || self.has(Planted::VerifiedWithoutReading) => {
                Some(Verification::Proved)
            }
            Verification::Read if site.store.find(root).is_some_and(|object| object.health == Health::Damaged) => {
                Some(Verification::Delete)
            }
            Verification::Read => Some(Verification::Refuted),
            Verification::Delete => {
                if site.store.term > term && !self.has(Planted::OldTermInStore) {
                    return None;
                }
                site.store.set_health(root, Health::Removed);
                Some(Verification::Refuted)
            }
            Verification::Proved | Verification::Refuted => {
                let event = match stage {
                    Verification::Proved => CaptureEvent::Verify,
                    _ => rules::fail(FailureClass::Corruption),
                };
                let there = event != CaptureEvent::Verify || site.store.is_there(root);
                self.transact(site, term, |db| {
                    there.then_some(())?;
                    let row = db.nodes[node].capture_mut(epoch).filter(|row| row.attempt == attempt)?;
                    rules::capture(row, event)
                })?;
                site.store.refer(root);
                None
            }
        }
    }
}
