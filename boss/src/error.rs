//! One error for every handler: what the caller is told, and what only the log is told.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use boss_api::{ApiError, ErrorCode};
use boss_db::DbError;

/// Why a request was not answered with success.
#[derive(Debug)]
pub struct AppError {
    told: ApiError,
    logged: Option<anyhow::Error>,
}

impl AppError {
    /// An error of the caller, or a state of the site: the whole text is for the caller.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { told: ApiError { code, message: message.into() }, logged: None }
    }

    /// Nothing of that name that the caller may see.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("{what} does not exist, or you are not a member of its project"))
    }

    /// A defect or a failure of boss: the caller learns that it happened, the log learns what.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        let told = ApiError { code: ErrorCode::Internal, message: "boss failed; its log says why".into() };
        Self { told, logged: Some(error.into()) }
    }

    /// Something boss depends on is away; trying again can help.
    pub fn unavailable(message: impl Into<String>, error: impl Into<anyhow::Error>) -> Self {
        let told = ApiError { code: ErrorCode::Unavailable, message: message.into() };
        Self { told, logged: Some(error.into()) }
    }

    /// Returns what the caller is told.
    pub const fn told(&self) -> &ApiError {
        &self.told
    }

    /// Returns the status that goes with the code.
    pub const fn status(&self) -> StatusCode {
        match self.told.code {
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::NotSignedIn => StatusCode::UNAUTHORIZED,
            ErrorCode::NotAllowed => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Conflict | ErrorCode::WrongState => StatusCode::CONFLICT,
            ErrorCode::VerificationFailed => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            ErrorCode::Stale => StatusCode::GONE,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Writes to the log what the caller is not told. Called once, where the answer is made.
    pub fn log(&self) {
        if let Some(error) = &self.logged {
            tracing::error!(code = ?self.told.code, "{error:#}");
        }
    }
}

impl From<DbError> for AppError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::LostRace { what } => {
                Self::new(ErrorCode::WrongState, format!("{what} changed in the meantime; look again and retry"))
            }
            DbError::Sql(ref source) if is_connection(source) => {
                Self::unavailable("the database does not answer; try again in a moment", error)
            }
            DbError::TermOver { .. } => Self::unavailable("another boss took over; ask that one", error),
            DbError::TermKept | DbError::Constraint { .. } | DbError::Inconsistent { .. } | DbError::Sql(_) => {
                Self::internal(error)
            }
        }
    }
}

impl From<sqlx::Error> for AppError {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

fn is_connection(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        self.log();
        (self.status(), Json(self.told)).into_response()
    }
}
