//! Machines.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::ids::{DiskId, NodeId};
use boss_api::user::{HeldDisks, JobView, KeepNode, LoadNode, NodeStateView, NodeView, PowerConfig, RegisterNode};
use boss_api::{ErrorCode, ExperimentName, Name};
use boss_db::events::{self, NewEvent};
use boss_db::nodes::{self, Disk};
use boss_db::{DbError, experiments, images, views};
use boss_model::node::NodeState;
use uuid::Uuid;

use super::body::{Body, Segments};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Subject, Verb, authorize, sees_machine_of};
use crate::auth::extract::ApiUser;
use crate::error::AppError;
use crate::swap::{self, KeepNote};

/// `GET nodes`
pub async fn list(State(site): State<Site>, user: ApiUser) -> Result<Json<Vec<NodeView>>, AppError> {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let machines = views::machines(&mut *site.app.pool.acquire().await?).await?;
    Ok(Json(machines.into_iter().map(|machine| as_seen_by(&user.subject, machine)).collect()))
}

/// `GET nodes/{name}`
pub async fn get(
    State(site): State<Site>,
    user: ApiUser,
    Segments(name): Segments<Name>,
) -> Result<Json<NodeView>, AppError> {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let found = views::machine(&mut *site.app.pool.acquire().await?, &name).await?;
    let machine = found.ok_or_else(|| no_such_node(&name))?;
    Ok(Json(as_seen_by(&user.subject, machine)))
}

/// Leaves out whose work is on a machine, and what is said about it, unless the subject may see that experiment.
pub fn as_seen_by(subject: &Subject, mut machine: NodeView) -> NodeView {
    let owner = machine.experiment.as_deref().and_then(|name| name.parse::<ExperimentName>().ok());
    if sees_machine_of(subject, owner.as_ref().map(|name| &name.pid)) {
        return machine;
    }
    machine.experiment = None;
    machine.vname = None;
    for disk in &mut machine.disks {
        disk.segments.clear();
    }
    if let NodeStateView::Held { .. } = machine.state {
        let say = |text: &str| text.to_owned();
        machine.state = NodeStateView::Held {
            reason: say("something is wrong with it"),
            owner: say("an operator"),
            next: say("nothing you need to do"),
            disks: HeldDisks::Ours,
            kept: None,
        };
    }
    machine
}

fn no_such_node(name: &Name) -> AppError {
    AppError::new(ErrorCode::NotFound, format!("there is no node {name}; `ebb node list` shows those there are"))
}

/// `POST nodes/{name}/load`
pub async fn load(
    State(site): State<Site>,
    user: ApiUser,
    Segments(name): Segments<Name>,
    Body(request): Body<LoadNode>,
) -> Result<(StatusCode, Json<JobView>), AppError> {
    let (machine, image) = {
        let mut conn = site.app.pool.acquire().await?;
        let machine = views::machine(&mut conn, &name).await?.ok_or_else(|| no_such_node(&name))?;
        let Some(vnode) = experiments::virtual_node_on(&mut conn, machine.id).await? else {
            authorize(&user.subject, Verb::Change, Resource::Machines)?;
            let text = format!("node {name} is in no experiment: what it holds is decided at the next swap-in");
            return Err(AppError::new(ErrorCode::WrongState, text));
        };
        let found = experiments::get(&mut conn, vnode.experiment_id).await?;
        let experiment = found.ok_or_else(|| AppError::not_found(vnode.experiment_id))?;
        authorize(&user.subject, Verb::Change, Resource::MachineOf(experiment.project_id))?;
        let image = images::resolve(&mut conn, experiment.project_id, &request.image).await?.ok_or_else(|| {
            let text = format!("there is no base image {} in project {} or of the site", request.image, experiment.pid);
            AppError::new(ErrorCode::NotFound, text)
        })?;
        ((experiment.id, machine.id), image)
    };
    if image.retired_at.is_some() {
        let text = format!("the image {} is retired; choose a newer version", request.image);
        return Err(AppError::new(ErrorCode::WrongState, text));
    }
    let job = swap::request_load(&site.app, machine, image.id, user.subject.user.id).await?;
    let job = views::job(&mut *site.app.pool.acquire().await?, job).await?;
    let job = job.ok_or_else(|| AppError::not_found("the job"))?;
    Ok((StatusCode::ACCEPTED, Json(job.view)))
}

/// Returns a machine that is held and that the subject may attend to.
async fn attended(site: &Site, subject: &Subject, name: &Name) -> Result<NodeId, AppError> {
    let mut conn = site.app.pool.acquire().await?;
    let machine = nodes::find(&mut conn, name).await?.ok_or_else(|| no_such_node(name))?;
    // One that the database may be wrong about is nobody's, until an operator has looked.
    let is_for_the_site = matches!(&machine.state, NodeState::Held(held) if held.is_for_the_site());
    let resource = match experiments::virtual_node_on(&mut conn, machine.id).await? {
        Some(vnode) if !is_for_the_site => {
            let found = experiments::get(&mut conn, vnode.experiment_id).await?;
            Resource::MachineOf(found.ok_or_else(|| no_such_node(name))?.project_id)
        }
        _ => Resource::Machines,
    };
    authorize(subject, Verb::Attend, resource)?;
    Ok(machine.id)
}

