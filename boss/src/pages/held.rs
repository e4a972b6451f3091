//! What the forms of an experiment's page ask for when something is held, or is to be undone.

use axum::extract::State;
use boss_api::user::Confirmation;
use boss_api::{ErrorCode, Name};
use boss_db::experiments;
use time::macros::{format_description, time};
use time::{Date, OffsetDateTime};

use super::Page;
use super::experiment::{answer, ask};
use crate::auth::extract::{Fields, Posted, WebExperiment, WebHeld};
use crate::auth::{Site, confirm};
use crate::error::AppError;
use crate::swap::{self, KeepNote};

/// `POST experiments/{pid}/{eid}/retry`
pub async fn retry(State(site): State<Site>, WebHeld(of): WebHeld, posted: Posted) -> Page {
    let full = posted.fields.is_ticked("full");
    ask(&site, &of, async |app, id, by| swap::request_retry(&app, id, by, full).await).await
}

/// `POST experiments/{pid}/{eid}/cancel`
pub async fn cancel(State(site): State<Site>, of: WebExperiment, _posted: Posted) -> Page {
    ask(&site, &of, async |app, id, by| swap::request_cancel(&app, id, by).await).await
}

/// `POST experiments/{pid}/{eid}/keep`
pub async fn keep(State(site): State<Site>, WebHeld(of): WebHeld, posted: Posted) -> Page {
    let done = leave_note(&site, &of, &posted.fields).await;
    answer(&site, &of, done).await
}

async fn leave_note(site: &Site, of: &WebExperiment, fields: &Fields) -> Result<(), AppError> {
    let vname = vname(fields)?;
    let note = KeepNote::new(end_of(fields.text("until"))?, fields.text("note"), site.app.now())?;
    let all = experiments::virtual_nodes(&mut *site.app.pool.acquire().await?, of.experiment.id).await?;
    let node = all.into_iter().find(|node| node.vname == vname).and_then(|node| node.node_id);
    let node = node.ok_or_else(|| AppError::new(ErrorCode::WrongState, format!("{vname} has no machine")))?;
    swap::request_keep(&site.app, node, of.user.subject.user.id, &note).await
}

/// Understands a day as a browser sends it, and means its last second.
fn end_of(day: &str) -> Result<OffsetDateTime, AppError> {
    let day = Date::parse(day, format_description!("[year]-[month]-[day]"));
    let day = day.map_err(|_| AppError::new(ErrorCode::BadRequest, "say until which day, such as 2026-12-24"))?;
    Ok(day.with_time(time!(23:59:59)).assume_utc())
}

fn vname(fields: &Fields) -> Result<Name, AppError> {
    fields.text("vname").parse().map_err(|_| AppError::new(ErrorCode::BadRequest, "the form names no node"))
}

fn confirmation(fields: &Fields) -> Confirmation {
    let password = fields.get("password").unwrap_or_default().to_owned();
    Confirmation { typed: fields.text("typed").to_owned(), password }
}

/// `POST experiments/{pid}/{eid}/discard`
pub async fn discard(State(site): State<Site>, of: WebExperiment, posted: Posted) -> Page {
    let done = async {
        let vname = vname(&posted.fields)?;
        let said = confirmation(&posted.fields);
        let confirmed = confirm::to_discard(&site, &of.user.subject, &of.experiment, &said).await?;
        swap::request_discard(&site.app, of.experiment.id, &vname, &confirmed).await.map(drop)
    };
    let done = done.await;
    answer(&site, &of, done).await
}

/// `POST experiments/{pid}/{eid}/give-up`: confirmed where the page asked for that, because a node runs already.
pub async fn give_up(State(site): State<Site>, of: WebExperiment, posted: Posted) -> Page {
    let done = async {
        let confirmed = match posted.fields.get("password") {
            Some(_) => {
                let said = confirmation(&posted.fields);
                Some(confirm::to_discard(&site, &of.user.subject, &of.experiment, &said).await?)
            }
            None => None,
        };
        let by = of.user.subject.user.id;
        swap::request_give_up(&site.app, of.experiment.id, by, confirmed.as_ref()).await.map(drop)
    };
    let done = done.await;
    answer(&site, &of, done).await
}
