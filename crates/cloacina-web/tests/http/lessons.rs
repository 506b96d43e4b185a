//! Tests for security holes that other dashboards had. Most names begin with the product and the CVE, issue or version.

use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use cloacina_web::{Access, Listening, Permission, Web};
use serde_json::Value;

use crate::fixture::{Fixture, Server, TOKEN, request};

/// Sets a header of a request.
fn with(
    mut request: Request<axum::body::Body>,
    name: &'static str,
    value: &str,
) -> Request<axum::body::Body> {
    let value = HeaderValue::from_str(value).expect("a header");
    request
        .headers_mut()
        .insert(HeaderName::from_static(name), value);
    request
}

/// Removes a header of a request.
fn without(mut request: Request<axum::body::Body>, name: &str) -> Request<axum::body::Body> {
    request.headers_mut().remove(name);
    request
}

#[tokio::test]
async fn ray_cve_2023_48022_only_a_loopback_server_may_run_without_credentials() {
    let fixture = Fixture::new().await;
    let open = Web::without_token(fixture.database());
    let error = Listening::start(open.clone(), ([0, 0, 0, 0], 0).into()).expect_err("an error");
    assert_eq!(error.code.name(), "configuration");
    drop(Listening::start(open, ([127, 0, 0, 1], 0).into()).expect("a server"));
    let guarded = Web::with_token(fixture.database(), TOKEN);
    drop(Listening::start(guarded, ([0, 0, 0, 0], 0).into()).expect("a server"));
}

