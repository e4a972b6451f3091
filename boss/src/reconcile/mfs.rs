//! Gets a machine into the memory file system, and notices when it left it.

use std::time::Duration;

use boss_api::agent::{BootDisk, BootParameters, FailureClass, PROTOCOL};
use boss_api::ids::BootId;
use boss_api::user::PowerConfig;
use boss_db::boots::{self, Boot, BootState, NewBoot};
use boss_db::nodes::Node;
use boss_db::writes::{self, WriteEnd};
use boss_db::{captures, keys};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::settings::Settings;
use boss_model::write::{WriteEvent, WriteState};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::hold::{Doubt, hold};
use super::work::ALL_PURPOSES;
use crate::app::App;
use crate::error::AppError;
use crate::power::{Command, Machine, PowerError, PowerStatus, SwitchError};
use crate::swap::note;

/// Whether a machine is in the memory file system.
#[derive(Clone, Debug)]
pub(super) enum Mfs {
    /// Its agent has spoken in this epoch, and lives.
    Ready(Boot),
    /// Not yet; something else will wake us.
    Waiting,
}

pub(super) fn machine(node: &Node) -> Machine {
    Machine { name: node.name.clone(), power: node.power.clone() }
}

/// Takes the next step towards a machine in the memory file system.
pub(super) async fn ensure(app: &App, node: &Node, settings: &Settings) -> Result<Mfs, AppError> {
    let boot = boots::alive(&mut *app.pool.acquire().await?, node.id).await?;
    let Some(boot) = boot else { return start(app, node, settings).await };
    let status = match app.power.status(&machine(node)).await {
        Ok(status) => status,
        Err(error) => return power_failed(app, node, error.into()).await,
    };
    let over = if boot.epoch != node.epoch {
        Some("the machine changed hands".to_owned())
    } else if status != PowerStatus::Mfs {
        Some("the agent's process ended".to_owned())
    } else if boot.state == BootState::Booting && app.now() - boot.created_at > settings.boot_timeout {
        Some(format!("the agent did not report within {} seconds of its boot", settings.boot_timeout.as_secs()))
    } else {
        None
    };
    match over {
        Some(reason) => {
            end_boot(app, node, &boot, &reason).await?;
            Ok(Mfs::Waiting)
        }
        None if boot.state == BootState::Registered => Ok(Mfs::Ready(boot)),
        None => Ok(Mfs::Waiting),
    }
}

/// Ends a boot and what was attempted in it, then switches the machine off. In this order: nothing the old agent still
/// says is believed from the first step on, and it is gone before another may write.
pub(super) async fn end_boot(app: &App, node: &Node, boot: &Boot, reason: &str) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    boots::end(&mut tx, boot.id).await?;
    for capture in captures::of_node(&mut tx, node.id, boot.epoch).await? {
        let step = capture.state.step();
        let open = matches!(step, CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming);
        if open && capture.boot == Some(boot.id) {
            let event = CaptureEvent::Fail { class: FailureClass::Transient, reason: reason.to_owned() };
            let to = capture.state.clone().apply(event).map_err(AppError::internal)?;
            captures::transition(&mut tx, app.term, &capture, &to, app.now()).await?;
        }
    }
    for write in writes::of_node(&mut tx, node.id, boot.epoch, ALL_PURPOSES).await? {
        if matches!(write.state, WriteState::Issued | WriteState::Running) && write.boot == Some(boot.id) {
            let to = write.state.apply(WriteEvent::Fail).map_err(AppError::internal)?;
            let end = WriteEnd { root: None, failure: Some((FailureClass::Transient, reason.to_owned())) };
            writes::transition(&mut tx, app.term, &write, to, end, app.now()).await?;
        }
    }
    note(app, &mut tx, None, Some(node.id), "boot.ended", &format!("{}: {reason}", node.name)).await?;
    failpoints::hit("boot.ended.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("boot.ended.committed").map_err(AppError::internal)?;
    if let Err(error) = app.switch(&machine(node), Command::PowerOff).await {
        power_failed(app, node, error).await?;
    }
    app.changed.notify_waiters();
    Ok(())
}

