//! Pages for people: each handler builds one page struct of `web` and does no HTML. The routes are in
//! [`crate::router`].

pub mod experiment;
pub mod experiments;
pub mod held;
pub mod inventory;
pub mod new_experiment;
pub mod sign_in;
pub mod statics;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use boss_api::ErrorCode;
use web::Template;
use web::pages::MessagePage;
use web::parts::Frame;
use web::urls;

use crate::error::AppError;

/// What a page handler returns.
pub type Page = Result<Response, PageError>;

/// Why a page was not shown.
#[derive(Debug)]
pub enum PageError {
    /// Nobody is signed in: the sign-in page is shown, and this one after it.
    SignIn {
        /// The page that was asked for, when it can be asked for again.
        back_to: Option<String>,
    },
    /// Anything else.
    Told(AppError),
}

impl<E: Into<AppError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self::Told(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let error = match self {
            Self::SignIn { back_to } => return Redirect::to(&urls::sign_in(back_to.as_deref())).into_response(),
            Self::Told(error) => error,
        };
        error.log();
        let page = MessagePage {
            frame: Frame::for_nobody(""),
            title: title(error.told().code).into(),
            message: error.told().message.clone(),
        };
        show(error.status(), &page)
    }
}

const fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "This request makes no sense",
        ErrorCode::NotSignedIn => "Nobody is signed in",
        ErrorCode::NotAllowed => "Not allowed",
        ErrorCode::NotFound => "Not found",
        ErrorCode::Conflict | ErrorCode::WrongState | ErrorCode::Stale => "Not possible now",
        ErrorCode::VerificationFailed => "It did not verify",
        ErrorCode::TooLarge => "Too large",
        ErrorCode::NoSpace => "The store is full",
        ErrorCode::Unavailable => "Try again in a moment",
        ErrorCode::Internal => "boss failed",
    }
}

/// Renders a page.
pub(crate) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], html)
            .into_response(),
        Err(error) => AppError::internal(error).into_response(),
    }
}
