//! Pages for people: each handler builds one page struct of `web` and does no HTML.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use crate::error::AppError;

/// Why a page was not shown.
#[derive(Debug)]
pub enum PageError {
    /// Nobody is signed in: the sign-in page is shown, and this one after it.
    SignIn {
        /// The page that was asked for.
        back_to: Option<String>,
    },
    /// Anything else.
    Told(AppError),
}

impl From<AppError> for PageError {
    fn from(error: AppError) -> Self {
        Self::Told(error)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { .. } => Redirect::to("/sign-in").into_response(),
            Self::Told(error) => {
                error.log();
                (StatusCode::INTERNAL_SERVER_ERROR, error.told().message.clone()).into_response()
            }
        }
    }
}
