//! The gate: the checks that every request must pass before a handler is called.
//!
//! The checks are, in this order: size limits, the host, the origin, authentication, and the permission of the matched route
//! (`router.rs`). The checks before the permission are the same for every path, so that no path can bypass them. The
//! only exception is the health check (`/healthz`), which needs neither authentication nor a permission.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use crate::access::Access;
use crate::problem::Problem;
use crate::web::{Authentication, Hosts, Web};

/// Maximum size of all headers, in bytes.
const MAX_HEADERS: usize = 16 * 1024;
/// Maximum length of a path with its query, in bytes.
const MAX_TARGET: usize = 8 * 1024;

/// The name of the header that every change needs, because a page of another site cannot send it.
pub(crate) const CHANGE_HEADER: &str = "x-cloaca";

/// Runs the checks that come before authentication.
pub(crate) fn check(web: &Web, head: &Parts) -> Result<(), Problem> {
    check_size(head)?;
    check_host(web, head)?;
    check_origin(web, head)
}

fn check_size(head: &Parts) -> Result<(), Problem> {
    let pairs = head.headers.iter();
    let size: usize = pairs
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if size > MAX_HEADERS {
        let detail = format!("the headers exceed {MAX_HEADERS} bytes");
        return Err(Problem::new("too_large", detail));
    }
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        let detail = format!("the URL exceeds {MAX_TARGET} bytes");
        return Err(Problem::new("too_large", detail));
    }
    Ok(())
}

/// Returns the host that a request is for, without the port, in lower case.
fn host_of(web: &Web, head: &Parts) -> Option<String> {
    without_port(&authority_of(web, head)?).map(str::to_owned)
}

/// Returns the host and port that a request is for, in lower case.
fn authority_of(web: &Web, head: &Parts) -> Option<String> {
    let forwarded = head.headers.get("x-forwarded-host");
    if let Some(value) = forwarded.filter(|_| web.trusts_proxy) {
        // Each further proxy appends a host, so the first host is the one that the browser asked for.
        let first = value.to_str().ok()?.split(',').next()?;
        return Some(first.trim().to_ascii_lowercase());
    }
    match head.headers.get(header::HOST) {
        Some(value) => Some(value.to_str().ok()?.trim().to_ascii_lowercase()),
        None => head
            .uri
            .authority()
            .map(|authority| authority.as_str().to_ascii_lowercase()),
    }
}

/// Returns the host of an authority; `None` if brackets or the port are malformed.
fn without_port(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let digits = port.strip_prefix(':').unwrap_or(port);
    let is_valid = port.is_empty() || port.starts_with(':');
    let is_valid = is_valid && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_valid.then_some(host)
}

/// Whether a host is an IP address, as it is written in a URL: an IPv6 address is in brackets.
fn is_address(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').map(str::parse::<Ipv6Addr>);
            inner.is_some_and(|address| address.is_ok())
        }
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

fn check_host(web: &Web, head: &Parts) -> Result<(), Problem> {
    let Hosts::Named(names) = &web.hosts else {
        return Ok(());
    };
    if head.headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::new(
            "bad_request",
            "the request has more than one Host header",
        ));
    }
    let host = host_of(web, head);
    let is_allowed =
        |host: &String| is_address(host) || host == "localhost" || names.contains(host);
    if host.as_ref().is_some_and(is_allowed) {
        return Ok(());
    }
    let host = host.or_else(|| authority_of(web, head)).unwrap_or_default();
    let shown: String = host.chars().take(80).collect();
    Err(Problem::new(
        "host_not_allowed",
        format!("the server does not answer for host '{shown}'"),
    )
    .hint("allow the name with --allowed-host, or allowed_hosts= in Python"))
}

/// Whether a method only reads. Every other method counts as a change, even if it is unknown.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

fn check_origin(web: &Web, head: &Parts) -> Result<(), Problem> {
    let (headers, safe) = (&head.headers, is_safe(&head.method));
    let foreign = || {
        Problem::new(
            "cross_site",
            "the request comes from a page of another site",
        )
    };
    match text(headers, "sec-fetch-site") {
        Some("same-origin" | "none") => {}
        // A link on another site may open a page here, but a page of another site may not embed or fetch anything.
        Some(_) if safe && opens_a_page(headers) => {}
        Some(_) => return Err(foreign()),
        None => {
            if let Some(origin) = text(headers, "origin")
                && !is_own(web, head, origin)
            {
                return Err(foreign());
            }
        }
    }
    if safe {
        return Ok(());
    }
    let kind = text(headers, "content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "a change needs the header Content-Type: application/json";
        return Err(Problem::new("unsupported_media_type", detail));
    }
    if text(headers, CHANGE_HEADER) != Some("1") {
        let detail =
            "a change needs the header X-Cloaca: 1, which pages of other sites cannot send";
        return Err(Problem::new("cross_site", detail).hint("send the header X-Cloaca: 1"));
    }
    Ok(())
}

/// Whether a browser opens a page in a tab. A frame also loads with the mode `navigate`, but has another destination.
fn opens_a_page(headers: &HeaderMap) -> bool {
    let destination = text(headers, "sec-fetch-dest");
    text(headers, "sec-fetch-mode") == Some("navigate")
        && matches!(destination, None | Some("document"))
}

/// Whether an origin is the server's own. The scheme can differ, because a proxy can terminate TLS.
fn is_own(web: &Web, head: &Parts, origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |text: &str| text.strip_suffix(default).unwrap_or(text).to_owned();
    let own = authority_of(web, head);
    own.is_some_and(|own| plain(&own) == plain(&authority.to_ascii_lowercase()))
}

/// Returns the IP address of the caller, if the server knows it.
pub(crate) fn peer(head: &Parts) -> Option<IpAddr> {
    let info = head.extensions.get::<ConnectInfo<SocketAddr>>();
    info.map(|ConnectInfo(address)| address.ip())
}

/// Whether the browser reaches the server by HTTPS.
pub(crate) fn is_https(web: &Web, head: &Parts) -> bool {
    let forwarded = text(&head.headers, "x-forwarded-proto");
    head.uri.scheme_str() == Some("https") || (web.trusts_proxy && forwarded == Some("https"))
}

/// Authenticates the caller, and returns the caller's access.
pub(crate) fn authenticate(web: &Web, head: &Parts) -> Result<Access, Problem> {
    match &web.authentication {
        Authentication::Function(authorize) => authorize(head),
        Authentication::Open => Some(Access::full("local")),
        Authentication::Adapter => head.extensions.get::<Access>().cloned(),
        Authentication::Token(login) => {
            login.check_headers(&head.headers, peer(head))?;
            Some(Access::full("token"))
        }
    }
    .ok_or_else(Problem::unauthenticated)
}
