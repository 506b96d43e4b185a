//! The router of the API and the page. Every request must pass the checks of the gate (`gate.rs`). Only the health
//! check needs no authentication.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::assets;
use crate::call::Call;
use crate::gate;
use crate::operation::{Answer, Operation};
use crate::pages;
use crate::problem::Problem;
use crate::query::Query;
use crate::routes;
use crate::stream;
use crate::web::Web;

/// Maximum number of requests whose handlers run at once. Further requests wait, at most until their deadlines.
const MAX_QUERIES: usize = 4;

/// The state that the routes share.
pub(crate) struct Server {
    pub(crate) web: Web,
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) streams: stream::Streams,
}

/// Returns the API and the page of a database as a router, to serve or to nest below any path.
///
/// The router needs a tokio runtime with timers.
///
/// Since 1.0.
pub fn router(web: Web) -> Router {
    let server = Arc::new(Server {
        web,
        queries: Arc::new(Semaphore::new(MAX_QUERIES)),
        streams: stream::Streams::default(),
    });
    let mut by_path: Vec<(&'static str, Vec<Arc<Operation>>)> = Vec::new();
    for operation in routes::operations() {
        let operation = Arc::new(operation);
        match by_path.iter_mut().find(|(path, _)| *path == operation.path) {
            Some((_, operations)) => operations.push(operation),
            None => by_path.push((operation.path, vec![operation])),
        }
    }
    let mut router = Router::new();
    for (path, operations) in by_path {
        let mut methods = MethodRouter::new();
        for operation in operations {
            methods = methods.merge(route(&server, operation));
        }
        router = router.route(&format!("/api/v1{path}"), methods);
    }
    let gate = middleware::from_fn_with_state(Arc::clone(&server), guard);
    let api = router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(gate.clone());
    let mut page = Router::new().route("/assets/{name}", get(assets::serve));
    for path in pages::PATHS {
        let depth = pages::Depth(path.trim_end_matches('/').matches('/').count());
        page = page.route(path, get(pages::index).layer(Extension(depth)));
    }
    let page = page
        .method_not_allowed_fallback(no_method)
        .layer(gate)
        .layer(Extension(pages::IsPage));
    // The health check is the only route without authentication.
    let health = Router::new()
        .route("/healthz", get(pages::health))
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&server),
            guard_public,
        ));
    api.merge(page)
        .merge(health)
        .layer(middleware::from_fn(protect))
        .with_state(server)
}

fn route(server: &Arc<Server>, operation: Arc<Operation>) -> MethodRouter<Arc<Server>> {
    let filter = match operation.method {
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        Method::PATCH => MethodFilter::PATCH,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    let server = Arc::clone(server);
    on(filter, move |request: Request| {
        let (server, operation) = (Arc::clone(&server), Arc::clone(&operation));
        async move {
            let redactor = server.web.redactor();
            match answer(server, operation, request).await {
                Ok(response) => response,
                Err(problem) => redacted(&problem, &redactor),
            }
        }
    })
}

/// Returns the response for a problem, with the secrets in the problem's texts masked.
fn redacted(problem: &Problem, redactor: &crate::redact::Redactor) -> Response {
    problem.redacted(redactor).into_response()
}

/// Runs the checks of the gate for every route except `healthz`.
async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if let Err(problem) = gate::check(&server.web, &head) {
        return problem.into_response();
    }
    if let Some(response) = pages::exchange_token(&server.web, &head) {
        return response;
    }
    match gate::authenticate(&server.web, &head) {
        Ok(access) => {
            head.extensions.insert(access);
            next.run(Request::from_parts(head, body)).await
        }
        Err(problem) if pages::is_page(&head) => pages::login(&server.web, &problem),
        Err(problem) => problem.into_response(),
    }
}

/// Runs the checks of the gate except authentication, for the health check.
async fn guard_public(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match gate::check(&server.web, &head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(problem) => problem.into_response(),
    }
}

/// The security headers that every answer gets.
pub(crate) const SECURITY_HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'self'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    // A cache must not answer instead of the server, but a client may revalidate an answer with its entity tag.
    let cache = if headers.contains_key(header::ETAG) {
        "private, no-cache"
    } else {
        "no-store"
    };
    let cache = HeaderValue::from_static(cache);
    headers.entry(header::CACHE_CONTROL).or_insert(cache);
    response
}

async fn no_route(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let problem = Problem::no_route(method, path);
    if method == Method::GET && !path.starts_with("/api/") && pages::wants_html(request.headers()) {
        return pages::missing(path);
    }
    problem.into_response()
}

