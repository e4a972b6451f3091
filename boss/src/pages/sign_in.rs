//! Signing in and out in a browser.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect};
use boss_db::sessions::{self, SessionKind};
use serde::Deserialize;
use web::pages::SignInPage;
use web::parts::Frame;
use web::urls;

use super::{Page, show};
use crate::auth::extract::{Posted, PostedSignIn, WebUser};
use crate::auth::session::{self, CookieUse, Token};
use crate::auth::{Site, csrf};
use crate::user_api::body::Options;
use crate::user_api::login::check_password;

/// Where to go on to.
#[derive(Debug, Deserialize)]
pub struct Next {
    next: Option<String>,
}

fn local(next: Option<&str>) -> &str {
    next.filter(|path| urls::is_local(path)).unwrap_or(urls::EXPERIMENTS)
}

/// `GET sign-in`
pub async fn form(
    State(site): State<Site>,
    headers: HeaderMap,
    Options(query): Options<Next>,
    user: Option<WebUser>,
) -> Page {
    let next = local(query.next.as_deref());
    if user.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    // The ticket of another tab stays good.
    let ticket = match site.cookies.read(CookieUse::SignIn, &headers) {
        Some(ticket) => ticket,
        None => Token::random()?,
    };
    let page = SignInPage {
        frame: Frame::for_nobody(&ticket.expose()),
        name: String::new(),
        next: next.into(),
        problem: None,
    };
    let cookie = [(header::SET_COOKIE, site.cookies.give(CookieUse::SignIn, &ticket))];
    Ok((AppendHeaders(cookie), show(StatusCode::OK, &page)).into_response())
}

/// `POST sign-in`: a new session with a token of its own, whatever the browser had before.
pub async fn sign_in(State(site): State<Site>, headers: HeaderMap, posted: PostedSignIn) -> Page {
    let fields = posted.fields;
    let name = fields.text("user");
    let next = local(fields.get("next"));
    let password = fields.get("password").unwrap_or_default().to_owned();
    let user = match check_password(&site, name, password).await {
        Ok(user) => user,
        Err(refusal) => {
            refusal.log();
            let page = SignInPage {
                frame: Frame::for_nobody(fields.get(csrf::FIELD).unwrap_or_default()),
                name: name.into(),
                next: next.into(),
                problem: Some(refusal.told().message.clone()),
            };
            return Ok(show(refusal.status(), &page));
        }
    };
    let mut conn = site.app.pool.acquire().await?;
    if let Some(old) = site.cookies.read(CookieUse::Session, &headers) {
        sessions::remove(&mut conn, &old.hash()).await?;
    }
    let (token, _) = session::open(&mut conn, &user, SessionKind::Web, site.app.clock.now()).await?;
    let cookies = [
        (header::SET_COOKIE, site.cookies.give(CookieUse::Session, &token)),
        (header::SET_COOKIE, site.cookies.take_away(CookieUse::SignIn)),
    ];
    Ok((AppendHeaders(cookies), Redirect::to(next)).into_response())
}

/// `POST sign-out`
pub async fn sign_out(State(site): State<Site>, user: WebUser, _posted: Posted) -> Page {
    sessions::remove(&mut *site.app.pool.acquire().await?, &user.token.hash()).await?;
    let cookies = [(header::SET_COOKIE, site.cookies.take_away(CookieUse::Session))];
    Ok((AppendHeaders(cookies), Redirect::to(urls::SIGN_IN)).into_response())
}
