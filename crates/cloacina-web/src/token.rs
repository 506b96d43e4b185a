//! Login by a token: as a bearer token, or as a cookie that a link with the token sets.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use cloacina::types::sync::Mutex;

use crate::problem::Problem;

/// Failed logins that one peer may have in a minute.
const MAX_FAILURES: usize = 10;
/// The time for which failures count.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of peers whose failures are kept.
const MAX_PEERS: usize = 1_000;

/// A token and the failed attempts to use it.
pub(crate) struct TokenLogin {
    token: String,
    /// The name of the cookie.
    cookie: String,
    failures: Mutex<Vec<(Option<IpAddr>, Instant)>>,
}

impl TokenLogin {
    pub(crate) const fn new(token: String, cookie: String) -> Self {
        Self {
            token,
            cookie,
            failures: Mutex::new(Vec::new()),
        }
    }

    /// The same login with another cookie.
    pub(crate) fn with_cookie(&self, cookie: String) -> Self {
        Self::new(self.token.clone(), cookie)
    }

    /// Refuses a peer with too many recent failures.
    pub(crate) fn admit(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let mut failures = self.failures.lock();
        failures.retain(|(_, at)| at.elapsed() < WINDOW);
        let count = failures.iter().filter(|(other, _)| *other == peer).count();
        if count < MAX_FAILURES {
            return Ok(());
        }
        let detail = "there were too many requests with a wrong token";
        Err(Problem::new("too_many_requests", detail)
            .hint("wait a minute")
            .header(header::RETRY_AFTER, "60"))
    }

    /// Whether a text is the token. A wrong one counts as a failure of the peer.
    pub(crate) fn accepts(&self, token: &str, peer: Option<IpAddr>) -> bool {
        let is_right = is_equal(token.as_bytes(), self.token.as_bytes());
        if !is_right {
            let mut failures = self.failures.lock();
            if failures.len() >= MAX_PEERS {
                failures.remove(0);
            }
            failures.push((peer, Instant::now()));
        }
        is_right
    }

    /// Whether the headers have the token; `None` if they have no credentials.
    pub(crate) fn accepts_headers(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Option<bool> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let value = value.to_str().unwrap_or_default();
            let (scheme, token) = value.split_once(' ').unwrap_or_default();
            return Some(scheme.eq_ignore_ascii_case("bearer") && self.accepts(token.trim(), peer));
        }
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let (_, token) = pairs.find(|(name, _)| *name == self.cookie)?;
        Some(self.accepts(token, peer))
    }

    /// The cookie that logs a browser in, for 30 days. Scripts cannot read it, and other sites cannot send it.
    pub(crate) fn set_cookie(&self, is_secure: bool) -> String {
        let secure = if is_secure { "; Secure" } else { "" };
        format!(
            "{}={}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict{secure}",
            self.cookie, self.token
        )
    }
}

/// Compares in a time that does not depend on the position of a difference.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && left.len() == right.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_compared_as_a_whole() {
        let login = TokenLogin::new("abcdef".to_owned(), "cloaca-1".to_owned());
        for wrong in ["", "abc", "abcdefg", "abcdeg", "ABCDEF"] {
            assert!(!login.accepts(wrong, None), "{wrong}");
        }
        assert!(login.accepts("abcdef", None));
    }

    #[test]
    fn eleventh_failure_of_a_peer_is_refused() {
        let login = TokenLogin::new("abcdef".to_owned(), "cloaca-1".to_owned());
        let peer = Some(IpAddr::from([10, 0, 0, 1]));
        for _ in 0..MAX_FAILURES {
            assert!(login.admit(peer).is_ok());
            assert!(!login.accepts("wrong", peer));
        }
        assert!(login.admit(peer).is_err());
        assert!(login.admit(None).is_ok());
    }

    #[test]
    fn cookie_is_found_among_others() {
        let login = TokenLogin::new("abcdef".to_owned(), "cloaca-8765".to_owned());
        let mut headers = HeaderMap::new();
        let cookies = "cloaca-1=no; cloaca-8765=abcdef".parse().expect("a header");
        headers.insert(header::COOKIE, cookies);
        assert_eq!(login.accepts_headers(&headers, None), Some(true));
        assert_eq!(login.accepts_headers(&HeaderMap::new(), None), None);
    }
}