async fn no_method(request: Request) -> Problem {
    let detail = format!("the route does not have the method {}", request.method());
    Problem::new("method_not_allowed", detail)
}

async fn answer(
    server: Arc<Server>,
    operation: Arc<Operation>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut head, body) = request.into_parts();
    let access = head.extensions.get::<Access>().cloned();
    let access = access.ok_or_else(Problem::unauthenticated)?;
    server.web.check(&access, operation.permission)?;
    let path = path_of(&mut head).await?;
    let query = Query::parse(head.uri.query().unwrap_or_default(), &operation.parameters)?;
    let query = query.of_path(path_with_values(operation.path, &path));
    let tenant = query.get("tenant").map(str::to_owned);
    let is_open = tenant.is_none() && operation.is_of_all_tenants;
    if !is_open && !access.allows_tenant(tenant.as_deref()) {
        let detail = match &tenant {
            Some(tenant) => format!("the caller may not use tenant '{tenant}'"),
            None => {
                "the request names no tenant, but the caller may use only some tenants".to_owned()
            }
        };
        return Err(Problem::new("forbidden", detail).hint("name a tenant with ?tenant="));
    }
    if matches!(operation.answer, Answer::Changes) {
        return stream::open(server, &head, &access, tenant).await;
    }
    let Answer::Blocking(handler) = operation.answer else {
        return Err(Problem::new("internal", "the route has no handler"));
    };
    let body = read(body, operation.body_limit).await?;
    if operation.body.is_none() && operation.is_read() && !body.is_empty() {
        return Err(Problem::new(
            "bad_request",
            "the request has a body, but the route takes none",
        ));
    }
    let (deadline, is_read) = (server.web.deadline, operation.is_read());
    let work = async move {
        let turn = Arc::clone(&server.queries).acquire_owned().await;
        let working = tokio::task::spawn_blocking(move || {
            // The permit is kept until the database has answered, even if the caller no longer waits.
            let _turn = turn;
            let web = &server.web;
            let call = Call {
                web,
                inspector: web.database.inspector(tenant.as_deref())?,
                tenant,
                access: &access,
                headers: &head.headers,
                path,
                query,
                body: &body,
            };
            let reply = handler(&call)
                .map_err(|problem| web.database.unless_removed(call.tenant.as_deref(), problem))?;
            Ok(reply.into_response(&web.redactor(), is_read, &head.headers))
        });
        let answer = working.await;
        answer.unwrap_or_else(|error| Err(Problem::of_work(&error)))
    };
    let answered = tokio::time::timeout(deadline, work).await;
    answered.unwrap_or_else(|_| Err(late(deadline, is_read)))
}

/// Returns the problem that a request has exceeded its deadline. Its work on the database may continue.
fn late(deadline: Duration, is_read: bool) -> Problem {
    let seconds = deadline.as_secs_f32();
    let detail = format!("the database did not answer within {seconds} s");
    Problem::new("deadline", detail).hint(if is_read {
        "ask for less: a smaller limit, or a later `since`"
    } else {
        "the change may still happen: read the object again before you repeat the request"
    })
}

async fn path_of(head: &mut Parts) -> Result<Vec<(String, String)>, Problem> {
    let parts = RawPathParams::from_request_parts(head, &()).await;
    let parts = parts.map_err(|_| Problem::new("bad_request", "the path is not UTF-8"))?;
    let owned = parts
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(owned.collect())
}

/// Returns the path of a route, followed by the values of its variable parts, one a line. Unlike the path of the
/// request, this text does not depend on the path at which the router is nested.
fn path_with_values(route: &str, values: &[(String, String)]) -> String {
    let values = values.iter().map(|(_, value)| value.as_str());
    let parts: Vec<&str> = std::iter::once(route).chain(values).collect();
    parts.join("\n")
}

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let bytes = axum::body::to_bytes(body, limit).await;
    bytes.map(Into::into).map_err(|_| {
        Problem::new(
            "too_large",
            format!("the body exceeds {limit} bytes, or ended early"),
        )
    })
}

/// Returns a redirect (`303 See Other`) to a location that is relative to the request.
pub(crate) fn see_other(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_change_has_the_hint_that_it_may_still_happen() {
        for (is_read, expected) in [
            (true, "ask for less"),
            (false, "the change may still happen"),
        ] {
            let problem = late(Duration::from_secs(10), is_read);
            assert_eq!(problem.status, StatusCode::GATEWAY_TIMEOUT);
            let hint = problem.hint_text().expect("a hint");
            assert!(hint.starts_with(expected), "{hint}");
        }
    }
}