async fn start(app: &App, node: &Node, settings: &Settings) -> Result<Mfs, AppError> {
    let mut conn = app.pool.acquire().await?;
    let tried = boots::started_since(&mut conn, node.id, node.state_since).await?;
    // One more than attempts: a boss that was killed while it started a boot cannot know whether that one counts.
    if tried > settings.attempts {
        let reason = format!("it was booted {tried} times and its agent did not stay");
        let next = "read the agent's log, then retry the experiment";
        hold(app, node, Doubt::new(reason, next)).await?;
        return Ok(Mfs::Waiting);
    }
    let trusted = keys::trusted(&mut conn).await?;
    drop(conn);
    if let Err(error) = switch_off(app, node, settings.shutdown_timeout).await {
        return power_failed(app, node, error).await;
    }
    let (id, token) = (BootId::new(Uuid::now_v7()), secret()?);
    let mut tx = app.begin().await?;
    let new = NewBoot {
        id,
        node: node.id,
        epoch: node.epoch,
        token_hash: Sha256::digest(token.as_bytes()).into(),
        at: app.now(),
        expires_at: app.now() + settings.boot_timeout,
    };
    boots::add(&mut tx, new).await?;
    failpoints::hit("boot.planned.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("boot.planned.committed").map_err(AppError::internal)?;
    let PowerConfig::Process { disks } = &node.power;
    let parameters = BootParameters {
        protocol: PROTOCOL,
        boss_url: app.config.agent_url.clone(),
        node: node.name.clone(),
        boot_token: token.to_string(),
        boss_keys: vec![app.keys.public_pem().to_owned()],
        base_keys: trusted.into_iter().map(|key| key.public_pem).collect(),
        disks: disks.iter().map(|(name, path)| BootDisk { name: name.clone(), path: path.clone() }).collect(),
    };
    if let Err(error) = app.switch(&machine(node), Command::BootMfs(&parameters)).await {
        let error = match error {
            SwitchError::Power(error) => error,
            not_given @ SwitchError::NotGiven(_) => return power_failed(app, node, not_given).await,
        };
        let mut tx = app.begin().await?;
        boots::end(&mut tx, id).await?;
        let message = format!("{}: {error}: {}", node.name, error.source);
        note(app, &mut tx, None, Some(node.id), "boot.failed", &message).await?;
        tx.commit().await?;
        tracing::warn!("{message}");
        if error.is_full() {
            // Another boot finds no more room, and would be counted against the machine.
            return power_failed(app, node, error.into()).await;
        }
    }
    Ok(Mfs::Waiting)
}

/// Asks the machine's own system to shut down, with a deadline, then switches it off.
async fn switch_off(app: &App, node: &Node, patience: Duration) -> Result<(), SwitchError> {
    let machine = machine(node);
    if app.power.status(&machine).await? == PowerStatus::OwnDisk {
        match tokio::time::timeout(patience, app.switch(&machine, Command::ShutDown)).await {
            Ok(Ok(())) => {}
            Ok(Err(SwitchError::Power(error))) => {
                tracing::warn!(node = %node.name, "ask to shut down: {}", error.source);
            }
            Ok(Err(not_given @ SwitchError::NotGiven(_))) => return Err(not_given),
            Err(_) => tracing::warn!(node = %node.name, "not shut down within {} s: switched off", patience.as_secs()),
        }
    }
    app.switch(&machine, Command::PowerOff).await
}

/// A machine that cannot be switched is in nobody's control. One that this boss may not switch is another's.
pub(super) async fn power_failed(app: &App, node: &Node, error: SwitchError) -> Result<Mfs, AppError> {
    match error {
        SwitchError::NotGiven(error) => Err(error.into()),
        SwitchError::Power(error) => {
            hold(app, node, doubt(&error)).await?;
            Ok(Mfs::Waiting)
        }
    }
}

/// Says what a failure of the power means, and where to look: a full disk is nothing that a machine could help.
fn doubt(error: &PowerError) -> Doubt {
    if error.is_full() {
        let reason = format!("{error} did not work: the file system of the state directory is full");
        return Doubt::new(reason, "make room in the state directory, then retry the experiment");
    }
    let reason = format!("{error} did not work: {}", error.source);
    Doubt::new(reason, "see to the machine's power, then retry the experiment")
}

/// Returns whether every one of these machines has an agent that spoke in its epoch.
pub(super) async fn all_registered(app: &App, of: &[Node]) -> Result<bool, AppError> {
    let mut conn = app.pool.acquire().await?;
    for node in of {
        let boot = boots::alive(&mut conn, node.id).await?;
        if !boot.is_some_and(|boot| boot.state == BootState::Registered && boot.epoch == node.epoch) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ends the present boot of a machine because its work is done, and switches it off. Where its own system still runs,
/// because a swap-out was taken back early, that is asked to shut down first.
pub(super) async fn dismiss(app: &App, node: &Node, settings: &Settings) -> Result<bool, AppError> {
    let mut tx = app.begin().await?;
    if let Some(boot) = boots::alive(&mut tx, node.id).await? {
        boots::end(&mut tx, boot.id).await?;
    }
    failpoints::hit("boot.dismissed.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("boot.dismissed.committed").map_err(AppError::internal)?;
    match switch_off(app, node, settings.shutdown_timeout).await {
        Ok(()) => Ok(true),
        Err(error) => power_failed(app, node, error).await.map(|_| false),
    }
}

/// Makes a secret: 32 random bytes, hexadecimal.
fn secret() -> Result<zeroize::Zeroizing<String>, AppError> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| AppError::internal(anyhow::anyhow!("no random bytes: {error}")))?;
    Ok(zeroize::Zeroizing::new(hex::encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn no_room_is_not_blamed_on_the_machine() {
        let failed = |kind: io::ErrorKind| PowerError {
            node: "pc1".parse().expect("a name"),
            what: "boot the memory file system",
            source: kind.into(),
        };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let Doubt { reason, next } = doubt(&failed(kind));
            assert!(reason.contains("of pc1") && reason.ends_with("the state directory is full"), "{reason}");
            assert!(next.contains("make room in the state directory"), "{next}");
        }
        let Doubt { reason, next } = doubt(&failed(io::ErrorKind::PermissionDenied));
        assert!(reason.ends_with("permission denied") && next.contains("power"), "{reason}: {next}");
    }
}
