//! Who is asking, and whether they may.
//!
//! - [`password`]: argon2id, and how many hashes run at once
//! - [`session`]: tokens, where they are kept, when they end
//! - [`csrf`]: that a form was really sent by the page it came from
//! - [`throttle`]: guessing passwords is slow
//! - [`confirm`]: that somebody means what cannot be undone
//! - [`authorize`]: the one place that decides who may do what
//! - [`extract`]: what handlers take: no route without one of them is reachable but the few in `router.rs` that say so

pub mod authorize;
pub mod confirm;
pub mod csrf;
pub mod extract;
pub mod password;
pub mod session;
pub mod throttle;

use std::sync::Arc;

use crate::app::App;
use password::PasswordDesk;
use session::CookiePolicy;
use throttle::Throttle;
use tokio::sync::Semaphore;

use crate::user_api::downloads::Downloads;
use crate::user_api::uploads::{AT_ONCE, LISTS, READINGS};

/// What handlers on the user listener share.
#[derive(Clone, Debug)]
pub struct Site {
    /// The parts of the running boss.
    pub app: App,
    /// How cookies are called and marked.
    pub cookies: CookiePolicy,
    /// Hashes passwords, a few at a time.
    pub passwords: Arc<PasswordDesk>,
    /// Slows down guessing.
    pub throttle: Arc<Throttle>,
    /// Turns to send a piece of an object.
    pub uploads: Arc<Semaphore>,
    /// Turns to put an object together, and to read one back.
    pub readings: Arc<Semaphore>,
    /// Turns to send the list of the pieces of an object.
    pub lists: Arc<Semaphore>,
    /// Turns to have an object sent.
    pub downloads: Arc<Downloads>,
}

impl Site {
    /// Prepares a site.
    pub fn new(app: App) -> Self {
        Self {
            cookies: CookiePolicy::for_base_url(&app.config.base_url),
            passwords: Arc::new(PasswordDesk::new()),
            throttle: Arc::new(Throttle::new()),
            uploads: Arc::new(Semaphore::new(AT_ONCE)),
            readings: Arc::new(Semaphore::new(READINGS)),
            lists: Arc::new(Semaphore::new(LISTS)),
            downloads: Arc::default(),
            app,
        }
    }
}
