//! Sessions: random tokens whose hash is kept, in a cookie for browsers and as bearer for programs.

use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use boss_db::PgConnection;
use boss_db::sessions::{self, NewSession, Session, SessionKind};
use boss_db::users::User;
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use crate::error::AppError;

/// How long a browser may be idle.
pub const WEB_IDLE: Duration = Duration::minutes(30);
/// How long a browser stays signed in at most.
pub const WEB_LIFE: Duration = Duration::hours(12);
/// How long a program's token lives.
pub const API_LIFE: Duration = Duration::days(30);
/// A session is noted as used at most this often, so that a page that refreshes itself costs no write each time.
const TOUCH_EVERY: Duration = Duration::minutes(1);

/// 32 random bytes: whoever holds them is the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Makes a token.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, AppError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| AppError::internal(anyhow::anyhow!("the system gives no random bytes: {error}")))?;
        Ok(Self(bytes))
    }

    /// Reads a token as its holder sends it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Returns the text for its holder, and for nobody else.
    pub fn expose(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns what is stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

/// Signs a user in: a new session with a token of its own, whatever the caller had before.
///
/// # Errors
/// [`AppError`] when the database or the system fails.
pub async fn open(
    conn: &mut PgConnection,
    user: &User,
    kind: SessionKind,
    now: OffsetDateTime,
) -> Result<(Token, OffsetDateTime), AppError> {
    let token = Token::random()?;
    let csrf_token = Token::random()?.expose();
    let expires_at = now
        + match kind {
            SessionKind::Web => WEB_LIFE,
            SessionKind::Api => API_LIFE,
        };
    let new =
        NewSession { token_hash: &token.hash(), user_id: user.id, kind, csrf_token: &csrf_token, at: now, expires_at };
    sessions::remove_expired(conn, now).await?;
    sessions::add(conn, new).await?;
    Ok((token, expires_at))
}

/// Returns the session of a token that is alive, and notes that it was used.
///
/// # Errors
/// [`AppError`] when the database fails.
pub async fn find(
    conn: &mut PgConnection,
    token: &Token,
    kind: SessionKind,
    now: OffsetDateTime,
) -> Result<Option<Session>, AppError> {
    let hash = token.hash();
    let Some(session) = sessions::find(conn, &hash).await? else { return Ok(None) };
    let idle = session.kind == SessionKind::Web && now - session.last_seen_at >= WEB_IDLE;
    if session.kind != kind || idle || now >= session.expires_at {
        return Ok(None);
    }
    if now - session.last_seen_at >= TOUCH_EVERY {
        sessions::touch(conn, &hash, now).await?;
    }
    Ok(Some(session))
}

/// Returns the token a program sends.
pub fn bearer(headers: &HeaderMap) -> Option<Token> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim()))?
}

/// How the cookies are called and marked, by the address people reach the site at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    secure: bool,
}

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieUse {
    /// The session.
    Session,
    /// Ties a sign-in form to the browser it was shown in.
    SignIn,
}

impl CookiePolicy {
    /// `Secure` and bound to the host, except where the site is plain HTTP on the machine itself.
    pub fn for_base_url(base_url: &str) -> Self {
        Self { secure: !is_plain_local(base_url) }
    }

    const fn name(self, purpose: CookieUse) -> &'static str {
        match (purpose, self.secure) {
            (CookieUse::Session, true) => "__Host-ebb",
            (CookieUse::Session, false) => "ebb",
            (CookieUse::SignIn, true) => "__Host-ebb-sign-in",
            (CookieUse::SignIn, false) => "ebb-sign-in",
        }
    }

    /// Returns the `Set-Cookie` that gives the browser a token.
    pub fn give(self, purpose: CookieUse, token: &Token) -> HeaderValue {
        self.header(purpose, &token.expose(), None)
    }

    /// Returns the `Set-Cookie` that takes it away.
    pub fn take_away(self, purpose: CookieUse) -> HeaderValue {
        self.header(purpose, "", Some("; Max-Age=0"))
    }

    fn header(self, purpose: CookieUse, value: &str, more: Option<&str>) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let more = more.unwrap_or("");
        let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}", self.name(purpose));
        HeaderValue::try_from(text).expect("names, hexadecimal digits and attributes are visible ASCII")
    }

    /// Returns the token that the browser sends.
    pub fn read(self, purpose: CookieUse, headers: &HeaderMap) -> Option<Token> {
        let wanted = self.name(purpose);
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, value)| Token::parse(value))
    }
}

/// Returns whether an address is plain HTTP to this machine itself, where a browser keeps no `Secure` cookie.
fn is_plain_local(base_url: &str) -> bool {
    let Ok(uri) = base_url.parse::<Uri>() else { return false };
    if uri.scheme_str() != Some("http") {
        return false;
    }
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_secure_everywhere_but_on_the_machine_itself() {
        for local in
            ["http://localhost", "http://localhost:4700", "http://127.0.0.1:80/", "http://127.9.9.9", "http://[::1]:1"]
        {
            assert!(!CookiePolicy::for_base_url(local).secure, "{local}");
        }
        for other in [
            "https://localhost",
            "https://boss.example.net",
            "http://boss.example.net",
            "http://localhost.example.net",
            "http://127.0.0.1.example.net",
            "http://10.0.0.1",
            "nonsense",
            "",
        ] {
            assert!(CookiePolicy::for_base_url(other).secure, "{other}");
        }
    }

    #[test]
    fn a_cookie_says_all_it_must_and_comes_back() {
        let token = Token::random().unwrap();
        let secure = CookiePolicy { secure: true };
        let given = secure.give(CookieUse::Session, &token);
        let text = given.to_str().unwrap();
        assert!(text.starts_with("__Host-ebb="));
        for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
            assert!(text.contains(attribute), "{attribute}");
        }
        let mut headers = HeaderMap::new();
        let (pair, _) = text.split_once(';').unwrap();
        headers.insert(COOKIE, HeaderValue::try_from(format!("other=1; {pair}")).unwrap());
        assert_eq!(secure.read(CookieUse::Session, &headers), Some(token.clone()));
        assert_eq!(secure.read(CookieUse::SignIn, &headers), None);
        assert!(!format!("{token:?}").contains(&token.expose()));
    }
}
