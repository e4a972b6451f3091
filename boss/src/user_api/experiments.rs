//! Experiments: made, shown, changed, and what can be asked for with them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::ErrorCode;
use boss_api::ids::{ExperimentId, JobId, VirtualNodeId};
use boss_api::user::{
    CreateExperiment, EventView, ExperimentView, JobView, MAX_VIRTUAL_NODES, ModifyExperiment, SwapPointView,
};
use boss_db::events::{self, NewEvent};
use boss_db::experiments::{self, Experiment, NewExperiment};
use boss_db::{DbError, images, projects, views};
use uuid::Uuid;

use super::body::Body;
use crate::auth::Site;
use crate::auth::authorize::{Resource, Subject, Verb, authorize};
use crate::auth::extract::{ApiExperiment, ApiUser};
use crate::error::AppError;
use crate::swap;

/// How many events are shown.
pub const EVENTS_SHOWN: u16 = 200;

/// `GET experiments`
pub async fn list(State(site): State<Site>, user: ApiUser) -> Result<Json<Vec<ExperimentView>>, AppError> {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let mut conn = site.app.pool.acquire().await?;
    let own = experiments::visible(&mut conn, user.subject.scope()).await?;
    Ok(Json(views::experiments(&mut conn, &own).await?))
}

/// `POST experiments`
pub async fn create(
    State(site): State<Site>,
    user: ApiUser,
    Body(request): Body<CreateExperiment>,
) -> Result<(StatusCode, Json<ExperimentView>), AppError> {
    let id = make(&site, &user.subject, &request).await?;
    let mut conn = site.app.pool.acquire().await?;
    let made = experiments::get(&mut conn, id).await?.ok_or_else(|| AppError::not_found(&request.eid))?;
    Ok((StatusCode::CREATED, Json(views::experiment(&mut conn, &made).await?)))
}

/// Makes an experiment, swapped out, with all its virtual nodes, or nothing.
///
/// # Errors
/// [`AppError`] with one sentence for what is wrong.
pub async fn make(site: &Site, subject: &Subject, request: &CreateExperiment) -> Result<ExperimentId, AppError> {
    let refuse = |text: String| Err(AppError::new(ErrorCode::BadRequest, text));
    if request.nodes.is_empty() || request.nodes.len() > MAX_VIRTUAL_NODES {
        let count = request.nodes.len();
        return refuse(format!("an experiment has 1 to {MAX_VIRTUAL_NODES} nodes, this one would have {count}"));
    }
    let now = site.app.clock.now();
    let mut tx = site.app.pool.begin().await?;
    let missing = || AppError::not_found(format_args!("the project {}", request.pid));
    let project = projects::find(&mut tx, &request.pid).await?.ok_or_else(missing)?;
    authorize(subject, Verb::Change, Resource::Project(project.id)).map_err(|_| missing())?;

    let id = ExperimentId::new(Uuid::now_v7());
    let new = NewExperiment {
        id,
        project_id: project.id,
        eid: &request.eid,
        save_swap_state: request.save_swap_state,
        creator_id: subject.user.id,
        at: now,
    };
    experiments::add(&mut tx, new).await.map_err(|error| taken(error, request))?;
    for node in &request.nodes {
        let version = images::resolve(&mut tx, project.id, &node.image).await?.ok_or_else(|| {
            let image = &node.image;
            let text = format!(
                "node {}: there is no base image {image} in project {} or of the site",
                node.vname, request.pid
            );
            AppError::new(ErrorCode::NotFound, text)
        })?;
        if version.retired_at.is_some() {
            let text = format!("node {}: the image {} is retired; choose a newer version", node.vname, node.image);
            return Err(AppError::new(ErrorCode::WrongState, text));
        }
        let vnode = VirtualNodeId::new(Uuid::now_v7());
        experiments::add_virtual_node(&mut tx, vnode, id, &node.vname, version.id).await.map_err(
            |error| match error {
                DbError::Constraint { constraint } if constraint == "virtual_nodes_vname_key" => AppError::new(
                    ErrorCode::BadRequest,
                    format!("two nodes are called {}; names are unique", node.vname),
                ),
                other => other.into(),
            },
        )?;
    }
    let message = format!("{} made the experiment with {} nodes", subject.user.name, request.nodes.len());
    let event = NewEvent {
        experiment: Some(id),
        node: None,
        user: Some(subject.user.id),
        kind: "experiment.made",
        message: &message,
        at: now,
    };
    events::add(&mut tx, event).await?;
    tx.commit().await?;
    Ok(id)
}

