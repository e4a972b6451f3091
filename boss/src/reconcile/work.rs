//! Work in progress on one machine: attempts, their limits, and what comes after a failure.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_db::boots::Boot;
use boss_db::captures::{self, Capture};
use boss_db::nodes::Node;
use boss_db::writes::{self, DiskWrite, WriteEnd};
use boss_model::capture::{CaptureEvent, CaptureState, CaptureStep};
use boss_model::settings::Settings;
use boss_model::write::{WriteEvent, WriteState};
use time::OffsetDateTime;

use super::hold::{Doubt, hold};
use super::mfs::{self, Mfs};
use crate::app::App;
use crate::error::AppError;

/// Why disks are written, all of it.
pub(super) const ALL_PURPOSES: &[WritePurpose] = &[WritePurpose::Load, WritePurpose::Restore, WritePurpose::Sanitize];
/// What a swap-in or a load writes.
pub(super) const LOADING: &[WritePurpose] = &[WritePurpose::Load, WritePurpose::Restore];

/// Whether the work on a machine is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// All of it.
    Done,
    /// Something else will wake us.
    Waiting,
}

/// Takes the next step of saving a machine's disks.
pub(super) async fn save(app: &App, node: &Node, settings: &Settings) -> Result<Work, AppError> {
    // Before the rows are read: judged by a later clock, one that moved since would seem to stand still.
    let now = app.now();
    let all = captures::of_node(&mut *app.pool.acquire().await?, node.id, node.epoch).await?;
    let waits_for = |capture: &&Capture| {
        !matches!(capture.state.step(), CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired)
    };
    if all.iter().all(|capture| capture.state.step() == CaptureStep::Verified) && !all.is_empty() {
        return Ok(Work::Done);
    }
    for capture in &all {
        if let CaptureState::Failed { class, reason } = &capture.state {
            let what = format!("disk {} was not saved: {reason}", capture.disk_name);
            if !try_again(app, node, *class, capture.attempts_now(), settings, &what).await? {
                return Ok(Work::Waiting);
            }
        }
    }
    if !all.iter().any(|capture| waits_for(&capture)) {
        return Ok(Work::Waiting);
    }
    let Mfs::Ready(boot) = mfs::ensure(app, node, settings).await? else { return Ok(Work::Waiting) };
    let mut active =
        all.iter().any(|capture| waits_for(&capture) && capture.failure().is_none() && is_in(capture, &boot));
    for capture in &all {
        match capture.state.step() {
            CaptureStep::Failed if is_in(capture, &boot) => {
                // A new attempt is a new boot, once nothing else is under way in this one.
                if !active {
                    mfs::end_boot(app, node, &boot, "a new attempt begins in a new boot").await?;
                    return Ok(Work::Waiting);
                }
            }
            CaptureStep::Failed => plan_again(app, capture).await?,
            CaptureStep::Planned if !is_in(capture, &boot) => {
                let mut tx = app.begin().await?;
                if captures::under_way(&mut tx).await? >= settings.at_once {
                    // Its turn comes: whatever ends wakes the loop. The machine stands still and loses nothing; its other
                    // disks, of which one may be in work, are looked at all the same.
                    continue;
                }
                let known = |failed: &Capture| all.iter().any(|seen| seen.id == failed.id && seen.failure().is_some());
                let found = captures::of_node(&mut tx, node.id, node.epoch).await?;
                if found.iter().any(|capture| capture.failure().is_some() && !known(capture)) {
                    // It failed since the rows were read, which made the room: that is looked at first.
                    return Ok(Work::Waiting);
                }
                captures::assign(&mut tx, app.term, capture, boot.id, app.now()).await?;
                tx.commit().await?;
                // One that failed waits for this one, too: ending the boot would cost it an attempt.
                active = true;
                app.changed.notify_waiters();
            }
            CaptureStep::Frozen | CaptureStep::Streaming if !is_in(capture, &boot) => {
                fail_capture(app, capture, "its boot is over").await?;
            }
            CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming => {
                if let Some(reason) = overdue(now, capture.attempt_at, capture.progress_at, settings, true) {
                    fail_capture(app, capture, &reason).await?;
                }
            }
            CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired => {}
        }
    }
    Ok(Work::Waiting)
}

fn is_in(capture: &Capture, boot: &Boot) -> bool {
    capture.boot == Some(boot.id)
}

async fn plan_again(app: &App, capture: &Capture) -> Result<(), AppError> {
    let to = capture.state.clone().apply(CaptureEvent::NewAttempt).map_err(AppError::internal)?;
    let mut tx = app.begin().await?;
    captures::transition(&mut tx, app.term, capture, &to, app.now()).await?;
    tx.commit().await?;
    app.changed.notify_waiters();
    Ok(())
}

async fn fail_capture(app: &App, capture: &Capture, reason: &str) -> Result<(), AppError> {
    let event = CaptureEvent::Fail { class: FailureClass::Transient, reason: reason.to_owned() };
    let to = capture.state.clone().apply(event).map_err(AppError::internal)?;
    let mut tx = app.begin().await?;
    captures::transition(&mut tx, app.term, capture, &to, app.now()).await?;
    tx.commit().await?;
    app.changed.notify_waiters();
    Ok(())
}

