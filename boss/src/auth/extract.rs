//! What handlers take to know who is asking. A handler without one of these serves everybody.
//!
//! Programs (`/api/v1`) send a bearer token, browsers a cookie; neither is believed in the other's place, so that no
//! form of another site can use a browser's cookie on the API.

use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use boss_api::{ErrorCode, ExperimentName, Name};
use boss_db::experiments::{self, Experiment};
use boss_db::projects;
use boss_db::sessions::{Session, SessionKind};

use super::Site;
use super::authorize::{Proof, Resource, Subject, Verb, authorize};
use super::csrf;
use super::session::{self, CookieUse, Token};
use crate::error::AppError;
use crate::pages::PageError;
use crate::user_api::body::Segments;

/// A program that sent the token of a user.
#[derive(Clone, Debug)]
pub struct ApiUser {
    /// Whose token.
    pub subject: Subject,
    /// The token, to end it.
    pub token: Token,
}

/// A browser that sent the cookie of a user.
#[derive(Clone, Debug)]
pub struct WebUser {
    /// Whose cookie.
    pub subject: Subject,
    /// What every form of this session carries.
    pub csrf_token: String,
    /// The token, to end it.
    pub token: Token,
}

async fn signed_in(site: &Site, token: &Token, kind: SessionKind) -> Result<Option<(Subject, Session)>, AppError> {
    let mut conn = site.app.pool.acquire().await?;
    let Some(session) = session::find(&mut conn, token, kind, site.app.clock.now()).await? else { return Ok(None) };
    let projects = projects::of_user(&mut conn, session.user.id).await?;
    Ok(Some((Subject { user: session.user.clone(), projects }, session)))
}

async fn api_user(site: &Site, headers: &HeaderMap) -> Result<ApiUser, AppError> {
    let refused = |what: &str| AppError::new(ErrorCode::NotSignedIn, format!("{what}; sign in with `ebb login`"));
    let token = session::bearer(headers).ok_or_else(|| refused("this request carries no bearer token of boss"))?;
    let found = signed_in(site, &token, SessionKind::Api).await?;
    let (subject, _) = found.ok_or_else(|| refused("this token is over, or was never given"))?;
    Ok(ApiUser { subject, token })
}

async fn web_user(site: &Site, headers: &HeaderMap, method: &Method, uri: &Uri) -> Result<WebUser, PageError> {
    // A form that was sent is not sent again after signing in.
    let back_to = || uri.path_and_query().filter(|_| method.is_safe()).map(ToString::to_string);
    let to_sign_in = || PageError::SignIn { back_to: back_to() };
    let token = site.cookies.read(CookieUse::Session, headers).ok_or_else(to_sign_in)?;
    let found = signed_in(site, &token, SessionKind::Web).await?;
    let (subject, session) = found.ok_or_else(to_sign_in)?;
    Ok(WebUser { subject, csrf_token: session.csrf_token, token })
}

impl FromRequestParts<Site> for ApiUser {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, AppError> {
        api_user(site, &parts.headers).await
    }
}

impl FromRequestParts<Site> for WebUser {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, PageError> {
        web_user(site, &parts.headers, &parts.method, &parts.uri).await
    }
}

