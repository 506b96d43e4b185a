//! Tests of the contract of the API: times, cursors, problems, and requests that are refused.

use axum::http::{HeaderName, Method, StatusCode};
use cloacina_web::{Access, Web};
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, Server, request};

/// Returns the pointers of the invalid parts that a problem names.
fn pointers(answer: &Answer) -> Vec<String> {
    let problem = answer.json();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let pointers = errors.iter().map(|error| error["pointer"].as_str());
    pointers.flatten().map(str::to_owned).collect()
}

/// Sends a request for the metadata, with one header set to the given value.
async fn with(server: &Server, method: Method, name: &'static str, value: &str) -> Answer {
    let mut request = request(method, "/api/v1/meta", "");
    let value = value.parse().expect("a header");
    let name = HeaderName::from_static(name);
    request.headers_mut().insert(name, value);
    server.send(request).await
}

#[tokio::test]
async fn start_time_of_an_attempt_is_rfc_3339_text_in_events() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/executions/{}", fixture.failed);
    // The retry stores an event about the end of the earlier attempt. This event contains the start time of the attempt.
    let retried = server.post(&format!("{path}/retry"), "{}").await;
    assert_eq!(retried.status, StatusCode::OK, "{}", retried.text);
    let events = server.get(&format!("{path}/events")).await.json();
    let export = server.get(&format!("{path}/export")).await.json();
    for events in [&events["items"], &export["events"]] {
        let events = events.as_array().expect("events");
        let failed = events.iter().find(|event| event["type"] == "task_failed");
        let started = &failed.expect("an event")["data"]["started_at"];
        assert!(
            started.as_str().is_some_and(|text| text.ends_with('Z')),
            "{started}"
        );
    }
}

#[tokio::test]
async fn cursor_of_another_list_is_refused() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let list = |id: &str, what: &str| format!("/api/v1/executions/{id}/{what}?limit=1");
    let events = list(&fixture.failed, "events");
    let cursor = server.get(&events).await.json()["next"].clone();
    let cursor = cursor.as_str().expect("a cursor");
    let own = server.get(&format!("{events}&cursor={cursor}")).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text);
    for other in [
        list(&fixture.completed, "events"),
        list(&fixture.failed, "tasks"),
        format!("{events}&after=1"),
    ] {
        let refused = server.get(&format!("{other}&cursor={cursor}")).await;
        assert_eq!(refused.code(), "invalid_parameter", "{other}");
        assert_eq!(pointers(&refused), ["cursor"], "{other}");
    }
}

#[tokio::test]
async fn after_parameter_also_applies_to_pages_requested_by_cursor() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!(
        "/api/v1/executions/{}/events?after=1&limit=1",
        fixture.failed
    );
    let index = |page: &Value| page["items"][0]["index"].clone();
    let first = server.get(&path).await;
    let link = first.headers["link"].to_str().expect("text");
    assert!(link.contains("after=1"), "{link}");
    let first = first.json();
    assert_eq!((index(&first), &first["prev"]), (json!(2), &Value::Null));
    let next = first["next"].as_str().expect("a cursor");
    let second = server.get(&format!("{path}&cursor={next}")).await.json();
    assert_eq!(index(&second), 3);
    let prev = second["prev"].as_str().expect("a cursor");
    let back = server.get(&format!("{path}&cursor={prev}")).await.json();
    assert_eq!(back, first);
}