/// Takes the next step of writing a machine's disks.
pub(super) async fn write(
    app: &App,
    node: &Node,
    purposes: &[WritePurpose],
    settings: &Settings,
) -> Result<Work, AppError> {
    let now = app.now();
    let all = writes::of_node(&mut *app.pool.acquire().await?, node.id, node.epoch, purposes).await?;
    if all.is_empty() {
        // Never: the permits are issued in the transaction that brought the machine here.
        let doubt = Doubt::new("it is to be written and has no permit", "this is a defect of boss: report it");
        hold(app, node, doubt).await?;
        return Ok(Work::Waiting);
    }
    if all.iter().all(|write| write.state == WriteState::Done) {
        return Ok(Work::Done);
    }
    for write in &all {
        if let (WriteState::Failed, Some((class, reason))) = (write.state, &write.failure) {
            let what = format!("a disk was not written: {reason}");
            if !try_again(app, node, *class, write.attempts_now(), settings, &what).await? {
                return Ok(Work::Waiting);
            }
        }
    }
    let Mfs::Ready(boot) = mfs::ensure(app, node, settings).await? else { return Ok(Work::Waiting) };
    let in_boot = |write: &DiskWrite| write.boot == Some(boot.id);
    let open = |write: &DiskWrite| matches!(write.state, WriteState::Issued | WriteState::Running);
    let active = all.iter().any(|write| open(write) && in_boot(write));
    for write in &all {
        match write.state {
            WriteState::Failed if in_boot(write) => {
                if !active {
                    mfs::end_boot(app, node, &boot, "a new attempt begins in a new boot").await?;
                    return Ok(Work::Waiting);
                }
            }
            WriteState::Failed => {
                move_write(app, write, WriteEvent::NewAttempt, WriteEnd::default()).await?;
            }
            WriteState::Issued if !in_boot(write) => {
                let mut tx = app.begin().await?;
                writes::assign(&mut tx, app.term, write, boot.id, app.now()).await?;
                tx.commit().await?;
                app.changed.notify_waiters();
            }
            WriteState::Running if !in_boot(write) => {
                let failure = Some((FailureClass::Transient, "its boot is over".to_owned()));
                move_write(app, write, WriteEvent::Fail, WriteEnd { root: None, failure }).await?;
            }
            WriteState::Issued | WriteState::Running => {
                if let Some(reason) = overdue(now, write.attempt_at, write.progress_at, settings, false) {
                    let end = WriteEnd { root: None, failure: Some((FailureClass::Transient, reason)) };
                    move_write(app, write, WriteEvent::Fail, end).await?;
                }
            }
            WriteState::Done | WriteState::Void => {}
        }
    }
    Ok(Work::Waiting)
}

async fn move_write(app: &App, write: &DiskWrite, event: WriteEvent, end: WriteEnd) -> Result<(), AppError> {
    let to = write.state.apply(event).map_err(AppError::internal)?;
    let mut tx = app.begin().await?;
    writes::transition(&mut tx, app.term, write, to, end, app.now()).await?;
    tx.commit().await?;
    app.changed.notify_waiters();
    Ok(())
}

/// Returns whether a failure may be tried again; if not, the machine is held.
async fn try_again(
    app: &App,
    node: &Node,
    class: FailureClass,
    attempts: u32,
    settings: &Settings,
    what: &str,
) -> Result<bool, AppError> {
    let next = match class {
        FailureClass::Transient if attempts < settings.attempts => return Ok(true),
        FailureClass::Transient => "remove the cause, then retry the experiment",
        FailureClass::Corruption => {
            "find out what damaged the bytes before you retry the experiment; the disk is untouched by us"
        }
        FailureClass::Machine => "see to the machine, or to the store where that is named, then retry the experiment",
    };
    let tried = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
    hold(app, node, Doubt::new(format!("{what}{tried}"), next)).await?;
    Ok(false)
}

/// Returns why an attempt is given up, if it took too long or stands still.
fn overdue(
    now: OffsetDateTime,
    began: Option<OffsetDateTime>,
    progress: Option<OffsetDateTime>,
    settings: &Settings,
    is_capture: bool,
) -> Option<String> {
    let began = began?;
    if is_capture && now - began > settings.command_timeout {
        let limit = settings.command_timeout.as_secs();
        return Some(format!("the attempt took longer than {limit} seconds (swap/command_timeout_s)"));
    }
    // Before its first byte a write fetches and checks its images, which nobody counts: the overall limit bounds that.
    if !is_capture && progress.is_none_or(|progress| progress < began) {
        let limit = settings.command_timeout.max(settings.stall_timeout);
        return (now - began > limit).then(|| format!("nothing was written for {} seconds", limit.as_secs()));
    }
    let stands_since = progress.map_or(began, |progress| progress.max(began));
    (now - stands_since > settings.stall_timeout).then(|| {
        let limit = settings.stall_timeout.as_secs();
        format!("no byte was scanned, sent or written for {limit} seconds (swap/stall_timeout_s)")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_limits_are_on_the_attempt_and_on_standing_still() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let mut settings = Settings {
            command_timeout: Duration::from_secs(100),
            stall_timeout: Duration::from_secs(10),
            ..Settings::default()
        };
        let late = |settings: &Settings, began, progress, capture| overdue(now, began, progress, settings, capture);
        assert_eq!(late(&settings, ago(5), None, true), None);
        assert_eq!(late(&settings, ago(99), ago(9), true), None);
        assert!(late(&settings, ago(11), None, true).unwrap().contains("stall_timeout"));
        assert!(late(&settings, ago(99), ago(11), true).unwrap().contains("stall_timeout"));
        assert!(late(&settings, ago(101), ago(1), true).unwrap().contains("command_timeout"));
        assert_eq!(late(&settings, ago(101), ago(1), false), None, "only captures have the overall limit");
        settings.stall_timeout = Duration::from_secs(20);
        assert_eq!(late(&settings, ago(99), ago(11), true), None);
        settings.command_timeout = Duration::from_secs(50);
        assert!(late(&settings, ago(99), ago(11), true).is_some());
        assert_eq!(late(&settings, None, None, true), None, "not begun");
    }
}
