use askama::Template;

use crate::parts::Frame;
use crate::urls;

/// Something could not be shown or done, and what to do about it.
#[derive(Clone, Debug, Template)]
#[template(path = "message.html")]
pub struct MessagePage {
    /// The frame.
    pub frame: Frame,
    /// A few words.
    pub title: String,
    /// What happened, to what, why, and what to do next.
    pub message: String,
}
