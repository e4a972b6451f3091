//! Tokens for programs.

use std::str::FromStr as _;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::user::{LoginAnswer, LoginRequest, Whoami};
use boss_api::{ErrorCode, Name};
use boss_db::sessions::{self, SessionKind};
use boss_db::users::{self, User};

use super::body::Body;
use crate::auth::extract::ApiUser;
use crate::auth::{Site, session};
use crate::error::AppError;

/// Checks a name and a password. The answer, and the time it takes, are the same for a wrong name and a wrong password.
///
/// # Errors
/// Not signed in, or unavailable while the account is slowed down.
pub async fn check_password(site: &Site, name: &str, password: String) -> Result<User, AppError> {
    let wrong = || AppError::new(ErrorCode::NotSignedIn, "this is not a user and the user's password");
    let now = site.app.clock.now();
    // What cannot be a name is counted too, together, so that it cannot fill the memory.
    let name = Name::from_str(name).ok();
    let account = name.as_ref().map_or("", Name::as_str);
    if let Some(wait) = site.throttle.wait(account, now) {
        return Err(AppError::new(
            ErrorCode::Unavailable,
            format!("too many wrong passwords for this user; try again in {} s", wait.whole_seconds() + 1),
        ));
    }
    site.throttle.attempt(account, now);
    let found = match &name {
        Some(name) => users::find_with_hash(&mut *site.app.pool.acquire().await?, name).await?,
        None => None,
    };
    let (user, stored) = found.unzip();
    if !site.passwords.verify(password, stored).await? {
        return Err(wrong());
    }
    site.throttle.succeeded(account);
    user.ok_or_else(wrong)
}

/// `POST login`
pub async fn login(State(site): State<Site>, Body(request): Body<LoginRequest>) -> Result<Json<LoginAnswer>, AppError> {
    let user = check_password(&site, &request.user, request.password).await?;
    let mut conn = site.app.pool.acquire().await?;
    let (token, expires_at) = session::open(&mut conn, &user, SessionKind::Api, site.app.clock.now()).await?;
    Ok(Json(LoginAnswer { token: token.expose(), expires_at }))
}

/// `POST logout`
pub async fn logout(State(site): State<Site>, user: ApiUser) -> Result<StatusCode, AppError> {
    sessions::remove(&mut *site.app.pool.acquire().await?, &user.token.hash()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET whoami`
pub async fn whoami(user: ApiUser) -> Json<Whoami> {
    let projects = user.subject.projects.into_iter().map(|own| own.project.pid).collect();
    Json(Whoami { user: user.subject.user.name, role: user.subject.user.role, projects })
}
