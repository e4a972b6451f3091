//! What people may ask for. Each is one transaction that records the wish; the reconciler makes it so.

use boss_api::ErrorCode;
use boss_api::ids::{ExperimentId, ImageVersionId, JobId, NodeId, UserId};

use crate::app::App;
use crate::error::AppError;

/// Asks for machines, loaded with what the experiment was saved with or its base images.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not swapped out or no machines fit.
pub async fn request_swap_in(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let _ = (app, experiment, by);
    Err(AppError::new(ErrorCode::Unavailable, "being built"))
}

/// Asks to save the machines' disks, when the box is on, and to give the machines back.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not active.
pub async fn request_swap_out(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let _ = (app, experiment, by);
    Err(AppError::new(ErrorCode::Unavailable, "being built"))
}

/// Asks to give the machines back for good, saving nothing, and to end the experiment.
///
/// # Errors
/// [`ErrorCode::WrongState`] while other work is under way.
pub async fn request_terminate(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let _ = (app, experiment, by);
    Err(AppError::new(ErrorCode::Unavailable, "being built"))
}

/// Lets the held nodes of an experiment go back where they were held, and its job run again.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not held.
pub async fn request_retry(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let _ = (app, experiment, by);
    Err(AppError::new(ErrorCode::Unavailable, "being built"))
}

/// Asks to load an image on a machine of an active experiment, now; what is on its boot disk is lost.
///
/// # Errors
/// [`ErrorCode::WrongState`] when the machine is not in use or the image does not fit.
pub async fn request_load(app: &App, node: NodeId, image: ImageVersionId, by: UserId) -> Result<JobId, AppError> {
    let _ = (app, node, image, by);
    Err(AppError::new(ErrorCode::Unavailable, "being built"))
}

/// Changes the *Save swap state* box; takes effect at the next swap-out, and in `swapinfo/` at once.
///
/// # Errors
/// When there is no such experiment.
pub async fn set_save_swap_state(app: &App, experiment: ExperimentId, save: bool) -> Result<(), AppError> {
    let _ = (app, experiment, save);
    Err(AppError::new(ErrorCode::Unavailable, "being built"))
}
