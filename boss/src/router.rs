//! Every address people and their programs can ask for, and the layers around them, written once.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use boss_api::user::MAX_PIECES;
use boss_api::{ApiError, ErrorCode};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::app::App;
use crate::auth::Site;
use crate::error::AppError;
use crate::pages;
use crate::user_api::{
    experiments, images, jobs, login, no_such_method, no_such_request, nodes, objects, settings, uploads,
};

/// The most bytes of a body, where nothing else is said.
const BODY_BYTES: usize = 1 << 20;
/// The most bytes of a registration: the sealed manifest, quoted thrice.
const REGISTER_BYTES: usize = 32 << 20;
/// The most bytes of the list of all pieces of an object.
const FINISH_BYTES: usize = MAX_PIECES * 32;
/// How long an answer may take; the longest wait a caller may ask for is 30 s.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a browser may load and send: nothing but our style and pictures, and forms to us.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                              frame-ancestors 'none'; base-uri 'none'";

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Public,
    /// Who sends the token of a user.
    Program,
    /// Who sends the cookie of a user.
    Browser,
}

/// An address.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The pattern of the path.
    pub path: &'static str,
    /// Who is served.
    pub audience: Audience,
    handler: MethodRouter<Site>,
}

macro_rules! routes {
    ($audience:ident: $($method:ident $path:literal => $handler:expr $(, $layer:expr)?;)*) => {
        vec![$(Route {
            method: Method::$method,
            path: $path,
            audience: Audience::$audience,
            handler: method_router!($method, $handler)$(.layer($layer))?,
        },)*]
    };
}

macro_rules! method_router {
    (GET, $handler:expr) => {
        axum::routing::get($handler)
    };
    (HEAD, $handler:expr) => {
        axum::routing::head($handler)
    };
    (POST, $handler:expr) => {
        axum::routing::post($handler)
    };
    (PUT, $handler:expr) => {
        axum::routing::put($handler)
    };
    (PATCH, $handler:expr) => {
        axum::routing::patch($handler)
    };
}

/// Answers in moments; a body that takes longer to send does so after the deadline.
fn quick() -> Vec<Route> {
    let mut routes = routes! { Public:
        GET "/healthz" => healthz;
        GET "/readyz" => readyz;
        POST "/api/v1/login" => login::login;
    };
    routes.extend(routes! { Program:
        POST "/api/v1/logout" => login::logout;
        GET "/api/v1/whoami" => login::whoami;
        GET "/api/v1/experiments" => experiments::list;
        POST "/api/v1/experiments" => experiments::create;
        GET "/api/v1/experiments/{pid}/{eid}" => experiments::get;
        PATCH "/api/v1/experiments/{pid}/{eid}" => experiments::modify;
        POST "/api/v1/experiments/{pid}/{eid}/swapin" => experiments::swap_in;
        POST "/api/v1/experiments/{pid}/{eid}/swapout" => experiments::swap_out;
        POST "/api/v1/experiments/{pid}/{eid}/terminate" => experiments::terminate;
        POST "/api/v1/experiments/{pid}/{eid}/cancel" => experiments::cancel;
        POST "/api/v1/experiments/{pid}/{eid}/retry" => experiments::retry;
        POST "/api/v1/experiments/{pid}/{eid}/discard" => experiments::discard;
        POST "/api/v1/experiments/{pid}/{eid}/giveup" => experiments::give_up;
        GET "/api/v1/experiments/{pid}/{eid}/points" => experiments::points;
        GET "/api/v1/experiments/{pid}/{eid}/events" => experiments::events;
        GET "/api/v1/jobs/{id}" => jobs::get;
        GET "/api/v1/nodes" => nodes::list;
        POST "/api/v1/nodes" => nodes::register;
        GET "/api/v1/nodes/{name}" => nodes::get;
        POST "/api/v1/nodes/{name}/load" => nodes::load;
        POST "/api/v1/nodes/{name}/retry" => nodes::retry;
        POST "/api/v1/nodes/{name}/keep" => nodes::keep;
        GET "/api/v1/images" => images::list;
        POST "/api/v1/images" => images::register, DefaultBodyLimit::max(REGISTER_BYTES);
        GET "/api/v1/images/{project}/{name}" => images::get;
        POST "/api/v1/images/{project}/{name}/{version}/retire" => images::retire;
        GET "/api/v1/objects/{digest}" => objects::get;
        HEAD "/api/v1/objects/{digest}" => objects::head;
        POST "/api/v1/uploads/{digest}/offer" => uploads::offer;
        PUT "/api/v1/uploads/{digest}/pieces/{piece}" => uploads::piece;
        GET "/api/v1/settings" => settings::list;
        PUT "/api/v1/settings/{name}" => settings::change;
    });
    routes
}

