//! Turns to have an object sent: so many at once for each user, so that nobody holds all that boss has for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boss_api::ErrorCode;
use boss_api::ids::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::AppError;

/// How many objects, or parts of some, are sent to one user at once; the others wait for their turn.
pub(crate) const AT_ONCE: usize = 32;
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// The turns of all users.
#[derive(Debug, Default)]
pub struct Downloads(Mutex<HashMap<UserId, Arc<Semaphore>>>);

impl Downloads {
    /// Waits for a turn of a user, which lasts until what is returned is dropped.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] when none comes.
    pub async fn turn(&self, user: UserId) -> Result<OwnedSemaphorePermit, AppError> {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(user).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        match tokio::time::timeout(PATIENCE, turns.acquire_owned()).await {
            Ok(turn) => turn.map_err(AppError::internal),
            Err(_) => Err(AppError::new(
                ErrorCode::Unavailable,
                format!("{AT_ONCE} objects are being sent to you, and none of them got done; try again later"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_user_has_so_many_turns_and_then_waits() {
        let downloads = Downloads::default();
        let [ann, bob] = [1, 2].map(|number| UserId::new(Uuid::from_u128(number)));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(downloads.turn(ann).await.unwrap());
        }
        let refused = downloads.turn(ann).await.unwrap_err();
        assert_eq!(refused.told().code, ErrorCode::Unavailable);
        let _others = downloads.turn(bob).await.unwrap();
        held.pop();
        let _last = downloads.turn(ann).await.unwrap();
    }
}
