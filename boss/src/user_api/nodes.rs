//! Machines.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::user::{JobView, LoadNode, NodeStateView, NodeView};
use boss_api::{ExperimentName, Name};
use boss_db::{experiments, images, views};

use super::body::{Body, Segments};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Subject, Verb, authorize, sees_machine_of};
use crate::auth::extract::ApiUser;
use crate::error::AppError;
use crate::swap;
use boss_api::ErrorCode;

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
    let (node, image) = {
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
        (machine.id, image)
    };
    if image.retired_at.is_some() {
        let text = format!("the image {} is retired; choose a newer version", request.image);
        return Err(AppError::new(ErrorCode::WrongState, text));
    }
    let job = swap::request_load(&site.app, node, image.id, user.subject.user.id).await?;
    let job = views::job(&mut *site.app.pool.acquire().await?, job).await?;
    let job = job.ok_or_else(|| AppError::not_found("the job"))?;
    Ok((StatusCode::ACCEPTED, Json(job.view)))
}
