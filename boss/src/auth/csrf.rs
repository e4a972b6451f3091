//! That a form was really sent by a page of this site: a token in the form, and what the browser says of its origin.

use axum::http::{HeaderMap, Uri, header};
use boss_api::ErrorCode;
use subtle::ConstantTimeEq as _;

use crate::error::AppError;

/// The name of the hidden field.
pub const FIELD: &str = "csrf";

/// Refuses a request that a browser says another site made.
///
/// A browser that says nothing is believed to that extent: the token in the form decides in any case.
///
/// # Errors
/// [`AppError`] not allowed.
pub fn check_origin(headers: &HeaderMap, base_url: &str) -> Result<(), AppError> {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or("unreadable"));
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && site != "same-origin"
        && site != "none"
    {
        return Err(foreign());
    }
    if let Some(origin) = text(header::ORIGIN) {
        let of = |url: &str| url.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        let origin = of(origin);
        let ours = [text(header::HOST).map(str::to_owned), of(base_url)];
        if origin.is_none() || !ours.contains(&origin) {
            return Err(foreign());
        }
    }
    Ok(())
}

/// Refuses a form that does not carry the token of its session.
///
/// # Errors
/// [`AppError`] not allowed.
pub fn check_token(sent: Option<&str>, expected: &str) -> Result<(), AppError> {
    let right = sent.is_some_and(|sent| bool::from(sent.as_bytes().ct_eq(expected.as_bytes())));
    if right { Ok(()) } else { Err(stale_form()) }
}

fn foreign() -> AppError {
    AppError::new(
        ErrorCode::NotAllowed,
        "nothing was done: this form was sent by a page of another site; open the page here and send it again",
    )
}

fn stale_form() -> AppError {
    AppError::new(
        ErrorCode::NotAllowed,
        "nothing was done: this form belongs to another sign-in; go back, reload the page and send it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_pages_of_this_site_may_send_forms() {
        let base = "https://boss.example.net";
        let ok = |pairs: &[(&'static str, &'static str)]| check_origin(&headers(pairs), base).is_ok();
        assert!(ok(&[]));
        assert!(ok(&[("sec-fetch-site", "same-origin"), ("origin", "https://boss.example.net")]));
        assert!(ok(&[("origin", "http://127.0.0.1:4700"), ("host", "127.0.0.1:4700")]));
        assert!(!ok(&[("sec-fetch-site", "cross-site")]));
        assert!(!ok(&[("sec-fetch-site", "same-site")]));
        assert!(!ok(&[("origin", "https://evil.example")]));
        assert!(!ok(&[("origin", "null")]));
        assert!(!ok(&[("origin", "https://boss.example.net.evil.example")]));
    }

    #[test]
    fn only_the_right_token_passes() {
        assert!(check_token(Some("abc"), "abc").is_ok());
        for wrong in [None, Some(""), Some("ab"), Some("abd"), Some("abcd")] {
            assert!(check_token(wrong, "abc").is_err(), "{wrong:?}");
        }
    }
}
