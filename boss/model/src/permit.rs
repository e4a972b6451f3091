//! Who may overwrite what: nothing is written to a disk without evidence that nothing is lost by it.
//!
//! The evidence types have private fields: one that says "everything is saved" exists only if it was proved from the
//! captures, so a permit to sanitize a machine that must be saved cannot be made without them.

use boss_api::Name;
use boss_api::agent::{Permit, WritePurpose};
use boss_api::ids::{CaptureId, DiskId, JobId, UserId, WriteId};
use sigs::ByteLen;

use crate::capture::CaptureStep;
use crate::node::NodeStep;

/// What is known of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureFact {
    /// Which.
    pub capture: CaptureId,
    /// Of which disk.
    pub disk: DiskId,
    /// In which epoch of the node it was taken.
    pub epoch: u64,
    /// How far it is.
    pub step: CaptureStep,
}

/// Every disk of a node is VERIFIED, in the epoch the node is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllVerified {
    captures: Vec<CaptureId>,
    epoch: u64,
}

/// A disk whose content would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSaved {
    /// A disk has no VERIFIED capture of this epoch.
    #[error("disk {0} has no verified capture in this epoch")]
    Disk(DiskId),
    /// A node without disks proves nothing.
    #[error("the node has no disks, so nothing was proved")]
    NoDisks,
}

impl AllVerified {
    /// Proves that every one of `disks` has a VERIFIED capture of `epoch`.
    ///
    /// # Errors
    /// [`NotSaved`] naming the disk that has none.
    pub fn prove(epoch: u64, disks: &[DiskId], facts: &[CaptureFact]) -> Result<Self, NotSaved> {
        if disks.is_empty() {
            return Err(NotSaved::NoDisks);
        }
        let captures = disks
            .iter()
            .map(|disk| {
                facts
                    .iter()
                    .find(|fact| fact.disk == *disk && fact.epoch == epoch && fact.step == CaptureStep::Verified)
                    .map(|fact| fact.capture)
                    .ok_or(NotSaved::Disk(*disk))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { captures, epoch })
    }
}

/// Somebody with the right to do so said that nothing needs saving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver(String);

/// That somebody with the right to it gave up what is on a machine, as it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Who.
    pub by: UserId,
    /// In which epoch of the machine.
    pub epoch: u64,
}

/// A word about another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine's content was given up in epoch {said}, and it is in epoch {epoch}")]
pub struct OldWord {
    /// When it was said.
    pub said: u64,
    /// The epoch of the machine.
    pub epoch: u64,
}

/// A waiver for what must be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the swap-out was asked for with saving on: it cannot be waived")]
pub struct MustSave;

impl Waiver {
    /// The experiment does not save: decided when the swap-out was asked for.
    ///
    /// # Errors
    /// [`MustSave`] when it does.
    pub fn not_saved(asked_by: UserId, job_saves: bool) -> Result<Self, MustSave> {
        if job_saves {
            return Err(MustSave);
        }
        Ok(Self(format!("not saved: user {asked_by} swapped out with Save swap state off")))
    }

    /// The content of a held machine was given up, as it was written down.
    ///
    /// # Errors
    /// [`OldWord`] when that was said in another epoch of the machine.
    pub fn discarded(word: GivenUp, epoch: u64) -> Result<Self, OldWord> {
        if word.epoch != epoch {
            return Err(OldWord { said: word.epoch, epoch });
        }
        Ok(Self(format!("given up: user {} confirmed by password that it need not be saved", word.by)))
    }

    /// A held swap-in is given up, and the machine never ran for its experiment.
    pub fn given_up(asked_by: UserId) -> Self {
        Self(format!("nothing to save: user {asked_by} gave the swap-in up before the machine ran"))
    }

    /// The experiment is terminated, which its user asked for by that name.
    pub fn terminated(asked_by: UserId) -> Self {
        Self(format!("not saved: user {asked_by} terminated the experiment"))
    }

    /// The user of the machine wants another image on it.
    pub fn load_asked(asked_by: UserId) -> Self {
        Self(format!("overwritten by wish: user {asked_by} asked to load an image"))
    }
}

