//! JSON bodies and path segments, with our own shape of an error when they are not what they should be.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use boss_api::ErrorCode;
use serde::de::DeserializeOwned;

use crate::error::AppError;

/// A JSON body, parsed into the domain's types.
#[derive(Clone, Copy, Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = AppError;
    async fn from_request(request: Request, state: &S) -> Result<Self, AppError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| not_read(&error))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            AppError::new(
                ErrorCode::BadRequest,
                format!("the body of the request is not what this request takes: {error}"),
            )
        })
    }
}

fn not_read(error: &BytesRejection) -> AppError {
    let code = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
        _ => ErrorCode::BadRequest,
    };
    AppError::new(code, format!("the body of the request was not read: {}", error.body_text()))
}

/// Segments of the path, parsed into the domain's types.
#[derive(Clone, Copy, Debug)]
pub struct Segments<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AppError> {
        let parsed = Path::<T>::from_request_parts(parts, state).await;
        parsed.map(|Path(segments)| Self(segments)).map_err(|error| {
            AppError::new(ErrorCode::BadRequest, format!("the address is malformed: {}", error.body_text()))
        })
    }
}

/// What follows the question mark, parsed into the domain's types.
#[derive(Clone, Copy, Debug)]
pub struct Options<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Options<T> {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AppError> {
        let parsed = Query::<T>::from_request_parts(parts, state).await;
        parsed.map(|Query(options)| Self(options)).map_err(|error| {
            AppError::new(ErrorCode::BadRequest, format!("the options in the address: {}", error.body_text()))
        })
    }
}
