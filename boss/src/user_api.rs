//! What people's programs ask of boss, as tabled in `boss_api::user`. The routes are listed in [`crate::router`].

pub mod body;
pub mod downloads;
pub mod experiments;
pub mod images;
pub mod jobs;
pub mod login;
pub mod nodes;
pub mod objects;
pub mod settings;
pub mod uploads;

use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use boss_api::{ApiError, ErrorCode};

use crate::error::AppError;

/// Answers a request that is not in the table.
pub async fn no_such_request(method: Method, uri: Uri) -> AppError {
    AppError::new(
        ErrorCode::NotFound,
        format!("boss knows no request {method} {}: is the program newer than boss?", uri.path()),
    )
}

/// Answers a known path with an unknown method.
pub async fn no_such_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    let told = ApiError { code: ErrorCode::BadRequest, message };
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(told)).into_response()
}
