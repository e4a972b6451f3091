//! Writing a disk: permit, seals, files, and only then the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boss_api::agent::{FailureClass, FreeTreatment, WriteDone, WriteOrder, WriteProgress};
use boss_api::ids::JobId;
use imagezip::control::{Phase, Snapshot, default_threads};
use imagezip::image::{Chain, ImageError, ImageSource, Verified};
use imagezip::io::{DiskIo, is_zero};
use imagezip::restore::{Failure as RestoreFailure, FreePolicy, Refusal, RestoreError, RestoreOptions, restore};
use sigs::{ByteLen, ByteOffset, ByteRange, FileSource, Root};
use tokio_util::sync::CancellationToken;

use super::depot::FetchError;
use super::engine::{self, Shared};
use super::permit::{DiskWriter, OpenError, PermitError, VerifiedPermit};
use super::provenance::{self, ProvenanceError, Wanted};
use super::{Machine, WorkEnd};
use crate::exit::chain;

/// How often progress is reported.
const REPORT: Duration = Duration::from_millis(500);
/// How much of a disk is zeroed, or read back, between two looks at the flag to stop.
const ZERO_STEP: u64 = 64 << 20;
const READ_STEP: usize = 1 << 20;

/// Why a disk was not written, or not to the end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("this machine has no disk {0}")]
    NoDisk(boss_api::names::Name),
    #[error("the disk is untouched")]
    Permit(#[from] PermitError),
    #[error("the disk is untouched")]
    Provenance(#[from] ProvenanceError),
    #[error("fetch an image; the disk is untouched")]
    Fetch(#[source] FetchError),
    #[error("open {path}, which was fetched; the disk is untouched")]
    Fetched {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the images are refused; the disk is untouched")]
    Image(#[source] ImageError),
    #[error("the images give the root {found}, ordered is {expected}; the disk is untouched")]
    WrongRoot { found: Root, expected: Root },
    #[error("the disk is untouched")]
    Open(#[from] OpenError),
    #[error("restore the disk")]
    Restore(#[source] RestoreError),
    #[error("{action} {len} bytes at offset {offset} of the disk")]
    Zero {
        action: &'static str,
        offset: ByteOffset,
        len: ByteLen,
        #[source]
        source: std::io::Error,
    },
    #[error("the disk was zeroed and does not read back as zeros at offset {0}")]
    NotZero(ByteOffset),
    #[error("stopped on request")]
    Cancelled,
    #[error("run the engine")]
    Thread(#[source] std::io::Error),
}

impl WriteError {
    const fn class(&self) -> FailureClass {
        match self {
            Self::Permit(PermitError::Identify(_)) | Self::NoDisk(_) | Self::Zero { .. } => FailureClass::Machine,
            // The boss that took over sealed it anew: the next attempt brings that one.
            Self::Permit(PermitError::OldTerm { .. }) => FailureClass::Transient,
            Self::Permit(_) | Self::Provenance(_) | Self::Image(_) | Self::WrongRoot { .. } | Self::NotZero(_) => {
                FailureClass::Corruption
            }
            Self::Fetch(error) => error.class(),
            Self::Fetched { .. } | Self::Cancelled | Self::Thread(_) => FailureClass::Transient,
            Self::Open(error) => match error {
                OpenError::Permit(_) => FailureClass::Corruption,
                OpenError::Lock { .. } => FailureClass::Transient,
                OpenError::Disk(_) => FailureClass::Machine,
            },
            Self::Restore(error) => match error {
                RestoreError::Refused(Refusal::Cancelled) | RestoreError::Unfinished(RestoreFailure::Cancelled) => {
                    FailureClass::Transient
                }
                RestoreError::Refused(
                    Refusal::Size { .. }
                    | Refusal::Sectors { .. }
                    | Refusal::Unfit(_)
                    | Refusal::Settle(_)
                    | Refusal::NoRoom { .. },
                ) => FailureClass::Machine,
                RestoreError::Refused(Refusal::Signature | Refusal::Image(_)) => FailureClass::Corruption,
                RestoreError::Unfinished(failure) => match failure {
                    RestoreFailure::Image(_)
                    | RestoreFailure::Signature(_)
                    | RestoreFailure::NotZero { .. }
                    | RestoreFailure::WrongRoot { .. }
                    | RestoreFailure::Changed { .. }
                    | RestoreFailure::Chunks(_) => FailureClass::Corruption,
                    RestoreFailure::Read { .. }
                    | RestoreFailure::Write { .. }
                    | RestoreFailure::Flush(_)
                    | RestoreFailure::DropCache(_)
                    | RestoreFailure::Cancelled => FailureClass::Machine,
                },
            },
        }
    }

    const fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::Image(ImageError::Cancelled)
                | Self::Restore(
                    RestoreError::Refused(Refusal::Cancelled) | RestoreError::Unfinished(RestoreFailure::Cancelled)
                )
        )
    }
}

/// Carries out an order and reports how it ended.
pub(super) async fn run(machine: &Machine, job: JobId, order: &WriteOrder, stop: &CancellationToken) -> WorkEnd {
    let write = order.write;
    match carry_out(machine, job, order, stop).await {
        Ok(root) => {
            tracing::info!(%write, disk = %order.disk, "the disk was written and read back");
            let done = WriteDone { root };
            machine.report(stop, "report a finished write", || machine.client.write_done(write, &done)).await
        }
        Err(error) if stop.is_cancelled() || error.is_cancelled() => {
            tracing::warn!(%write, disk = %order.disk, "stopped; {}", chain(&error));
            WorkEnd::Stopped
        }
        Err(WriteError::Fetch(error)) if error.is_stale() => WorkEnd::Superseded,
        Err(error) => {
            let failure = super::failure(error.class(), &chain(&error));
            tracing::error!(%write, disk = %order.disk, class = ?failure.class, "{}", failure.reason);
            let report = || machine.client.write_failed(write, &failure);
            machine.report(stop, "report a failed write", report).await
        }
    }
}

async fn carry_out(
    machine: &Machine,
    job: JobId,
    order: &WriteOrder,
    stop: &CancellationToken,
) -> Result<Option<Root>, WriteError> {
    let path = machine.disks.get(&order.disk).ok_or_else(|| WriteError::NoDisk(order.disk.clone()))?;
    let permit = VerifiedPermit::check(order, job, (&machine.identity, &machine.memory), &machine.boss_keys, path)?;
    failpoints::hit("agent.write.permitted").map_err(WriteError::Thread)?;
    let shared = Arc::new(Shared::default());
    match provenance::check(order, &machine.base_keys, &machine.boss_keys)? {
        Wanted::Zeros => {
            let work = move |shared: &Shared| zero_disk(&permit, shared);
            with_progress(machine, order, stop, &shared, "zero", work).await.map(|()| None)
        }
        Wanted::State { image, base, root } => {
            let mut sources = Vec::new();
            for object in base.iter().chain([&image]) {
                let path = tokio::select! {
                    path = machine.depot.fetch(object) => path.map_err(WriteError::Fetch)?,
                    () = stop.cancelled() => return Err(WriteError::Cancelled),
                };
                sources.push((object.digest.to_string(), path));
            }
            let free = match order.free {
                FreeTreatment::Keep => FreePolicy::Keep,
                FreeTreatment::Zero => FreePolicy::Zero,
                FreeTreatment::Discard => FreePolicy::Discard,
            };
            let work = move |shared: &Shared| {
                let chain = open_chain(sources, root, shared)?;
                restore_disk(&permit, &chain, free, shared)
            };
            with_progress(machine, order, stop, &shared, "restore", work).await.map(Some)
        }
    }
}

/// Runs the engine, reporting how far it is.
async fn with_progress<T: Send + 'static>(
    machine: &Machine,
    order: &WriteOrder,
    stop: &CancellationToken,
    shared: &Arc<Shared>,
    name: &str,
    work: impl FnOnce(&Shared) -> Result<T, WriteError> + Send + 'static,
) -> Result<T, WriteError> {
    // A stale answer to a report ends this work, not only the report.
    let stop_here = stop.child_token();
    let reporting = async {
        let mut told = WriteProgress::default();
        loop {
            tokio::time::sleep(REPORT).await;
            let now = progress_of(shared, told);
            if now == told {
                continue;
            }
            match machine.client.write_progress(order.write, &now).await {
                Ok(()) => told = now,
                Err(error) if error.is_stale() => {
                    stop_here.cancel();
                    return std::future::pending::<std::convert::Infallible>().await;
                }
                // The next report says more than this one would have.
                Err(error) => tracing::debug!("report progress: {}", chain(&error)),
            }
        }
    };
    tokio::select! {
        result = engine::run(name, shared, &stop_here, work) => result.map_err(WriteError::Thread)?,
        never = reporting => match never {},
    }
}

fn progress_of(shared: &Shared, told: WriteProgress) -> WriteProgress {
    shared.zeroing().unwrap_or_else(|| restoring(shared.progress.snapshot(), told))
}

/// Counts both passes over the disk, the writing and the reading back, in one number that only grows.
fn restoring(now: Snapshot, told: WriteProgress) -> WriteProgress {
    let total = now.total_bytes.get();
    let next = match now.phase {
        Phase::Scan | Phase::Check => return told,
        Phase::Write => WriteProgress { done_bytes: now.done_bytes.get(), total_bytes: total.saturating_mul(2) },
        Phase::ReadBack => WriteProgress {
            done_bytes: total.saturating_add(now.done_bytes.get()),
            total_bytes: total.saturating_mul(2),
        },
    };
    WriteProgress { done_bytes: next.done_bytes.min(next.total_bytes), ..next }
}

/// Opens the fetched files and checks everything in them that can be checked without the disk.
fn open_chain(
    mut sources: Vec<(String, PathBuf)>,
    expected: Root,
    shared: &Shared,
) -> Result<Chain<Verified>, WriteError> {
    let mut opened = Vec::new();
    for (name, path) in sources.drain(..) {
        let file = FileSource::open(&path).map_err(|source| WriteError::Fetched { path, source })?;
        opened.push(ImageSource { name, bytes: Arc::new(file) });
    }
    let Some(image) = opened.pop() else { return Err(ProvenanceError::Order("no image is named").into()) };
    let chain = Chain::open(image, opened).map_err(WriteError::Image)?;
    let found = chain.manifest().target_root;
    if found != expected {
        return Err(WriteError::WrongRoot { found, expected });
    }
    chain.verify(default_threads(), shared.control()).map_err(WriteError::Image)
}

fn restore_disk(
    permit: &VerifiedPermit,
    chain: &Chain<Verified>,
    free: FreePolicy,
    shared: &Shared,
) -> Result<Root, WriteError> {
    let writer = DiskWriter::open(permit)?;
    failpoints::hit("agent.restore.opened").map_err(WriteError::Thread)?;
    let options = RestoreOptions { in_place: true, ..RestoreOptions::new(free) };
    let report = restore(chain, writer.disk(), &options, shared.control()).map_err(WriteError::Restore)?;
    failpoints::hit("agent.restore.proved").map_err(WriteError::Thread)?;
    let expected = chain.manifest().target_root;
    if report.root == expected { Ok(report.root) } else { Err(WriteError::WrongRoot { found: report.root, expected }) }
}

/// Zeroes a whole disk, flushes it, and reads it back past the cache.
fn zero_disk(permit: &VerifiedPermit, shared: &Shared) -> Result<(), WriteError> {
    let writer = DiskWriter::open(permit)?;
    let (disk, len) = (writer.disk(), permit.disk_bytes());
    let failed = |action, offset, len| move |source| WriteError::Zero { action, offset, len, source };
    let all = ByteRange { start: ByteOffset::ZERO, len };
    shared.begin_zeroing(len);
    failpoints::hit("agent.zero.opened").map_err(failed("zero", all.start, all.len))?;
    for range in pieces(len, ZERO_STEP) {
        if shared.is_cancelled() {
            return Err(WriteError::Cancelled);
        }
        disk.zero(range).map_err(failed("zero", range.start, range.len))?;
        shared.zeroed(range.len);
    }
    failpoints::hit("agent.zero.written").map_err(failed("flush", all.start, all.len))?;
    disk.flush().map_err(failed("flush", all.start, all.len))?;
    disk.drop_cache(all).map_err(failed("drop from the cache", all.start, all.len))?;
    read_zeros(disk, len, shared)?;
    failpoints::hit("agent.zero.read-back").map_err(failed("read back", all.start, all.len))
}

fn read_zeros(disk: &dyn DiskIo, len: ByteLen, shared: &Shared) -> Result<(), WriteError> {
    let mut buffer = vec![0; READ_STEP];
    for range in pieces(len, ByteLen::of(&buffer).get()) {
        if shared.is_cancelled() {
            return Err(WriteError::Cancelled);
        }
        let take = range.len.to_usize().unwrap_or(READ_STEP).min(READ_STEP);
        let read = disk.read_from_medium(&mut buffer[..take], range.start);
        read.map_err(|source| WriteError::Zero { action: "read back", offset: range.start, len: range.len, source })?;
        if !is_zero(&buffer[..take]) {
            return Err(WriteError::NotZero(range.start));
        }
        shared.zeroed(range.len);
    }
    Ok(())
}

fn pieces(len: ByteLen, step: u64) -> impl Iterator<Item = ByteRange> {
    let count = len.get().div_ceil(step);
    (0..count).map(move |index| {
        let start = index * step;
        ByteRange { start: ByteOffset::new(start), len: ByteLen::new(step.min(len.get() - start)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_exactly_the_disk() {
        for len in [0, 1, 9, 10, 11, 25] {
            let pieces: Vec<_> = pieces(ByteLen::new(len), 10).collect();
            assert_eq!(pieces.iter().map(|piece| piece.len.get()).sum::<u64>(), len);
            for pair in pieces.windows(2) {
                assert_eq!(pair[0].checked_end(), Some(pair[1].start));
            }
        }
    }

    #[test]
    fn progress_grows_over_both_passes() {
        let snapshot = |phase, done| Snapshot {
            phase,
            total_bytes: ByteLen::new(100),
            done_bytes: ByteLen::new(done),
            changed_bytes: ByteLen::ZERO,
            stored_bytes: ByteLen::ZERO,
        };
        let none = WriteProgress::default();
        assert_eq!(restoring(snapshot(Phase::Check, 50), none), none);
        let half = restoring(snapshot(Phase::Write, 100), none);
        assert_eq!((half.done_bytes, half.total_bytes), (100, 200));
        assert_eq!(restoring(snapshot(Phase::ReadBack, 100), half).done_bytes, 200);
    }
}
