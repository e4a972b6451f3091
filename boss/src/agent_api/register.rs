//! The exchange of a boot token for the agent's own secret.

use axum::Json;
use axum::extract::State;
use boss_api::ErrorCode;
use boss_api::agent::{FoundDisk, PROTOCOL, Register, Registered};
use boss_db::boots::{self, BootState};
use boss_db::nodes::{self, Disk};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::auth::over;
use crate::app::App;
use crate::error::AppError;
use crate::reconcile::hold::{Doubt, hold_within};
use crate::swap::note;
use crate::user_api::body::Body;

/// `POST register`: once per boot; repeating it with the same secret changes nothing, another secret revokes both.
pub(super) async fn register(
    State(app): State<App>,
    Body(request): Body<Register>,
) -> Result<Json<Registered>, AppError> {
    if request.protocol != PROTOCOL {
        let (theirs, ours) = (request.protocol, PROTOCOL);
        let text = format!("the agent speaks protocol {theirs}, this boss {ours}: install the agent of this release");
        return Err(AppError::new(ErrorCode::BadRequest, text));
    }
    let token_hash: [u8; 32] = Sha256::digest(request.boot_token.as_bytes()).into();
    let secret_hash = request.secret_hash.as_bytes();
    let mut tx = app.begin().await?;
    let boot = boots::lock_by_token(&mut tx, &token_hash)
        .await?
        .ok_or_else(|| AppError::new(ErrorCode::NotAllowed, "this boot token is not known"))?;
    let node = nodes::get(&mut tx, boot.node_id).await?.ok_or_else(over)?;
    if boot.epoch != node.epoch {
        return Err(over());
    }
    match boot.state {
        BootState::Registered => {
            let same = boot.secret_hash.is_some_and(|known| bool::from(known.as_slice().ct_eq(secret_hash)));
            if same {
                return Ok(Json(Registered { epoch: boot.epoch }));
            }
            boots::revoke(&mut tx, boot.id).await?;
            let message = format!("two agents claimed the same boot of {}: neither is believed", node.name);
            note(&app, &mut tx, None, Some(node.id), "boot.revoked", &message).await?;
            let next = "find out who has the machine's boot token, then retry the experiment";
            hold_within(&app, &mut tx, node.id, Doubt::new("two agents claimed the same boot", next)).await?;
            tx.commit().await?;
            app.changed.notify_waiters();
            Err(AppError::new(ErrorCode::NotAllowed, "this boot token was claimed twice: both claims are revoked"))
        }
        BootState::Ended | BootState::Revoked => Err(over()),
        BootState::Booting if app.now() > boot.expires_at => {
            Err(AppError::new(ErrorCode::Stale, "this boot token has expired: stop"))
        }
        BootState::Booting => {
            let registered = nodes::disks(&mut tx, node.id).await?;
            if let Err(difference) = compare(&registered, &request.disks) {
                boots::end(&mut tx, boot.id).await?;
                let next = "put the machine's disks right, or register them anew, then retry the experiment";
                hold_within(&app, &mut tx, node.id, Doubt::new(difference.clone(), next)).await?;
                tx.commit().await?;
                app.changed.notify_waiters();
                return Err(AppError::new(ErrorCode::WrongState, difference));
            }
            boots::register(&mut tx, boot.id, secret_hash, app.now()).await?;
            failpoints::hit("register.before-commit").map_err(AppError::internal)?;
            tx.commit().await?;
            failpoints::hit("register.committed").map_err(AppError::internal)?;
            app.changed.notify_waiters();
            Ok(Json(Registered { epoch: boot.epoch }))
        }
    }
}

/// Says how the disks that were found differ from those that are registered.
fn compare(registered: &[Disk], found: &[FoundDisk]) -> Result<(), String> {
    for disk in registered {
        let Some(there) = found.iter().find(|there| there.name == disk.name) else {
            return Err(format!("disk {} ({}) is missing", disk.name, disk.serial));
        };
        if there.serial != disk.serial {
            let serial: String = there.serial.chars().take(128).collect();
            return Err(format!("disk {} has the serial {serial:?}, registered is {:?}", disk.name, disk.serial));
        }
        if there.bytes != disk.bytes {
            return Err(format!("disk {} has {} bytes, registered are {}", disk.name, there.bytes, disk.bytes));
        }
    }
    match found.iter().find(|there| !registered.iter().any(|disk| disk.name == there.name)) {
        // What is not registered would neither be saved nor sanitized.
        Some(extra) => Err(format!("disk {} is not registered", extra.name)),
        None if found.len() == registered.len() => Ok(()),
        None => Err("a disk was reported twice".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use boss_api::Name;
    use boss_api::ids::{DiskId, NodeId};
    use sigs::{ByteLen, SectorSize};
    use uuid::Uuid;

    use super::*;

    fn found(name: &str, serial: &str, bytes: u64) -> FoundDisk {
        let (name, bytes) = (Name::new(name).unwrap(), ByteLen::new(bytes));
        FoundDisk { name, serial: serial.into(), bytes, sector_size: SectorSize::S512 }
    }

    #[test]
    fn every_difference_of_disks_is_named() {
        let disk = Disk {
            id: DiskId::new(Uuid::nil()),
            node_id: NodeId::new(Uuid::nil()),
            name: Name::new("sda").unwrap(),
            serial: "S1".into(),
            bytes: ByteLen::new(10),
            sector_size: SectorSize::S512,
            position: 0,
        };
        let differs = |found: &[FoundDisk]| compare(std::slice::from_ref(&disk), found).unwrap_err();
        assert_eq!(compare(std::slice::from_ref(&disk), &[found("sda", "S1", 10)]), Ok(()));
        assert!(differs(&[]).contains("missing"));
        assert!(differs(&[found("sda", "S2", 10)]).contains("serial"));
        assert!(differs(&[found("sda", "S1", 11)]).contains("bytes"));
        assert!(differs(&[found("sda", "S1", 10), found("sdb", "S3", 1)]).contains("not registered"));
        assert!(differs(&[found("sda", "S1", 10), found("sda", "S1", 10)]).contains("twice"));
    }
}