/// The machine has not run for its experiment in this epoch: what is on its disks came from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NothingToLose(NodeStep);

impl NothingToLose {
    /// Says so of a machine in this place of the cycle, or `None` when it may have run since it was loaded.
    pub const fn at(step: NodeStep) -> Option<Self> {
        match step {
            NodeStep::Free | NodeStep::Reserved | NodeStep::Restoring => Some(Self(step)),
            // Perhaps it was started, and whoever started it did not hear of it.
            NodeStep::Checked
            | NodeStep::InUse
            | NodeStep::Quiescing
            | NodeStep::Capturing
            | NodeStep::Releasable
            | NodeStep::Sanitizing
            | NodeStep::Rebooting => None,
        }
    }
}

/// Why nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Everything is saved.
    Saved(AllVerified),
    /// Nothing needs saving.
    Waived(Waiver),
    /// There is nothing to save.
    Fresh(NothingToLose),
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Saved(AllVerified { captures, epoch }) => {
                let names: Vec<_> = captures.iter().map(ToString::to_string).collect();
                write!(f, "verified in epoch {epoch}: captures {}", names.join(", "))
            }
            Self::Waived(Waiver(words)) => f.write_str(words),
            Self::Fresh(NothingToLose(step)) => {
                write!(f, "nothing to lose: the machine was {step} and has not run for its experiment")
            }
        }
    }
}

/// Which write a permit is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitTarget {
    /// The write.
    pub write: WriteId,
    /// The node.
    pub node: Name,
    /// The disk's serial number.
    pub serial: String,
    /// The disk's size.
    pub bytes: ByteLen,
    /// The node's epoch.
    pub epoch: u64,
    /// The boss's term.
    pub term: u64,
    /// The job.
    pub job: JobId,
}

/// A permit that was issued by the rule, and may be sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedPermit(Permit);

impl IssuedPermit {
    /// Returns the permit.
    pub const fn permit(&self) -> &Permit {
        &self.0
    }
}

/// A permit that cannot be carried into another term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the permit is of epoch {permitted} and term {term}, the write of epoch {epoch} is renewed in term {ruling}")]
pub struct CannotRenew {
    /// The epoch it was issued for.
    pub permitted: u64,
    /// The term it was issued in.
    pub term: u64,
    /// The epoch of the write.
    pub epoch: u64,
    /// The term that rules.
    pub ruling: u64,
}

impl IssuedPermit {
    /// Carries the permit of an open write into the term of a boss that took over: agents refuse those of older terms.
    /// Nothing else about it changes. The caller has checked its seal.
    ///
    /// # Errors
    /// [`CannotRenew`] when it is for another epoch than its write, or from a later term.
    pub fn renewed(permit: Permit, epoch: u64, ruling: u64) -> Result<Self, CannotRenew> {
        if permit.epoch != epoch || permit.term > ruling {
            return Err(CannotRenew { permitted: permit.epoch, term: permit.term, epoch, ruling });
        }
        Ok(Self(Permit { term: ruling, ..permit }))
    }
}

/// Evidence that does not carry this purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a machine that was saved is sanitized before anything is loaded on it")]
pub struct WrongEvidence;