impl OptionalFromRequestParts<Site> for WebUser {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Option<Self>, PageError> {
        match web_user(site, &parts.headers, &parts.method, &parts.uri).await {
            Ok(user) => Ok(Some(user)),
            Err(PageError::SignIn { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Looking needs less than anything else; what a method may do follows from HTTP.
fn verb_of(method: &Method) -> Verb {
    if method.is_safe() { Verb::See } else { Verb::Change }
}

async fn named_experiment(
    parts: &mut Parts,
    site: &Site,
    subject: &Subject,
    verb: Verb,
) -> Result<(Experiment, Proof), AppError> {
    let name = experiment_name(parts, site).await?;
    let mut conn = site.app.pool.acquire().await?;
    let found = experiments::find(&mut conn, &name).await?;
    let experiment = found.ok_or_else(|| AppError::not_found(format_args!("the experiment {name}")))?;
    let proof = authorize(subject, verb, Resource::Experiment(experiment.project_id)).map_err(|refusal| {
        match refusal.told().code {
            // The same words as for one that does not exist.
            ErrorCode::NotFound => AppError::not_found(format_args!("the experiment {name}")),
            _ => refusal,
        }
    })?;
    Ok((experiment, proof))
}

async fn experiment_name(parts: &mut Parts, site: &Site) -> Result<ExperimentName, AppError> {
    let bad = |text: String| AppError::new(ErrorCode::BadRequest, text);
    let Segments((pid, eid)) =
        <Segments<(String, String)> as FromRequestParts<Site>>::from_request_parts(parts, site).await?;
    let name = |text: &str| Name::new(text).map_err(|error| bad(error.to_string()));
    Ok(ExperimentName { pid: name(&pid)?, eid: name(&eid)? })
}

/// A program, and the experiment named in the path, which its user may see (GET) or change (anything else).
#[derive(Clone, Debug)]
pub struct ApiExperiment {
    /// Who.
    pub subject: Subject,
    /// Which.
    pub experiment: Experiment,
    /// That it may.
    pub proof: Proof,
}

impl FromRequestParts<Site> for ApiExperiment {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, AppError> {
        let user = ApiUser::from_request_parts(parts, site).await?;
        let verb = verb_of(&parts.method);
        let (experiment, proof) = named_experiment(parts, site, &user.subject, verb).await?;
        Ok(Self { subject: user.subject, experiment, proof })
    }
}

/// A program, and the experiment named in the path, to whose held machines its user may attend.
#[derive(Clone, Debug)]
pub struct ApiHeld {
    /// Who.
    pub subject: Subject,
    /// Which.
    pub experiment: Experiment,
    /// That it may.
    pub proof: Proof,
}

impl FromRequestParts<Site> for ApiHeld {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, AppError> {
        let user = ApiUser::from_request_parts(parts, site).await?;
        let (experiment, proof) = named_experiment(parts, site, &user.subject, Verb::Attend).await?;
        Ok(Self { subject: user.subject, experiment, proof })
    }
}

/// A browser, and the experiment named in the path, which its user may see (GET) or change (anything else).
#[derive(Clone, Debug)]
pub struct WebExperiment {
    /// Who.
    pub user: WebUser,
    /// Which.
    pub experiment: Experiment,
    /// That it may.
    pub proof: Proof,
}

impl FromRequestParts<Site> for WebExperiment {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, PageError> {
        let user = web_user(site, &parts.headers, &parts.method, &parts.uri).await?;
        let verb = verb_of(&parts.method);
        let (experiment, proof) = named_experiment(parts, site, &user.subject, verb).await?;
        Ok(Self { user, experiment, proof })
    }
}

/// A browser, and the experiment named in the path, to whose held machines its user may attend.
#[derive(Clone, Debug)]
pub struct WebHeld(pub WebExperiment);

impl FromRequestParts<Site> for WebHeld {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, PageError> {
        let user = web_user(site, &parts.headers, &parts.method, &parts.uri).await?;
        let (experiment, proof) = named_experiment(parts, site, &user.subject, Verb::Attend).await?;
        Ok(Self(WebExperiment { user, experiment, proof }))
    }
}

/// The fields of a form.
#[derive(Clone)]
pub struct Fields(Vec<(String, String)>);

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be passwords.
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    /// Returns the value of a field; of the first of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Returns the values of all fields of this name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of a field without white space around it; an absent one is empty.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default().trim()
    }

    /// Returns whether a box is ticked.
    pub fn is_ticked(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    async fn read(request: Request, site: &Site) -> Result<Self, AppError> {
        let form = axum::Form::<Vec<(String, String)>>::from_request(request, site).await;
        form.map(|axum::Form(pairs)| Self(pairs))
            .map_err(|error| AppError::new(ErrorCode::BadRequest, error.body_text()))
    }
}

/// A form that a signed-in user sent from a page of this site.
#[derive(Clone, Debug)]
pub struct Posted {
    /// What was typed.
    pub fields: Fields,
}

impl FromRequest<Site> for Posted {
    type Rejection = PageError;
    async fn from_request(request: Request, site: &Site) -> Result<Self, PageError> {
        csrf::check_origin(request.headers(), &site.app.config.base_url)?;
        let user = web_user(site, request.headers(), request.method(), request.uri()).await?;
        let fields = Fields::read(request, site).await?;
        csrf::check_token(fields.get(csrf::FIELD), &user.csrf_token)?;
        Ok(Self { fields })
    }
}

/// The sign-in form: nobody is signed in yet, so it is tied to a cookie of its own.
#[derive(Clone, Debug)]
pub struct PostedSignIn {
    /// What was typed.
    pub fields: Fields,
}

impl FromRequest<Site> for PostedSignIn {
    type Rejection = PageError;
    async fn from_request(request: Request, site: &Site) -> Result<Self, PageError> {
        csrf::check_origin(request.headers(), &site.app.config.base_url)?;
        let ticket = site.cookies.read(CookieUse::SignIn, request.headers());
        let fields = Fields::read(request, site).await?;
        match ticket {
            Some(ticket) => csrf::check_token(fields.get(csrf::FIELD), &ticket.expose())?,
            None => {
                return Err(AppError::new(
                    ErrorCode::NotAllowed,
                    "your browser did not send back the cookie of the sign-in page: allow cookies of this site, \
                     open the sign-in page again and retry",
                )
                .into());
            }
        }
        Ok(Self { fields })
    }
}
