//! Machines and images, to look at.

use axum::extract::State;
use axum::http::StatusCode;
use boss_db::views;
use web::pages::{ImagesPage, NodesPage};
use web::parts::Section;

use super::experiments::frame;
use super::{Page, show};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Verb, authorize};
use crate::auth::extract::WebUser;
use crate::user_api::nodes::as_seen_by;

/// `GET nodes`
pub async fn nodes(State(site): State<Site>, user: WebUser) -> Page {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let machines = views::machines(&mut *site.app.pool.acquire().await?).await?;
    let nodes = machines.into_iter().map(|machine| as_seen_by(&user.subject, machine)).collect();
    Ok(show(StatusCode::OK, &NodesPage { frame: frame(&user, Section::Nodes), nodes }))
}

/// `GET images`
pub async fn images(State(site): State<Site>, user: WebUser) -> Page {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let images = views::images(&mut *site.app.pool.acquire().await?, user.subject.scope()).await?;
    Ok(show(StatusCode::OK, &ImagesPage { frame: frame(&user, Section::Images), images }))
}