/// Issues the permit for a write.
///
/// # Errors
/// [`WrongEvidence`] when the evidence does not carry the purpose.
pub fn permit_for(
    purpose: WritePurpose,
    evidence: &Evidence,
    target: PermitTarget,
) -> Result<IssuedPermit, WrongEvidence> {
    match (purpose, evidence) {
        (WritePurpose::Sanitize, Evidence::Saved(_) | Evidence::Waived(_) | Evidence::Fresh(_))
        | (WritePurpose::Load | WritePurpose::Restore, Evidence::Fresh(_) | Evidence::Waived(_)) => {}
        (WritePurpose::Load | WritePurpose::Restore, Evidence::Saved(_)) => return Err(WrongEvidence),
    }
    let PermitTarget { write, node, serial, bytes, epoch, term, job } = target;
    Ok(IssuedPermit(Permit { write, node, serial, bytes, epoch, term, job, purpose, evidence: evidence.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn disk(number: u128) -> DiskId {
        DiskId::new(Uuid::from_u128(number))
    }

    fn fact(number: u128, epoch: u64, step: CaptureStep) -> CaptureFact {
        CaptureFact { capture: CaptureId::new(Uuid::from_u128(number)), disk: disk(number), epoch, step }
    }

    fn user() -> UserId {
        UserId::new(Uuid::from_u128(7))
    }

    #[test]
    fn saved_means_every_disk_verified_in_this_epoch() {
        let disks = [disk(1), disk(2)];
        let verified = |number, epoch| fact(number, epoch, CaptureStep::Verified);
        assert!(AllVerified::prove(3, &disks, &[verified(1, 3), verified(2, 3)]).is_ok());
        assert_eq!(AllVerified::prove(3, &disks, &[verified(1, 3)]), Err(NotSaved::Disk(disk(2))));
        assert_eq!(
            AllVerified::prove(3, &disks, &[verified(1, 3), verified(2, 2)]),
            Err(NotSaved::Disk(disk(2))),
            "an older epoch proves nothing"
        );
        for step in CaptureStep::ALL.iter().copied().filter(|step| *step != CaptureStep::Verified) {
            assert!(AllVerified::prove(3, &disks, &[verified(1, 3), fact(2, 3, step)]).is_err(), "{step}");
        }
        assert_eq!(AllVerified::prove(3, &[], &[]), Err(NotSaved::NoDisks));
    }

    #[test]
    fn what_must_be_saved_cannot_be_waived_and_a_machine_that_ran_is_not_fresh() {
        assert_eq!(Waiver::not_saved(user(), true), Err(MustSave));
        assert!(Waiver::not_saved(user(), false).is_ok());
        let word = GivenUp { by: user(), epoch: 3 };
        assert!(Waiver::discarded(word, 3).is_ok());
        assert_eq!(Waiver::discarded(word, 4), Err(OldWord { said: 3, epoch: 4 }), "what it holds now is other work");
        let fresh: Vec<_> = NodeStep::ALL.iter().filter(|step| NothingToLose::at(**step).is_some()).collect();
        assert_eq!(fresh, [&NodeStep::Free, &NodeStep::Reserved, &NodeStep::Restoring]);
    }

    #[test]
    fn a_permit_says_why_and_saved_is_no_leave_to_load() {
        let target = PermitTarget {
            write: WriteId::new(Uuid::from_u128(1)),
            node: Name::new("pc1").unwrap(),
            serial: "S1".into(),
            bytes: ByteLen::new(1),
            epoch: 3,
            term: 1,
            job: JobId::new(Uuid::from_u128(2)),
        };
        let saved = AllVerified::prove(3, &[disk(1)], &[fact(1, 3, CaptureStep::Verified)]).unwrap();
        let saved = Evidence::Saved(saved);
        let permit = permit_for(WritePurpose::Sanitize, &saved, target.clone()).unwrap();
        assert!(permit.permit().evidence.contains("verified in epoch 3"));
        assert_eq!(permit_for(WritePurpose::Load, &saved, target.clone()), Err(WrongEvidence));
        let waived = Evidence::Waived(Waiver::terminated(user()));
        assert!(permit_for(WritePurpose::Sanitize, &waived, target).is_ok());
    }

    #[test]
    fn a_permit_goes_into_a_later_term_as_it_is_and_into_no_other_epoch() {
        let permit = Permit {
            write: WriteId::new(Uuid::from_u128(1)),
            node: Name::new("pc1").unwrap(),
            serial: "S1".into(),
            bytes: ByteLen::new(1),
            epoch: 3,
            term: 5,
            job: JobId::new(Uuid::from_u128(2)),
            purpose: WritePurpose::Sanitize,
            evidence: "verified".into(),
        };
        let renewed = IssuedPermit::renewed(permit.clone(), 3, 7).unwrap();
        assert_eq!(*renewed.permit(), Permit { term: 7, ..permit.clone() });
        assert!(IssuedPermit::renewed(permit.clone(), 4, 7).is_err(), "the machine changed hands");
        assert!(IssuedPermit::renewed(permit, 3, 4).is_err(), "this boss is over");
    }
}
