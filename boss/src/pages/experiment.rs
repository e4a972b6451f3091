//! The page of an experiment, and what its forms ask for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use boss_api::ids::{ExperimentId, JobId, UserId};
use boss_db::experiments::{self, Experiment};
use boss_db::{events, views};
use web::pages::{ConfirmSwapOutPage, ExperimentPage};
use web::parts::Section;
use web::urls;

use super::experiments::frame;
use super::{Page, PageError, show};
use crate::app::App;
use crate::auth::Site;
use crate::auth::authorize::{Resource, Verb, authorize};
use crate::auth::confirm::not_its_name;
use crate::auth::extract::{Posted, WebExperiment};
use crate::error::AppError;
use crate::swap;
use crate::user_api::experiments::set_save_swap_state;

const EVENTS_SHOWN: u16 = 30;

/// `GET experiments/{pid}/{eid}`
pub async fn get(State(site): State<Site>, of: WebExperiment) -> Page {
    Ok(show(StatusCode::OK, &page(&site, &of).await?))
}

async fn page(site: &Site, of: &WebExperiment) -> Result<ExperimentPage, PageError> {
    let subject = &of.user.subject;
    let mut conn = site.app.pool.acquire().await?;
    let experiment = again(&mut conn, &of.experiment).await?;
    let view = views::experiment(&mut conn, &experiment).await?;
    let page = ExperimentPage::new(frame(&of.user, Section::Experiments), view, site.app.clock.now());
    let may = |verb| authorize(subject, verb, Resource::Experiment(experiment.project_id)).is_ok();
    Ok(ExperimentPage {
        may_change: may(Verb::Change),
        may_attend: may(Verb::Attend),
        may_discard: may(Verb::Discard),
        points: views::points(&mut conn, experiment.id).await?,
        events: events::of_experiment(&mut conn, experiment.id, EVENTS_SHOWN).await?,
        last_job: views::last_job(&mut conn, experiment.id).await?,
        ..page
    })
}

/// Reads the experiment as it is now: the one found with the request may be older than what was just done.
async fn again(conn: &mut boss_db::PgConnection, old: &Experiment) -> Result<Experiment, AppError> {
    let found = experiments::get(conn, old.id).await?;
    found.ok_or_else(|| AppError::not_found(format_args!("the experiment {}", old.full_name())))
}

/// Shows the page with what was refused, or goes back to it.
pub(super) async fn answer(site: &Site, of: &WebExperiment, done: Result<(), AppError>) -> Page {
    match done {
        Ok(()) => Ok(to_page(of)),
        Err(refusal) => {
            refusal.log();
            let problem = Some(refusal.told().message.clone());
            let page = ExperimentPage { problem, ..page(site, of).await? };
            Ok(show(refusal.status(), &page))
        }
    }
}

fn to_page(of: &WebExperiment) -> Response {
    Redirect::to(&urls::experiment(&of.experiment.full_name())).into_response()
}

/// `POST experiments/{pid}/{eid}/save-swap-state`
pub async fn save(State(site): State<Site>, of: WebExperiment, posted: Posted) -> Page {
    let wanted = posted.fields.is_ticked("save");
    let done = set_save_swap_state(&site, &of.user.subject, &of.experiment, wanted).await;
    answer(&site, &of, done).await
}

pub(super) async fn ask<F>(
    site: &Site,
    of: &WebExperiment,
    request: impl FnOnce(App, ExperimentId, UserId) -> F,
) -> Page
where
    F: Future<Output = Result<JobId, AppError>>,
{
    let done = request(site.app.clone(), of.experiment.id, of.user.subject.user.id).await;
    answer(site, of, done.map(drop)).await
}

/// `POST experiments/{pid}/{eid}/swap-in`
pub async fn swap_in(State(site): State<Site>, of: WebExperiment, _posted: Posted) -> Page {
    ask(&site, &of, async |app, id, by| swap::request_swap_in(&app, id, by).await).await
}

/// `GET experiments/{pid}/{eid}/swap-out`: asks once more when nothing would be saved.
pub async fn confirm_swap_out(State(site): State<Site>, of: WebExperiment) -> Page {
    if of.experiment.save_swap_state {
        return Ok(to_page(&of));
    }
    Ok(show(StatusCode::OK, &confirm(&site, &of, "", None).await?))
}

async fn confirm(
    site: &Site,
    of: &WebExperiment,
    typed: &str,
    problem: Option<String>,
) -> Result<ConfirmSwapOutPage, PageError> {
    let mut conn = site.app.pool.acquire().await?;
    let view = views::experiment(&mut conn, &of.experiment).await?;
    Ok(ConfirmSwapOutPage { frame: frame(&of.user, Section::Experiments), view, typed: typed.into(), problem })
}

/// `POST experiments/{pid}/{eid}/swap-out`
pub async fn swap_out(State(site): State<Site>, of: WebExperiment, posted: Posted) -> Page {
    if !of.experiment.save_swap_state {
        let typed = posted.fields.text("typed");
        if typed != of.experiment.eid.as_str() {
            // Also who saw the box on, and had it switched off by somebody else before the form came in, is asked.
            let problem = posted.fields.get("typed").map(|_| not_its_name(&of.experiment));
            return Ok(show(StatusCode::CONFLICT, &confirm(&site, &of, typed, problem).await?));
        }
    }
    let saves = of.experiment.save_swap_state;
    ask(&site, &of, async |app, id, by| swap::request_swap_out_as_seen(&app, id, by, saves).await).await
}

/// `POST experiments/{pid}/{eid}/terminate`
pub async fn terminate(State(site): State<Site>, of: WebExperiment, posted: Posted) -> Page {
    if posted.fields.text("typed") != of.experiment.eid.as_str() {
        let terminate_problem = Some(not_its_name(&of.experiment));
        let page = ExperimentPage { terminate_problem, ..page(&site, &of).await? };
        return Ok(show(StatusCode::CONFLICT, &page));
    }
    match swap::request_terminate(&site.app, of.experiment.id, of.user.subject.user.id).await {
        // Its page may be gone in a moment.
        Ok(_) => Ok(Redirect::to(urls::EXPERIMENTS).into_response()),
        Err(refusal) => answer(&site, &of, Err(refusal)).await,
    }
}
