//! The list of experiments.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use boss_db::{experiments, views};
use web::pages::ExperimentsPage;
use web::parts::{Frame, Section};
use web::urls;

use super::{Page, show};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Verb, authorize};
use crate::auth::extract::WebUser;

/// `GET /`
pub async fn home(_user: WebUser) -> Response {
    Redirect::to(urls::EXPERIMENTS).into_response()
}

/// `GET experiments`
pub async fn list(State(site): State<Site>, user: WebUser) -> Page {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let mut conn = site.app.pool.acquire().await?;
    let own = experiments::visible(&mut conn, user.subject.scope()).await?;
    let page = ExperimentsPage {
        frame: frame(&user, Section::Experiments),
        experiments: views::experiments(&mut conn, &own).await?,
        can_create: !user.subject.projects.is_empty(),
    };
    Ok(show(StatusCode::OK, &page))
}

/// Makes the frame of a user's page.
pub(super) fn frame(user: &WebUser, section: Section) -> Frame {
    Frame::for_user(user.subject.user.name.clone(), &user.csrf_token, section)
}
