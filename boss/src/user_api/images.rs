//! Images: listed, registered, retired.

mod check;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::ids::{ImageId, ImageVersionId};
use boss_api::user::{ImageView, RegisterImage};
use boss_api::{ErrorCode, Name};
use boss_db::events::{self, NewEvent};
use boss_db::images::{self, NewVersion};
use boss_db::projects::{self, Project};
use boss_db::views;
use uuid::Uuid;

use super::body::{Body, Segments};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Subject, Verb, authorize};
use crate::auth::extract::ApiUser;
use crate::error::AppError;
use crate::keeping;

/// `GET images`
pub async fn list(State(site): State<Site>, user: ApiUser) -> Result<Json<Vec<ImageView>>, AppError> {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    Ok(Json(views::images(&mut *site.app.pool.acquire().await?, user.subject.scope()).await?))
}

/// `GET images/{project}/{name}`
pub async fn get(
    State(site): State<Site>,
    user: ApiUser,
    Segments((pid, name)): Segments<(Name, Name)>,
) -> Result<Json<ImageView>, AppError> {
    allowed(&site, &user.subject, Verb::See, &pid, &name).await?;
    show(&site, &pid, &name).await.map(Json)
}

/// `POST images`: registers what was uploaded, once everything about it is checked.
pub async fn register(
    State(site): State<Site>,
    user: ApiUser,
    Body(request): Body<RegisterImage>,
) -> Result<(StatusCode, Json<ImageView>), AppError> {
    let project = allowed(&site, &user.subject, Verb::Change, &request.project, &request.name).await?;
    let checked = check::base_image(&site.app, &request).await?;
    let now = site.app.clock.now();
    let mut tx = site.app.begin().await?;
    let image_id = images::ensure(&mut tx, ImageId::new(Uuid::now_v7()), project.id, &request.name, now).await?;
    // The same upload sent again, because its answer was lost, is the version it was.
    let newest = images::versions(&mut tx, &request.project, &request.name).await?.into_iter().next();
    let known = newest.is_some_and(|newest| newest.sealed == request.sealed && newest.retired_at.is_none());
    if !known {
        let new = NewVersion {
            id: ImageVersionId::new(Uuid::now_v7()),
            image_id,
            zdi: checked.statement.zdi,
            zdi_bytes: checked.statement.zdi_bytes,
            sig: checked.statement.sig,
            sig_bytes: checked.sig_bytes,
            root: checked.statement.target_root,
            disk_bytes: checked.manifest.geometry.disk_bytes,
            min_disk_bytes: checked.manifest.min_disk_bytes,
            sealed: &request.sealed,
            key: checked.key,
            at: now,
        };
        keeping::refer(&site.app, &mut tx, checked.statement.zdi).await?;
        keeping::refer(&site.app, &mut tx, checked.statement.sig).await?;
        let version = images::add_version(&mut tx, new).await?;
        let message =
            format!("{} registered the image {}/{}/{version}", user.subject.user.name, project.pid, request.name);
        events::add(&mut tx, event(&user.subject, "image.registered", &message, now)).await?;
    }
    tx.commit().await?;
    site.app.changed.notify_waiters();
    crate::provenance::refresh_image(&site.app, &request.project, &request.name).await?;
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(show(&site, &request.project, &request.name).await?)))
}

/// `POST images/{project}/{name}/{version}/retire`
pub async fn retire(
    State(site): State<Site>,
    user: ApiUser,
    Segments((pid, name, number)): Segments<(Name, Name, u32)>,
) -> Result<Json<ImageView>, AppError> {
    let project = allowed(&site, &user.subject, Verb::Change, &pid, &name).await?;
    let now = site.app.clock.now();
    let mut tx = site.app.begin().await?;
    let versions = images::versions(&mut tx, &pid, &name).await?;
    let missing = || AppError::not_found(format_args!("the image {pid}/{name}/{number}"));
    let version = versions.into_iter().find(|version| version.version == number).ok_or_else(missing)?;
    if version.retired_at.is_some() {
        let text = format!("the image {pid}/{name}/{number} is retired already");
        return Err(AppError::new(ErrorCode::WrongState, text));
    }
    images::retire(&mut tx, version.id, now).await?;
    let message = format!("{} retired the image {}/{name}/{number}", user.subject.user.name, project.pid);
    events::add(&mut tx, event(&user.subject, "image.retired", &message, now)).await?;
    tx.commit().await?;
    show(&site, &pid, &name).await.map(Json)
}

fn event<'a>(subject: &Subject, kind: &'a str, message: &'a str, at: time::OffsetDateTime) -> NewEvent<'a> {
    NewEvent { experiment: None, node: None, user: Some(subject.user.id), kind, message, at }
}

/// Finds the project of an image, if the subject may; another's is as one that does not exist.
async fn allowed(site: &Site, subject: &Subject, verb: Verb, pid: &Name, name: &Name) -> Result<Project, AppError> {
    let missing = || AppError::not_found(format_args!("the image {pid}/{name}"));
    let found = projects::find(&mut *site.app.pool.acquire().await?, pid).await?;
    let project = found.ok_or_else(missing)?;
    authorize(subject, verb, Resource::Images(&project)).map_err(|refusal| match refusal.told().code {
        ErrorCode::NotFound => missing(),
        _ => refusal,
    })?;
    Ok(project)
}

async fn show(site: &Site, pid: &Name, name: &Name) -> Result<ImageView, AppError> {
    let found = views::image(&mut *site.app.pool.acquire().await?, pid, name).await?;
    found.ok_or_else(|| AppError::not_found(format_args!("the image {pid}/{name}")))
}
