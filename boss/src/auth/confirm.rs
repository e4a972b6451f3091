//! What cannot be undone is asked for twice: by typing the name of what it is done to, and by the own password.

use boss_api::ids::UserId;
use boss_api::user::Confirmation;
use boss_api::{ErrorCode, Name};
use boss_db::experiments::Experiment;

use super::Site;
use super::authorize::{Resource, Subject, Verb, authorize};
use crate::error::AppError;
use crate::user_api::login::check_password;

/// That somebody may give up what could not be saved, means it, and is that person. Only [`to_discard`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    by: UserId,
    name: Name,
}

impl Confirmed {
    /// Returns who.
    pub const fn by(&self) -> UserId {
        self.by
    }

    /// Returns the name of who.
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

/// Checks that a subject may give up what could not be saved of an experiment, typed its name and knows the password.
///
/// # Errors
/// [`ErrorCode::NotAllowed`] for somebody else, or for a wrong password; [`ErrorCode::BadRequest`] for another name.
pub async fn to_discard(
    site: &Site,
    subject: &Subject,
    experiment: &Experiment,
    confirmation: &Confirmation,
) -> Result<Confirmed, AppError> {
    authorize(subject, Verb::Discard, Resource::Experiment(experiment.project_id))?;
    if confirmation.typed.trim() != experiment.eid.as_str() {
        return Err(AppError::new(ErrorCode::BadRequest, not_its_name(experiment)));
    }
    let name = &subject.user.name;
    let user = check_password(site, name.as_str(), confirmation.password.clone()).await.map_err(|refusal| {
        match refusal.told().code {
            // Signed in is the subject: nobody is sent to sign in again for a slip of the finger.
            ErrorCode::NotSignedIn => {
                AppError::new(ErrorCode::NotAllowed, format!("nothing was done: this is not the password of {name}"))
            }
            _ => refusal,
        }
    })?;
    Ok(Confirmed { by: user.id, name: user.name })
}

/// Says that a typed name is another one.
pub fn not_its_name(experiment: &Experiment) -> String {
    format!("nothing was done: this is not the experiment's name, which is {}", experiment.eid)
}
