//! Login with a token. A caller sends the token in the header `Authorization`, or in a cookie. A link that contains the token
//! sets the cookie.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use cloacina::types::sync::Mutex;

use crate::problem::Problem;

/// Maximum number of failed logins of one peer (the IP address of a client) within `WINDOW`.
const MAX_FAILURES: usize = 10;
/// Time after which a failed login no longer counts.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of failed logins that are remembered for all peers together. Above this number, the oldest failed login is
/// forgotten.
const MAX_REMEMBERED: usize = 1_000;

/// The token, and the recent failed logins by peer.
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

    /// Returns a login with the same token and another name for the cookie.
    pub(crate) fn with_cookie(&self, cookie: String) -> Self {
        Self::new(self.token.clone(), cookie)
    }

    /// Refuses a text that is not the token, and counts a failed login of the peer. After too many recent failures, the
    /// problem says that the peer has to wait. The right token is accepted even then, because otherwise one caller could lock
    /// out all other callers that use the same proxy.
    pub(crate) fn check(&self, token: &str, peer: Option<IpAddr>) -> Result<(), Problem> {
        if is_equal(token.as_bytes(), self.token.as_bytes()) {
            return Ok(());
        }
        let mut failures = self.failures.lock();
        failures.retain(|(_, at)| at.elapsed() < WINDOW);
        let count = failures.iter().filter(|(other, _)| *other == peer).count();
        if count >= MAX_FAILURES {
            let detail = "there were too many requests with a wrong token";
            return Err(Problem::new("too_many_requests", detail)
                .hint("send the right token, or wait a minute")
                .header(header::RETRY_AFTER, "60"));
        }
        if failures.len() >= MAX_REMEMBERED {
            failures.remove(0);
        }
        failures.push((peer, Instant::now()));
        Err(Problem::unauthenticated())
    }

    /// Refuses headers without the token. Headers without credentials do not count as a failed login.
    pub(crate) fn check_headers(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<(), Problem> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let value = value.to_str().unwrap_or_default();
            let (scheme, token) = value.split_once(' ').unwrap_or_default();
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Problem::unauthenticated());
            }
            return self.check(token.trim(), peer);
        }
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(name, _)| *name == self.cookie);
        let (_, token) = found.ok_or_else(Problem::unauthenticated)?;
        self.check(token, peer)
    }

    /// Returns the cookie that logs a browser in for 30 days. Scripts cannot read the cookie, and browsers do not send it with
    /// requests that come from other sites.
    pub(crate) fn set_cookie(&self, is_secure: bool) -> String {
        let secure = if is_secure { "; Secure" } else { "" };
        format!(
            "{}={}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict{secure}",
            self.cookie, self.token
        )
    }
}

/// Compares two byte strings in a time that does not depend on where they differ.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && left.len() == right.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> TokenLogin {
        TokenLogin::new("abcdef".to_owned(), "cloaca-8765".to_owned())
    }

    fn code(checked: Result<(), Problem>) -> Option<&'static str> {
        checked.err().map(|problem| problem.code)
    }

    #[test]
    fn token_is_compared_as_a_whole() {
        let login = login();
        for wrong in ["", "abc", "abcdefg", "abcdeg", "ABCDEF"] {
            assert!(login.check(wrong, None).is_err(), "{wrong}");
        }
        assert!(login.check("abcdef", None).is_ok());
    }

    #[test]
    fn eleventh_failed_login_of_a_peer_gets_too_many_requests() {
        let login = login();
        let peer = Some(IpAddr::from([10, 0, 0, 1]));
        for _ in 0..MAX_FAILURES {
            assert_eq!(code(login.check("wrong", peer)), Some("unauthenticated"));
        }
        assert_eq!(code(login.check("wrong", peer)), Some("too_many_requests"));
        assert_eq!(code(login.check("wrong", None)), Some("unauthenticated"));
    }

    #[test]
    fn right_token_is_accepted_after_any_number_of_failures() {
        let login = login();
        for _ in 0..2 * MAX_FAILURES {
            assert!(login.check("wrong", None).is_err());
        }
        assert!(login.check("abcdef", None).is_ok());
        let none = login.check_headers(&HeaderMap::new(), None);
        assert_eq!(code(none), Some("unauthenticated"));
    }

    #[test]
    fn cookie_is_found_among_others() {
        let login = login();
        let mut headers = HeaderMap::new();
        let cookies = "cloaca-1=no; cloaca-8765=abcdef".parse().expect("a header");
        headers.insert(header::COOKIE, cookies);
        assert!(login.check_headers(&headers, None).is_ok());
    }
}