async fn seen_again(site: &Site, subject: &Subject, name: &Name) -> Result<Json<NodeView>, AppError> {
    let found = views::machine(&mut *site.app.pool.acquire().await?, name).await?;
    Ok(Json(as_seen_by(subject, found.ok_or_else(|| no_such_node(name))?)))
}

/// `POST nodes/{name}/retry`
pub async fn retry(
    State(site): State<Site>,
    user: ApiUser,
    Segments(name): Segments<Name>,
) -> Result<Json<NodeView>, AppError> {
    let machine = attended(&site, &user.subject, &name).await?;
    swap::request_node_retry(&site.app, machine, user.subject.user.id).await?;
    seen_again(&site, &user.subject, &name).await
}

/// `POST nodes/{name}/keep`
pub async fn keep(
    State(site): State<Site>,
    user: ApiUser,
    Segments(name): Segments<Name>,
    Body(request): Body<KeepNode>,
) -> Result<Json<NodeView>, AppError> {
    let machine = attended(&site, &user.subject, &name).await?;
    let note = KeepNote::new(request.until, &request.note, site.app.now())?;
    swap::request_keep(&site.app, machine, user.subject.user.id, &note).await?;
    seen_again(&site, &user.subject, &name).await
}

/// The most disks of a machine.
const MAX_DISKS: usize = 32;
const MAX_SERIAL: usize = 128;

/// `POST nodes`: a machine is free from the moment it is registered; what its disks hold is not known.
pub async fn register(
    State(site): State<Site>,
    user: ApiUser,
    Body(request): Body<RegisterNode>,
) -> Result<(StatusCode, Json<NodeView>), AppError> {
    authorize(&user.subject, Verb::Change, Resource::Machines)?;
    check(&request).map_err(|text| AppError::new(ErrorCode::BadRequest, text))?;
    let now = site.app.clock.now();
    let id = NodeId::new(Uuid::now_v7());
    let mut tx = site.app.begin().await?;
    nodes::add(&mut tx, id, &request.name, &request.power, now).await.map_err(|error| taken(error, &request.name))?;
    for (position, disk) in (0..).zip(&request.disks) {
        let new = Disk {
            id: DiskId::new(Uuid::now_v7()),
            node_id: id,
            name: disk.name.clone(),
            serial: disk.serial.clone(),
            bytes: disk.bytes,
            sector_size: disk.sector_size,
            position,
        };
        nodes::add_disk(&mut tx, &new).await.map_err(|error| taken(error, &disk.name))?;
    }
    let message = format!("{} registered the machine with {} disks", user.subject.user.name, request.disks.len());
    let event = NewEvent {
        experiment: None,
        node: Some(id),
        user: Some(user.subject.user.id),
        kind: "node.registered",
        message: &message,
        at: now,
    };
    events::add(&mut tx, event).await?;
    tx.commit().await?;
    site.app.changed.notify_waiters();
    let made = views::machine(&mut *site.app.pool.acquire().await?, &request.name).await?;
    Ok((StatusCode::CREATED, Json(made.ok_or_else(|| no_such_node(&request.name))?)))
}

fn check(request: &RegisterNode) -> Result<(), String> {
    let name = &request.name;
    if request.disks.is_empty() || request.disks.len() > MAX_DISKS {
        return Err(format!("node {name} has {} disks; 1 to {MAX_DISKS} are accepted", request.disks.len()));
    }
    for disk in &request.disks {
        let printable = disk.serial.bytes().all(|b| b.is_ascii_graphic());
        if !printable || disk.serial.is_empty() || disk.serial.len() > MAX_SERIAL {
            return Err(format!("disk {}: a serial number has 1 to {MAX_SERIAL} printable characters", disk.name));
        }
        if disk.bytes.is_zero() || i64::try_from(disk.bytes.get()).is_err() {
            return Err(format!("disk {}: it cannot have {} bytes", disk.name, disk.bytes));
        }
    }
    let PowerConfig::Process { disks: files } = &request.power;
    for disk in &request.disks {
        let file = files.get(&disk.name).ok_or_else(|| format!("disk {}: power says no file for it", disk.name))?;
        let absolute = file.starts_with('/') && !file.split('/').any(|part| part == "..") && !file.contains('\0');
        if !absolute {
            return Err(format!("disk {}: {file:?} is not an absolute path without ..", disk.name));
        }
    }
    match files.keys().find(|own| request.disks.iter().all(|disk| disk.name != **own)) {
        Some(stray) => Err(format!("power names a file for disk {stray}, which node {name} does not have")),
        None => Ok(()),
    }
}

fn taken(error: DbError, name: &Name) -> AppError {
    let DbError::Constraint { constraint } = &error else { return error.into() };
    let text = match constraint.as_str() {
        "nodes_name_key" => format!("there is a node {name} already; choose another name"),
        "disks_name_key" => format!("two disks are called {name}; each needs a name of its own"),
        "disks_serial_key" => format!("disk {name}: another registered disk has this serial number"),
        _ => return error.into(),
    };
    AppError::new(ErrorCode::Conflict, text)
}
