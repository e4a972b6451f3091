//! Experiments: made, shown, changed, and what can be asked for with them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::ErrorCode;
use boss_api::ids::{ExperimentId, JobId, VirtualNodeId};
use boss_api::user::{
    CreateExperiment, DiscardNode, EventView, ExperimentView, GiveUp, JobView, MAX_VIRTUAL_NODES, ModifyExperiment,
    RetryHeld, SwapPointView, VirtualNodeSpec,
};
use boss_db::events::{self, NewEvent};
use boss_db::experiments::{self, Experiment, NewExperiment};
use boss_db::projects::{self, Project};
use boss_db::{DbError, PgConnection, images, views};
use uuid::Uuid;

use super::body::Body;
use crate::auth::authorize::{Resource, Subject, Verb, authorize};
use crate::auth::extract::{ApiExperiment, ApiHeld, ApiUser};
use crate::auth::{Site, confirm};
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
    let id = make(&site, &user.subject, &request).await.map_err(|refused| refused.error)?;
    let mut conn = site.app.pool.acquire().await?;
    let made = experiments::get(&mut conn, id).await?.ok_or_else(|| AppError::not_found(&request.eid))?;
    Ok((StatusCode::CREATED, Json(views::experiment(&mut conn, &made).await?)))
}

/// Which part of a request was refused, so that a form can say it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The project.
    Project,
    /// The name.
    Name,
    /// The nodes as a whole.
    Nodes,
    /// A node, by its place in the request.
    Node(usize),
    /// None of them.
    Elsewhere,
}

/// A request that was refused, and where.
#[derive(Debug)]
pub struct Refused {
    /// Where.
    pub place: Place,
    /// Why.
    pub error: AppError,
}

impl<E: Into<AppError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { place: Place::Elsewhere, error: error.into() }
    }
}

fn refused(place: Place, code: ErrorCode, message: String) -> Refused {
    Refused { place, error: AppError::new(code, message) }
}

/// Makes an experiment, swapped out, with all its virtual nodes, or nothing.
///
/// # Errors
/// [`Refused`] with one sentence for what is wrong.
pub async fn make(site: &Site, subject: &Subject, request: &CreateExperiment) -> Result<ExperimentId, Refused> {
    if request.nodes.is_empty() || request.nodes.len() > MAX_VIRTUAL_NODES {
        let count = request.nodes.len();
        let text = format!("an experiment has 1 to {MAX_VIRTUAL_NODES} nodes, this one would have {count}");
        return Err(refused(Place::Nodes, ErrorCode::BadRequest, text));
    }
    let now = site.app.clock.now();
    let mut tx = site.app.begin().await?;
    let missing =
        || Refused { place: Place::Project, error: AppError::not_found(format_args!("the project {}", request.pid)) };
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
    for (index, node) in request.nodes.iter().enumerate() {
        add_node(&mut tx, &project, id, node).await.map_err(|error| Refused { place: Place::Node(index), error })?;
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

async fn add_node(
    conn: &mut PgConnection,
    project: &Project,
    experiment: ExperimentId,
    node: &VirtualNodeSpec,
) -> Result<(), AppError> {
    let (vname, image) = (&node.vname, &node.image);
    let missing = || {
        let text = format!("node {vname}: there is no base image {image} in project {} or of the site", project.pid);
        AppError::new(ErrorCode::NotFound, text)
    };
    let version = images::resolve(conn, project.id, image).await?.ok_or_else(missing)?;
    if version.retired_at.is_some() {
        let text = format!("node {vname}: the image {image} is retired; choose a newer version");
        return Err(AppError::new(ErrorCode::WrongState, text));
    }
    let id = VirtualNodeId::new(Uuid::now_v7());
    experiments::add_virtual_node(conn, id, experiment, vname, version.id).await.map_err(|error| match error {
        DbError::Constraint { constraint } if constraint == "virtual_nodes_vname_key" => {
            AppError::new(ErrorCode::BadRequest, format!("two nodes are called {vname}; each needs a name of its own"))
        }
        other => other.into(),
    })
}

fn taken(error: DbError, request: &CreateExperiment) -> Refused {
    match error {
        DbError::Constraint { constraint } if constraint == "experiments_eid_key" => {
            let (pid, eid) = (&request.pid, &request.eid);
            let text = format!("project {pid} has an experiment {eid} already; choose another name");
            refused(Place::Name, ErrorCode::Conflict, text)
        }
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

/// `POST experiments/{pid}/{eid}/cancel`
pub async fn cancel(State(site): State<Site>, of: ApiExperiment) -> Result<(StatusCode, Json<JobView>), AppError> {
    asked(&site, swap::request_cancel(&site.app, of.experiment.id, of.subject.user.id).await?).await
}

/// `POST experiments/{pid}/{eid}/retry`
pub async fn retry(
    State(site): State<Site>,
    of: ApiHeld,
    Body(request): Body<RetryHeld>,
) -> Result<(StatusCode, Json<JobView>), AppError> {
    let by = of.subject.user.id;
    asked(&site, swap::request_retry(&site.app, of.experiment.id, by, request.full_image).await?).await
}

/// `POST experiments/{pid}/{eid}/discard`
pub async fn discard(
    State(site): State<Site>,
    of: ApiExperiment,
    Body(request): Body<DiscardNode>,
) -> Result<(StatusCode, Json<JobView>), AppError> {
    let confirmed = confirm::to_discard(&site, &of.subject, &of.experiment, &request.confirmation).await?;
    asked(&site, swap::request_discard(&site.app, of.experiment.id, &request.vname, &confirmed).await?).await
}

/// `POST experiments/{pid}/{eid}/giveup`
pub async fn give_up(
    State(site): State<Site>,
    of: ApiExperiment,
    Body(request): Body<GiveUp>,
) -> Result<(StatusCode, Json<JobView>), AppError> {
    let confirmed = match &request.confirmation {
        Some(confirmation) => Some(confirm::to_discard(&site, &of.subject, &of.experiment, confirmation).await?),
        None => None,
    };
    let by = of.subject.user.id;
    asked(&site, swap::request_give_up(&site.app, of.experiment.id, by, confirmed.as_ref()).await?).await
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