/// Pages and their forms.
fn for_people() -> Vec<Route> {
    let mut routes = routes! { Public:
        GET "/sign-in" => pages::sign_in::form;
        POST "/sign-in" => pages::sign_in::sign_in;
        GET "/static/{file}" => pages::statics::get;
    };
    routes.extend(routes! { Browser:
        GET "/" => pages::experiments::home;
        POST "/sign-out" => pages::sign_in::sign_out;
        GET "/experiments" => pages::experiments::list;
        GET "/experiments/new" => pages::new_experiment::form;
        POST "/experiments/new" => pages::new_experiment::make_one;
        GET "/experiments/{pid}/{eid}" => pages::experiment::get;
        POST "/experiments/{pid}/{eid}/save-swap-state" => pages::experiment::save;
        POST "/experiments/{pid}/{eid}/swap-in" => pages::experiment::swap_in;
        GET "/experiments/{pid}/{eid}/swap-out" => pages::experiment::confirm_swap_out;
        POST "/experiments/{pid}/{eid}/swap-out" => pages::experiment::swap_out;
        POST "/experiments/{pid}/{eid}/cancel" => pages::held::cancel;
        POST "/experiments/{pid}/{eid}/retry" => pages::held::retry;
        POST "/experiments/{pid}/{eid}/keep" => pages::held::keep;
        POST "/experiments/{pid}/{eid}/discard" => pages::held::discard;
        POST "/experiments/{pid}/{eid}/give-up" => pages::held::give_up;
        POST "/experiments/{pid}/{eid}/terminate" => pages::experiment::terminate;
        GET "/images" => pages::inventory::images;
        GET "/nodes" => pages::inventory::nodes;
    });
    routes
}

/// Takes as long as the sender needs, and stops when nothing comes; or as long as reading back what was sent or is there.
fn slow() -> Vec<Route> {
    routes! { Program:
        PUT "/api/v1/objects/{digest}" => objects::put, DefaultBodyLimit::disable();
        POST "/api/v1/uploads/{digest}" => uploads::begin, DefaultBodyLimit::max(BODY_BYTES);
        POST "/api/v1/uploads/{digest}/finish" => uploads::finish, DefaultBodyLimit::max(FINISH_BYTES);
    }
}

/// Returns every address.
pub fn all() -> Vec<Route> {
    let mut routes = quick();
    routes.extend(for_people());
    routes.extend(slow());
    routes
}

fn gather(routes: Vec<Route>) -> Router<Site> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
}

/// Builds what the user listener serves.
pub fn build(app: App) -> Router {
    build_for(Site::new(app))
}

/// Builds it for a site that somebody else has a hand on, too.
pub(crate) fn build_for(site: Site) -> Router {
    // From the inside out: a limit, a deadline, a catch for defects, headers, a trace.
    gather(quick())
        .merge(gather(for_people()))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .merge(gather(slow()))
        .fallback(no_such_request)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(|_panic| defect()))
        .layer(middleware::from_fn(headers))
        .layer(TraceLayer::new_for_http())
        .with_state(site)
}

fn defect() -> Response {
    let message = "boss failed; its log says why".into();
    let told = ApiError { code: ErrorCode::Internal, message };
    (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(told)).into_response()
}

/// Sets what every answer says to browsers.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// `GET healthz`: the process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET readyz`: the database answers too, and this boss is the one that rules.
async fn readyz(State(site): State<Site>) -> Result<&'static str, AppError> {
    let mut conn = site.app.pool.acquire().await?;
    let ruling = boss_db::term::standing(&mut conn).await?.term;
    if ruling == site.app.term {
        return Ok("ready\n");
    }
    let (own, ruling) = (site.app.term, ruling);
    Err(AppError::new(
        ErrorCode::Unavailable,
        format!("this boss started in term {own}, and another started in term {ruling} since: stop this one"),
    ))
}
