//! The answers outside the API: the page, the login of a browser, and the health check.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::{Access, Permission};
use crate::assets;
use crate::gate;
use crate::problem::Problem;
use crate::router::{Server, see_other};
use crate::web::{Authentication, Web};

/// Whether a request is for a page: the request has the marker [`IsPage`], and the client asks for HTML.
pub(crate) fn is_page(head: &Parts) -> bool {
    head.extensions.get::<IsPage>().is_some() && wants_html(&head.headers)
}

/// Whether a client asks for HTML, as browsers do.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT);
    let text = accepts.and_then(|value| value.to_str().ok());
    text.is_some_and(|text| text.contains("text/html"))
}

/// A marker in the extensions of a request whose matched route is a page or a file of the page.
#[derive(Clone, Copy)]
pub(crate) struct IsPage;

/// Answers a browser that opens a link with a token: sets the login cookie, and redirects to the same page without the token.
/// Refuses a wrong token. Returns `None` if the request is not a GET of a page, if its URL has no token, or if the server
/// does not use tokens.
pub(crate) fn exchange_token(web: &Web, head: &Parts) -> Option<Response> {
    let Authentication::Token(login) = &web.authentication else {
        return None;
    };
    if head.extensions.get::<IsPage>().is_none() || !matches!(head.method, Method::GET) {
        return None;
    }
    let query = head.uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, token) = pairs.find(|(name, _)| name == "token")?;
    match login.check(&token, gate::peer(head)) {
        Ok(()) => {}
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
            return Some(self::login(web, &problem));
        }
        Err(problem) => return Some(problem.into_response()),
    }
    let mut rest = form_urlencoded::Serializer::new(String::new());
    let others = form_urlencoded::parse(query.as_bytes());
    rest.extend_pairs(others.filter(|(name, _)| name != "token"));
    // The location is relative to this page, so it works below any prefix.
    let mut response = see_other(&format!("?{}", rest.finish()));
    let cookie = login.set_cookie(gate::is_https(web, head));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Some(response)
}

/// Answers a browser that has sent no valid credentials.
pub(crate) fn login(web: &Web, problem: &Problem) -> Response {
    let how = if matches!(web.authentication, Authentication::Token(_)) {
        "Open the link that <code>cloaca ui</code> printed. It contains the token of this server."
    } else {
        "Log in to the application that serves this page."
    };
    let body = format!("<h1>cloaca</h1>\n<p>You are not logged in. {how}</p>");
    let mut response = page("cloaca: not logged in", &body);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    if let Some(challenge) = problem.challenge() {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The paths of the page, below the mount (the path at which a program nests the router). All are answered with the
/// same HTML, except for its `<base>`. The script of the page shows the object that the path names.
pub(crate) const PATHS: &[&str] = &[
    "/",
    "/executions",
    "/executions/{id}",
    "/executions/{id}/{tab}",
    "/compare",
    "/workflows",
    "/workflows/{name}",
    "/workflows/{name}/start",
    "/schedules",
    "/schedules/{id}",
    "/waiting",
    "/runners",
    "/tenants",
    "/database",
];

/// The number of slashes in the path of a page below the mount; 0 for the mount itself.
#[derive(Clone, Copy)]
pub(crate) struct Depth(pub(crate) usize);

/// Answers with the page. Its `<base>` leads from the requested path to the mount, so the page works below any prefix.
pub(crate) async fn index(
    State(server): State<Arc<Server>>,
    Extension(access): Extension<Access>,
    Extension(Depth(depth)): Extension<Depth>,
    OriginalUri(asked): OriginalUri,
) -> Result<Response, Problem> {
    server.web.check(&access, Permission::View)?;
    let last = asked.path().rsplit('/').next().unwrap_or_default();
    // At depth 0, the request is for the mount itself. Without a slash at the end, the last part of the path is the
    // mount's name, and `<base>` must repeat it.
    let base = match depth {
        0 if last.is_empty() => "./".to_owned(),
        0 => format!("./{}/", escape(last)),
        depth => format!("./{}", "../".repeat(depth - 1)),
    };
    let text = assets::INDEX.replacen(assets::BASE, &format!("<base href=\"{base}\">"), 1);
    Ok(respond(text))
}

/// Answers a browser that asks for a page that does not exist. The answer links to the Attention page.
pub(crate) fn missing(path: &str) -> Response {
    let up = match path.matches('/').count() {
        0 | 1 => "./".to_owned(),
        depth => "../".repeat(depth - 1),
    };
    let shown: String = path.chars().take(200).collect();
    let body = format!(
        "<link rel=\"stylesheet\" href=\"{up}assets/app.css\">\n<main class=\"empty\">\n<h1>There is no such page</h1>\n\
         <p><code>{}</code> is not a page of cloaca.</p>\n<p><a href=\"{up}\">Go to the Attention page</a></p>\n</main>",
        escape(&shown)
    );
    let mut response = page("cloaca: no such page", &body);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Answers whether the server can reach its database. The caller needs no credentials, and learns nothing else.
pub(crate) async fn health(State(server): State<Arc<Server>>) -> Response {
    let database = server.web.database.clone();
    let asked = tokio::task::spawn_blocking(move || database.check_answers());
    let deadline = server.web.deadline.min(std::time::Duration::from_secs(2));
    let is_well = matches!(tokio::time::timeout(deadline, asked).await, Ok(Ok(Ok(()))));
    let (status, text) = if is_well {
        (StatusCode::OK, r#"{"status":"ok"}"#)
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"unavailable"}"#,
        )
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, text).into_response()
}

/// Returns an HTML document without scripts and style sheets: a text under a title.
pub(crate) fn document(title: &str, text: &str) -> String {
    let (title, text) = (escape(title), escape(text));
    html(&title, &format!("<h1>{title}</h1>\n<pre>{text}</pre>"))
}

fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n{body}\n</html>\n"
    )
}

fn page(title: &str, body: &str) -> Response {
    respond(html(title, body))
}

fn respond(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Escapes a text for HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
