//! Tests that send every method to every route of the route table: without credentials, with the permission `view` only,
//! with a foreign host, with a foreign origin, and in read-only mode.

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use cloacina_web::operation::Operation;
use cloacina_web::{Permission, Web, operations};

use crate::fixture::{Answer, Fixture, Server, TOKEN, request};

/// The methods that a client may send. `TRACE` and `OPTIONS` represent the methods that no route supports.
const METHODS: &[Method] = &[
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];

/// Returns the path of each route, with values for its variable parts, and the operations of that path. Also returns
/// the path of the page, `/`, without operations.
fn paths(fixture: &Fixture) -> Vec<(String, Vec<Operation>)> {
    let mut paths: Vec<(String, Vec<Operation>)> = Vec::new();
    for operation in operations() {
        let id = if operation.path.starts_with("/schedules") {
            &fixture.schedule
        } else {
            &fixture.completed
        };
        let path = operation.path.replace("{id}", id);
        let path = path.replace("{task}", "extract").replace("{name}", "etl");
        let path = format!("/api/v1{}", path.replace("{version}", "0"));
        match paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, operations)) => operations.push(operation),
            None => paths.push((path, vec![operation])),
        }
    }
    paths.push(("/".to_owned(), Vec::new()));
    paths
}

/// Sends every method to every path. `change` edits each request and `check` examines its answer. No request may change
/// the database.
async fn send_every_request(
    fixture: &Fixture,
    server: &Server,
    change: impl Fn(&mut Request<axum::body::Body>),
    check: impl Fn(&str, &Method, Option<&Operation>, &Answer),
) {
    let before = fixture.state().await;
    for (path, operations) in paths(fixture) {
        for method in METHODS {
            let mut request = request(method.clone(), &path, "{}");
            change(&mut request);
            let answer = server.send(request).await;
            let asked = if method == Method::HEAD {
                &Method::GET
            } else {
                method
            };
            let operation = operations
                .iter()
                .find(|operation| operation.method == *asked);
            assert!(!answer.text.contains(TOKEN), "{method} {path}");
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
            ] {
                assert_eq!(answer.headers[name], value, "{method} {path}");
            }
            assert!(
                !answer.headers.contains_key("access-control-allow-origin"),
                "{method} {path}"
            );
            check(&path, method, operation, &answer);
        }
    }
    assert_eq!(
        fixture.state().await,
        before,
        "a request changed the database"
    );
}

#[tokio::test]
async fn request_without_credentials_is_refused_on_every_route_and_method() {
    let fixture = Fixture::new().await;
    let without = |request: &mut Request<_>| {
        request.headers_mut().remove(header::AUTHORIZATION);
    };
    send_every_request(
        &fixture,
        &fixture.server(),
        without,
        |path, method, _, answer| {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        },
    )
    .await;
}

#[tokio::test]
async fn foreign_host_is_refused_on_every_route_and_method() {
    let fixture = Fixture::new().await;
    let foreign = |request: &mut Request<_>| {
        let host = HeaderValue::from_static("evil.example:8765");
        request.headers_mut().insert(header::HOST, host);
    };
    send_every_request(
        &fixture,
        &fixture.server(),
        foreign,
        |path, method, _, answer| {
            assert_eq!(
                answer.status,
                StatusCode::MISDIRECTED_REQUEST,
                "{method} {path}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn foreign_origin_is_refused_on_every_route_and_method() {
    let fixture = Fixture::new().await;
    let foreign = |request: &mut Request<_>| {
        let origin = HeaderValue::from_static("http://evil.example");
        request.headers_mut().insert(header::ORIGIN, origin);
    };
    send_every_request(
        &fixture,
        &fixture.server(),
        foreign,
        |path, method, _, answer| {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
        },
    )
    .await;
}

#[tokio::test]
async fn caller_with_only_view_can_use_only_view_routes() {
    let fixture = Fixture::new().await;
    let server = fixture.server_for(&[Permission::View]);
    send_every_request(
        &fixture,
        &server,
        |_| {},
        |path, method, operation, answer| {
            let Some(operation) = operation else {
                return;
            };
            if operation.permission == Permission::View {
                assert_ne!(
                    answer.status,
                    StatusCode::FORBIDDEN,
                    "{method} {path}: {}",
                    answer.text
                );
            } else {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn read_only_mode_refuses_every_change() {
    let fixture = Fixture::new().await;
    let server = Server::new(Web::with_token(fixture.database(), TOKEN).read_only());
    send_every_request(
        &fixture,
        &server,
        |_| {},
        |path, method, operation, answer| {
            let Some(operation) = operation else {
                return;
            };
            if operation.permission.is_write() {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
                assert_eq!(answer.code(), "read_only", "{method} {path}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn answer_to_an_unsupported_method_lists_the_supported_ones() {
    let fixture = Fixture::new().await;
    for (path, operations) in paths(&fixture) {
        for method in METHODS {
            let asked = if method == Method::HEAD {
                &Method::GET
            } else {
                method
            };
            let is_page = path == "/" && *asked == Method::GET;
            if is_page
                || operations
                    .iter()
                    .any(|operation| operation.method == *asked)
            {
                continue;
            }
            let answer = fixture
                .server()
                .send(request(method.clone(), &path, "{}"))
                .await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
            assert!(!answer.headers[header::ALLOW].is_empty(), "{method} {path}");
        }
    }
}
