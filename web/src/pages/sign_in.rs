use askama::Template;

use crate::parts::Frame;
use crate::urls;

/// The sign-in form.
#[derive(Clone, Debug, Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// The frame.
    pub frame: Frame,
    /// The name as it was typed.
    pub name: String,
    /// The page to go on to.
    pub next: String,
    /// Why the last attempt was refused.
    pub problem: Option<String>,
}
