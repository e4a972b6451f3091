//! Passwords: argon2id, one strength for all, never more than two hashes at once.

use argon2::password_hash::Error as HashError;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version};
use boss_api::ErrorCode;
use tokio::sync::Semaphore;

use crate::error::AppError;

/// The most bytes of a password.
pub const MAX_BYTES: usize = 1024;
/// The least characters of a new password.
pub const MIN_CHARS: usize = 8;

/// 19 MiB, the least OWASP advises for two passes and one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Each hash takes a core for tens of milliseconds; two leave the machine usable.
const AT_ONCE: usize = 2;
/// How many may wait for their turn before the next is told to come back.
const MAX_WAITING: usize = 32;

/// Why a password was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short to be one.
    #[error("a password has at least {MIN_CHARS} characters")]
    TooShort,
    /// Too long to be one.
    #[error("a password has at most {MAX_BYTES} bytes")]
    TooLong,
    /// The hash could not be made, or the stored one is not one.
    #[error("hash the password: {0}")]
    Hash(HashError),
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Hash(HashError::Internal))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes a new password, with a salt of its own, to a PHC string. Takes tens of milliseconds of a core.
///
/// # Errors
/// [`PasswordError`].
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if password.len() > MAX_BYTES {
        return Err(PasswordError::TooLong);
    }
    if password.chars().count() < MIN_CHARS {
        return Err(PasswordError::TooShort);
    }
    let hash: PasswordHash = argon2()?.hash_password(password.as_bytes()).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// Returns whether this is the password that was hashed. Takes tens of milliseconds of a core.
///
/// # Errors
/// [`PasswordError`] when the stored text is no hash.
pub fn verify(password: &str, stored: &str) -> Result<bool, PasswordError> {
    if password.len() > MAX_BYTES {
        return Ok(false);
    }
    let stored = PasswordHash::new(stored).map_err(|_| PasswordError::Hash(HashError::EncodingInvalid))?;
    match argon2()?.verify_password(password.as_bytes(), &stored) {
        Ok(()) => Ok(true),
        Err(HashError::PasswordInvalid) => Ok(false),
        Err(error) => Err(PasswordError::Hash(error)),
    }
}

/// Hashes for requests: off the async threads, a few at a time, and as long for unknown users as for known ones.
#[derive(Debug)]
pub struct PasswordDesk {
    turns: Semaphore,
    waiting: Semaphore,
    /// A hash nobody knows the password of, made when it is first needed.
    dummy: tokio::sync::OnceCell<String>,
}

impl PasswordDesk {
    pub(super) fn new() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(MAX_WAITING),
            dummy: tokio::sync::OnceCell::new(),
        }
    }

    /// Returns whether this is the user's password; `stored` is none for a user who does not exist, which takes as
    /// long and is always false.
    ///
    /// # Errors
    /// [`AppError`] when too many wait already.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, AppError> {
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|error| AppError::unavailable("too many people sign in at the moment; try again", error))?;
        let _turn = self.turns.acquire().await.map_err(AppError::internal)?;
        let known = stored.is_some();
        let stored = match stored {
            Some(stored) => stored,
            None => self.dummy().await?,
        };
        let password = zeroize::Zeroizing::new(password);
        let right =
            tokio::task::spawn_blocking(move || verify(&password, &stored)).await.map_err(AppError::internal)?;
        Ok(right.map_err(AppError::internal)? && known)
    }

    async fn dummy(&self) -> Result<String, AppError> {
        let make = || async {
            let made = tokio::task::spawn_blocking(|| {
                let mut nobody_knows = [0; 32];
                getrandom::fill(&mut nobody_knows).map_err(|_| PasswordError::Hash(HashError::Internal))?;
                hash(&hex::encode(nobody_knows))
            });
            made.await.map_err(AppError::internal)?.map_err(AppError::internal)
        };
        self.dummy.get_or_try_init(make).await.cloned()
    }
}

impl From<PasswordError> for AppError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::TooShort | PasswordError::TooLong => Self::new(ErrorCode::BadRequest, error.to_string()),
            PasswordError::Hash(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_argon2id_of_the_agreed_strength_and_fits_only_its_password() {
        let stored = hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("correct horse", &stored).unwrap());
        assert!(!verify("correct horsf", &stored).unwrap());
        assert_ne!(stored, hash("correct horse").unwrap(), "each hash has its own salt");
    }

    #[test]
    fn lengths_have_limits() {
        assert!(matches!(hash("short"), Err(PasswordError::TooShort)));
        assert!(matches!(hash(&"x".repeat(MAX_BYTES + 1)), Err(PasswordError::TooLong)));
        let stored = hash(&"x".repeat(MAX_BYTES)).unwrap();
        assert!(verify(&"x".repeat(MAX_BYTES), &stored).unwrap());
        assert!(!verify(&"x".repeat(MAX_BYTES + 1), &stored).unwrap());
        assert!(verify("whatever", "not a hash").is_err());
    }

    #[tokio::test]
    async fn somebody_unknown_is_refused_by_a_real_hash() {
        let desk = PasswordDesk::new();
        assert!(!desk.verify("correct horse".into(), None).await.unwrap());
        assert!(desk.dummy.get().unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let stored = hash("correct horse").unwrap();
        assert!(desk.verify("correct horse".into(), Some(stored)).await.unwrap());
    }
}