#[tokio::test]
async fn decision_about_an_unknown_task_is_not_found() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let started = server
        .post("/api/v1/executions", r#"{"workflow":"etl"}"#)
        .await
        .json();
    let open = started["id"].as_str().expect("an id");
    for (id, action) in [
        (open, "approve"),
        (open, "reject"),
        (&fixture.completed, "approve"),
    ] {
        let path = format!("/api/v1/executions/{id}/tasks/nothing/{action}");
        let answer = server.post(&path, "{}").await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::NOT_FOUND, "not_found".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn engine_error_points_to_the_invalid_part_of_the_request() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let retry = format!("/api/v1/executions/{}/retry", fixture.failed);
    let executions = "/api/v1/executions";
    let (schedules, signals) = ("/api/v1/schedules", "/api/v1/signals");
    let backfill = format!("{schedules}/{}/backfill", fixture.schedule);
    let long = "k".repeat(513);
    for (path, body, pointer) in [
        (&*retry, json!({"from_task": "nothing"}), "/from_task"),
        (
            executions,
            json!({"workflow": "etl", "labels": {"": "x"}}),
            "/labels",
        ),
        (executions, json!({"workflow": "etl", "key": long}), "/key"),
        (
            executions,
            json!({"workflow": "etl", "timeout": 0}),
            "/timeout",
        ),
        (
            executions,
            json!({"workflow": "etl", "timeout": 1e-7}),
            "/timeout",
        ),
        (schedules, json!({"workflow": "etl", "cron": "x"}), "/cron"),
        (
            schedules,
            json!({"workflow": "etl", "cron": "@daily", "timezone": "Mars"}),
            "/timezone",
        ),
        (
            signals,
            json!({"name": "go", "data": {"password": "•••"}}),
            "/data",
        ),
        (signals, json!({"name": ""}), "/name"),
        (
            signals,
            json!({"name": "go", "key": long.repeat(2)}),
            "/key",
        ),
        (
            signals,
            json!({"name": "go", "key": "k", "to": fixture.failed}),
            "/to",
        ),
        (&*backfill, json!({"from": "1980-01-01T00:00:00Z"}), "/from"),
    ] {
        let answer = server.post(path, &body.to_string()).await;
        assert_eq!(answer.status.as_u16(), 422, "{body}: {}", answer.text);
        assert_eq!(pointers(&answer), [pointer], "{}", answer.text);
    }
    for (path, pointer) in [
        ("/api/v1/executions?id=xyz", "id"),
        ("/api/v1/executions?tenant=nothing", "tenant"),
        ("/api/v1/stream?tenant=nothing", "tenant"),
        ("/api/v1/schedules/preview?expression=x", "expression"),
        (
            "/api/v1/schedules/preview?expression=@daily&timezone=Mars",
            "timezone",
        ),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status.as_u16(), 422, "{path}");
        assert_eq!(pointers(&answer), [pointer], "{path}");
    }
}

#[tokio::test]
async fn hidden_payloads_remove_the_permission_to_view_them() {
    let fixture = Fixture::new().await;
    let web = Web::new(fixture.database(), |_| Some(Access::full("ann")));
    let permissions = async |web: Web| {
        let meta = Server::new(web).get("/api/v1/meta").await.json();
        meta["permissions"].to_string()
    };
    assert!(permissions(web.clone()).await.contains("view_payloads"));
    let hidden = permissions(web.hide_payloads()).await;
    assert!(
        !hidden.contains("view_payloads") && hidden.contains("view"),
        "{hidden}"
    );
}

#[tokio::test]
async fn malformed_host_is_refused() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for host in [
        "localhost,evil.example",
        "localhost, localhost",
        "[::1",
        "::1]",
        "[::1]evil.example",
        "[::1]:80:90",
        "[127.0.0.1]",
        "127.0.0.1]",
        "localhost:80:90",
        "localhost:http",
    ] {
        let answer = with(&server, Method::GET, "host", host).await;
        assert_eq!(answer.code(), "host_not_allowed", "{host}");
    }
    for host in ["[::1]", "[::1]:8765", "localhost:", "127.0.0.1:80"] {
        let answer = with(&server, Method::GET, "host", host).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn x_cloaca_header_of_a_change_must_be_1() {
    let fixture = Fixture::new().await;
    for value in ["0", "", "true", "1, 1"] {
        let answer = with(&fixture.server(), Method::POST, "x-cloaca", value).await;
        assert_eq!(answer.code(), "cross_site", "{value}");
    }
}

#[tokio::test]
async fn unreadable_body_is_a_bad_request() {
    let fixture = Fixture::new().await;
    let bodies: [&[u8]; 4] = [b"\xff", b"\xef\xbb\xbf{}", b"{", b"nothing"];
    for bytes in bodies {
        let mut request = request(Method::POST, "/api/v1/executions", "");
        *request.body_mut() = bytes.to_vec().into();
        let answer = fixture.server().send(request).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "bad_request".to_owned()),
            "{bytes:?}"
        );
    }
    let list = fixture.server().post("/api/v1/executions", "[]").await;
    assert_eq!(list.code(), "invalid_parameter");
}