#[tokio::test]
async fn ray_cve_2026_27482_unsafe_methods_are_refused_across_sites() {
    let fixture = Fixture::new().await;
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            // The check also applies to a user agent that is not a browser.
            let foreign = with(request(method.clone(), &path, "{}"), name, value);
            let answer = fixture
                .server()
                .send(with(foreign, "user-agent", "curl/8"))
                .await;
            assert_eq!(answer.code(), "cross_site", "{method} {name}");
        }
        let plain = without(request(method.clone(), &path, "{}"), "x-cloaca");
        assert_eq!(
            fixture.server().send(plain).await.code(),
            "cross_site",
            "{method}"
        );
        let form = with(
            request(method.clone(), &path, "a=b"),
            "content-type",
            "text/plain",
        );
        assert_eq!(
            fixture.server().send(form).await.code(),
            "unsupported_media_type",
            "{method}"
        );
    }
    assert_eq!(fixture.server().get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn mlflow_cve_2025_14279_unknown_host_is_refused() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "127.0.0.1@evil.example",
    ] {
        let answer = server
            .send(with(request(Method::GET, "/api/v1/meta", ""), "host", host))
            .await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(
            answer.json()["hint"]
                .as_str()
                .is_some_and(|hint| hint.contains("allowed"))
        );
    }
    for host in [
        "127.0.0.1",
        "[::1]:8765",
        "localhost:8765",
        "LOCALHOST",
        "10.1.2.3:80",
    ] {
        let answer = server
            .send(with(request(Method::GET, "/api/v1/meta", ""), "host", host))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
    let named =
        Server::new(Web::with_token(fixture.database(), TOKEN).allowed_hosts(["flows.example"]));
    let answer = named
        .send(with(
            request(Method::GET, "/api/v1/meta", ""),
            "host",
            "Flows.example:443",
        ))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn mlflow_cve_2026_2611_no_answer_has_a_cors_header() {
    let fixture = Fixture::new().await;
    for path in [
        "/",
        "/api/v1/meta",
        "/ajax-api/2.0/x",
        "/healthz",
        "/api/v1/stream",
    ] {
        let preflight = with(
            request(Method::OPTIONS, path, ""),
            "origin",
            "http://127.0.0.1:8765",
        );
        let answer = fixture
            .server()
            .send(with(preflight, "access-control-request-method", "POST"))
            .await;
        let names = answer.headers.keys();
        assert!(
            names
                .map(HeaderName::as_str)
                .all(|name| !name.starts_with("access-control")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn kestra_cve_2026_53576_only_exact_public_paths_need_no_token() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    assert_eq!(
        server
            .send(without(
                request(Method::GET, "/healthz", ""),
                "authorization"
            ))
            .await
            .status,
        StatusCode::OK
    );
    for path in [
        "/api/v1/executions/healthz",
        "/api/v1/healthz",
        "/healthz/",
        "/healthz/../api/v1/meta",
        "/healthz/..%2fapi/v1/meta",
        "/healthz%2f..%2fapi%2fv1%2fmeta",
        "//healthz",
        "/api/v1/workflows/configs",
        "/api/v1/meta?x=/healthz",
        "/api/v1//meta",
        "/openapi.json",
        "/assets/app.js",
    ] {
        let answer = server
            .send(without(request(Method::GET, path, ""), "authorization"))
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn marimo_cve_2026_39987_stream_needs_token_and_permission() {
    let fixture = Fixture::new().await;
    let upgrade = without(request(Method::GET, "/api/v1/stream", ""), "authorization");
    let upgrade = with(
        with(upgrade, "connection", "upgrade"),
        "upgrade",
        "websocket",
    );
    assert_eq!(
        fixture.server().send(upgrade).await.status,
        StatusCode::UNAUTHORIZED
    );
    let no_permission = fixture.server_for(&[]);
    assert_eq!(
        no_permission.get("/api/v1/stream").await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn starlette_cve_2026_48710_host_header_does_not_change_the_route() {
    let fixture = Fixture::new().await;
    for host in [
        "127.0.0.1/healthz",
        "127.0.0.1:8765/healthz?",
        "localhost/healthz#",
    ] {
        let forged = without(request(Method::GET, "/api/v1/meta", ""), "authorization");
        let answer = fixture.server().send(with(forged, "host", host)).await;
        assert!(
            matches!(answer.status.as_u16(), 401 | 421),
            "{host}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn flower_cve_2022_30034_only_the_whole_token_is_accepted() {
    let fixture = Fixture::new().await;
    let longer = format!("Bearer {TOKEN}x");
    let prefix = format!("Bearer {}", &TOKEN[..20]);
    for value in [
        longer.as_str(),
        &prefix,
        "Bearer",
        "Bearer ",
        "Basic Og==",
        ".*",
        TOKEN,
    ] {
        let answer = fixture
            .server()
            .send(with(
                request(Method::GET, "/api/v1/meta", ""),
                "authorization",
                value,
            ))
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{value}");
    }
}

#[tokio::test]
async fn windmill_cve_2026_22683_view_permission_allows_no_write() {
    let fixture = Fixture::new().await;
    let server = fixture.server_for(&[Permission::View, Permission::ViewPayloads]);
    let before = fixture.state().await;
    for (path, body) in [
        ("/api/v1/executions".to_owned(), r#"{"workflow":"etl"}"#),
        (format!("/api/v1/executions/{}/retry", fixture.failed), "{}"),
        (
            format!("/api/v1/schedules/{}/run-now", fixture.schedule),
            "{}",
        ),
        (
            "/api/v1/database/prune".to_owned(),
            r#"{"older_than":"0s"}"#,
        ),
    ] {
        let answer = server.post(&path, body).await;
        assert_eq!(answer.code(), "forbidden", "{path}");
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn airflow_cve_2024_45784_no_answer_contains_a_secret() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for operation in cloacina_web::operations() {
        if !operation.is_read() || operation.path == "/stream" {
            continue;
        }
        for id in [&fixture.failed, &fixture.completed] {
            let path = operation.path.replace("{id}", id).replace("{name}", "etl");
            for task in ["load", "extract"] {
                let answer = server
                    .get(&format!("/api/v1{}", path.replace("{task}", task)))
                    .await;
                assert!(
                    !answer.text.contains("sk-live-12345"),
                    "{path}: {}",
                    answer.text
                );
                // A route without an id does not read the input of an execution, so it cannot mask this password.
                if operation.path.contains("{id}") {
                    assert!(
                        !answer.text.contains("hunter2-long"),
                        "{path}: {}",
                        answer.text
                    );
                }
            }
        }
    }
    for (a, b) in [
        (&fixture.failed, &fixture.completed),
        (&fixture.completed, &fixture.failed),
    ] {
        let compared = server.get(&format!("/api/v1/compare?a={a}&b={b}")).await;
        assert_eq!(compared.status, StatusCode::OK, "{}", compared.text);
        for secret in ["hunter2-long", "sk-live-12345"] {
            assert!(!compared.text.contains(secret), "{}", compared.text);
        }
    }
    let input = format!("/api/v1/executions/{}/input", fixture.failed);
    assert_eq!(server.get(&input).await.json()["value"]["password"], "•••");
}

#[tokio::test]
async fn airflow_3_0_3_meta_does_not_show_environment_or_configuration() {
    let fixture = Fixture::new().await;
    let meta = fixture.server().get("/api/v1/meta").await.json();
    assert!(meta["location"].is_string());
    // The location may be shown, because the store removes the password from it.
    let members: Vec<&String> = meta.as_object().expect("an object").keys().collect();
    assert!(
        members
            .iter()
            .all(|name| !name.contains("env") && !name.contains("config")),
        "{members:?}"
    );
}

#[tokio::test]
async fn oban_web_2_12_5_huge_cron_expression_is_refused() {
    let fixture = Fixture::new().await;
    for expression in [
        "0-999999999%20*%20*%20*%20*".to_owned(),
        "*/1,".repeat(1_500),
        "%25".repeat(2_000),
        "1-".repeat(2_000),
    ] {
        let path = format!("/api/v1/schedules/preview?expression={expression}");
        let answer = fixture.server().get(&path).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
        assert!(answer.text.len() < 20_000, "{}", answer.text.len());
    }
}

#[tokio::test]
async fn tensorboard_2387_server_listens_only_on_the_given_address() {
    let fixture = Fixture::new().await;
    let web = Web::with_token(fixture.database(), TOKEN);
    let server = Listening::start(web, ([127, 0, 0, 1], 0).into()).expect("a server");
    assert!(server.address().ip().is_loopback());
}

#[tokio::test]
async fn jupyter_token_is_exchanged_for_a_cookie_that_scripts_cannot_read() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let link = without(
        request(Method::GET, &format!("/?token={TOKEN}"), ""),
        "authorization",
    );
    let login = server.send(link).await;
    assert_eq!(login.status, StatusCode::SEE_OTHER);
    assert_eq!(login.headers["referrer-policy"], "no-referrer");
    let cookie = login.headers[header::SET_COOKIE]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    let page = without(request(Method::GET, "/api/v1/meta", ""), "authorization");
    assert_eq!(
        server.send(with(page, "cookie", pair)).await.status,
        StatusCode::OK
    );
    // A token in the URL of an API route is not accepted.
    let elsewhere = without(
        request(Method::GET, &format!("/api/v1/meta?token={TOKEN}"), ""),
        "authorization",
    );
    assert_eq!(
        server.send(elsewhere).await.status,
        StatusCode::UNAUTHORIZED
    );
    let wrong = without(request(Method::GET, "/?token=wrong", ""), "authorization");
    assert_eq!(server.send(wrong).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn sidekiq_csp_allows_nothing_inline() {
    let fixture = Fixture::new().await;
    for path in ["/", "/api/v1/meta", "/healthz", "/nothing"] {
        let answer = fixture.server().get(path).await;
        let policy = answer.headers["content-security-policy"]
            .to_str()
            .expect("text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert!(
            !answer.text.contains("<script>") && !answer.text.contains(" style="),
            "{path}"
        );
    }
}

#[tokio::test]
async fn hostile_values_are_refused() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let deep = format!(
        r#"{{"workflow":"etl","input":{{"a":{}{}}}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let answer = server.post("/api/v1/executions", &deep).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    let large = format!(
        r#"{{"workflow":"etl","input":{{"a":"{}"}}}}"#,
        "x".repeat(17 << 20)
    );
    let answer = server.post("/api/v1/executions", &large).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    let markup = r#"{"workflow":"<img src=x onerror=alert(1)>"}"#;
    let answer = server.post("/api/v1/executions", markup).await;
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let long = format!("/api/v1/executions?workflow={}", "x".repeat(9_000));
    assert_eq!(
        server.get(&long).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    for query in ["%00", "%ff%fe", "%F0%9F", "a%00b"] {
        let answer = server
            .get(&format!("/api/v1/executions?workflow={query}"))
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    let many = vec!["key=a"; 300].join("&");
    assert_eq!(
        server
            .get(&format!("/api/v1/executions?{many}"))
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn failed_logins_of_a_peer_are_limited() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let wrong = || {
        with(
            request(Method::GET, "/api/v1/meta", ""),
            "authorization",
            "Bearer wrong",
        )
    };
    for _ in 0..10 {
        assert_eq!(server.send(wrong()).await.status, StatusCode::UNAUTHORIZED);
    }
    let answer = server.send(wrong()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers[header::RETRY_AFTER], "60");
    let link = |token: &str| {
        let path = format!("/?token={token}");
        without(request(Method::GET, &path, ""), "authorization")
    };
    assert_eq!(
        server.send(link("wrong")).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    // The limit does not affect a correct token. A request without a token does not count as a failed login.
    assert_eq!(server.get("/api/v1/meta").await.status, StatusCode::OK);
    assert_eq!(server.send(link(TOKEN)).await.status, StatusCode::SEE_OTHER);
    let anonymous = without(request(Method::GET, "/api/v1/meta", ""), "authorization");
    assert_eq!(
        server.send(anonymous).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn another_site_can_link_to_the_page_but_not_embed_it() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let navigation = |site: &str, destination: Option<&str>| {
        let request = with(request(Method::GET, "/", ""), "sec-fetch-site", site);
        let request = with(request, "sec-fetch-mode", "navigate");
        match destination {
            Some(destination) => with(request, "sec-fetch-dest", destination),
            None => request,
        }
    };
    for site in ["cross-site", "same-site"] {
        for destination in [None, Some("document")] {
            let answer = server.send(navigation(site, destination)).await;
            assert_eq!(answer.status, StatusCode::OK, "{site} {destination:?}");
        }
        for destination in ["iframe", "frame", "embed", "object", "empty", ""] {
            let answer = server.send(navigation(site, Some(destination))).await;
            assert_eq!(answer.code(), "cross_site", "{site} {destination}");
        }
    }
    let own = server.send(navigation("same-origin", Some("iframe"))).await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn hide_payloads_also_applies_to_callers_with_full_access() {
    let fixture = Fixture::new().await;
    let web = Web::new(fixture.database(), |_| Some(Access::full("ann"))).hide_payloads();
    let server = Server::new(web);
    for what in [
        "input",
        "output",
        "tasks/extract/output",
        "tasks/extract/view",
    ] {
        let answer = server
            .get(&format!("/api/v1/executions/{}/{what}", fixture.completed))
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}");
    }
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    assert_eq!(server.get(&path).await.json()["input"], Value::Null);
}
