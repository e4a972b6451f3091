//! Every address, built here and nowhere else. Names hold only letters, digits and hyphens, so none needs escaping.

use boss_api::ExperimentName;

use crate::assets::Asset;

/// The first page.
pub const EXPERIMENTS: &str = "/experiments";
/// The form for a new experiment.
pub const NEW_EXPERIMENT: &str = "/experiments/new";
/// Images.
pub const IMAGES: &str = "/images";
/// Machines.
pub const NODES: &str = "/nodes";
/// The sign-in form.
pub const SIGN_IN: &str = "/sign-in";
/// Where the sign-out button sends to.
pub const SIGN_OUT: &str = "/sign-out";

/// What a form of an experiment's page asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To change the *Save swap state* box.
    Save,
    /// To swap in.
    SwapIn,
    /// To swap out.
    SwapOut,
    /// To end it.
    Terminate,
    /// To try again what is held.
    Retry,
    /// To leave a note on what is held.
    Keep,
    /// To give up what could not be saved.
    Discard,
    /// To take a swap-out back.
    Cancel,
    /// To give a held swap-in up.
    GiveUp,
}

/// The page of an experiment.
pub fn experiment(name: &ExperimentName) -> String {
    format!("{EXPERIMENTS}/{}/{}", name.pid, name.eid)
}

/// Where a form of an experiment's page sends to.
pub fn action(name: &ExperimentName, action: Action) -> String {
    let word = match action {
        Action::Save => "save-swap-state",
        Action::SwapIn => "swap-in",
        Action::SwapOut => "swap-out",
        Action::Terminate => "terminate",
        Action::Retry => "retry",
        Action::Keep => "keep",
        Action::Discard => "discard",
        Action::Cancel => "cancel",
        Action::GiveUp => "give-up",
    };
    format!("{}/{word}", experiment(name))
}

/// An embedded file.
pub fn asset(asset: &Asset) -> String {
    format!("/static/{}", asset.file_name())
}

/// The sign-in form, which goes on to `back_to`.
pub fn sign_in(back_to: Option<&str>) -> String {
    match back_to.filter(|path| is_local(path)) {
        Some(path) => format!("{SIGN_IN}?next={}", encode(path)),
        None => SIGN_IN.into(),
    }
}

/// Returns whether a path leads to a page of this site, whatever a browser makes of it.
pub fn is_local(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 512
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

/// Percent-encodes a value of a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_stays_on_the_site() {
        assert_eq!(sign_in(Some("/experiments/p/e?a=1&b")), "/sign-in?next=/experiments/p/e%3Fa%3D1%26b");
        for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example", "", "evil", "/a b", "/\u{e9}"] {
            assert_eq!(sign_in(Some(elsewhere)), SIGN_IN, "{elsewhere}");
        }
    }
}