fn taken(error: DbError, request: &CreateExperiment) -> AppError {
    match error {
        DbError::Constraint { constraint } if constraint == "experiments_eid_key" => AppError::new(
            ErrorCode::Conflict,
            format!("project {} has an experiment {} already; choose another name", request.pid, request.eid),
        ),
        other => other.into(),
    }
}

async fn show(site: &Site, id: ExperimentId) -> Result<Json<ExperimentView>, AppError> {
    let mut conn = site.app.pool.acquire().await?;
    let now = experiments::get(&mut conn, id).await?.ok_or_else(|| AppError::not_found(id))?;
    Ok(Json(views::experiment(&mut conn, &now).await?))
}

/// `GET experiments/{pid}/{eid}`
pub async fn get(State(site): State<Site>, of: ApiExperiment) -> Result<Json<ExperimentView>, AppError> {
    show(&site, of.experiment.id).await
}

/// `PATCH experiments/{pid}/{eid}`
pub async fn modify(
    State(site): State<Site>,
    of: ApiExperiment,
    Body(change): Body<ModifyExperiment>,
) -> Result<Json<ExperimentView>, AppError> {
    if let Some(save) = change.save_swap_state {
        set_save_swap_state(&site, &of.subject, &of.experiment, save).await?;
    }
    show(&site, of.experiment.id).await
}

/// Changes the *Save swap state* box, and notes who did.
///
/// # Errors
/// [`AppError`] when the experiment has ended.
pub async fn set_save_swap_state(
    site: &Site,
    subject: &Subject,
    experiment: &Experiment,
    save: bool,
) -> Result<(), AppError> {
    swap::set_save_swap_state(&site.app, experiment.id, save).await?;
    let message = match save {
        true => format!("{} switched Save swap state on", subject.user.name),
        false => format!("{} switched Save swap state off", subject.user.name),
    };
    let event = NewEvent {
        experiment: Some(experiment.id),
        node: None,
        user: Some(subject.user.id),
        kind: "experiment.save-swap-state",
        message: &message,
        at: site.app.clock.now(),
    };
    events::add(&mut *site.app.pool.acquire().await?, event).await?;
    Ok(())
}

async fn asked(site: &Site, job: JobId) -> Result<(StatusCode, Json<JobView>), AppError> {
    let mut conn = site.app.pool.acquire().await?;
    let job = views::job(&mut conn, job).await?.ok_or_else(|| AppError::not_found(format_args!("the job {job}")))?;
    Ok((StatusCode::ACCEPTED, Json(job.view)))
}

/// `POST experiments/{pid}/{eid}/swapin`
pub async fn swap_in(State(site): State<Site>, of: ApiExperiment) -> Result<(StatusCode, Json<JobView>), AppError> {
    asked(&site, swap::request_swap_in(&site.app, of.experiment.id, of.subject.user.id).await?).await
}

/// `POST experiments/{pid}/{eid}/swapout`
pub async fn swap_out(State(site): State<Site>, of: ApiExperiment) -> Result<(StatusCode, Json<JobView>), AppError> {
    asked(&site, swap::request_swap_out(&site.app, of.experiment.id, of.subject.user.id).await?).await
}

/// `POST experiments/{pid}/{eid}/terminate`
pub async fn terminate(State(site): State<Site>, of: ApiExperiment) -> Result<(StatusCode, Json<JobView>), AppError> {
    asked(&site, swap::request_terminate(&site.app, of.experiment.id, of.subject.user.id).await?).await
}

/// `POST experiments/{pid}/{eid}/retry`
pub async fn retry(State(site): State<Site>, of: ApiExperiment) -> Result<(StatusCode, Json<JobView>), AppError> {
    asked(&site, swap::request_retry(&site.app, of.experiment.id, of.subject.user.id).await?).await
}

/// `GET experiments/{pid}/{eid}/points`
pub async fn points(State(site): State<Site>, of: ApiExperiment) -> Result<Json<Vec<SwapPointView>>, AppError> {
    Ok(Json(views::points(&mut *site.app.pool.acquire().await?, of.experiment.id).await?))
}

/// `GET experiments/{pid}/{eid}/events`
pub async fn events(State(site): State<Site>, of: ApiExperiment) -> Result<Json<Vec<EventView>>, AppError> {
    let mut conn = site.app.pool.acquire().await?;
    Ok(Json(events::of_experiment(&mut conn, of.experiment.id, EVENTS_SHOWN).await?))
}
