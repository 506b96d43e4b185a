//! Tests of the server: the overview, the change marker, entity tags, error answers, path prefixes, and limited access.

use axum::http::{Method, StatusCode, header};
use cloacina::{DefaultRunner, Timestamp};
use cloacina_web::{Access, Web};
use serde_json::json;

use crate::fixture::{Fixture, Server, TOKEN, request};

#[tokio::test]
async fn overview_has_counts_failures_and_explanations() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let waiting = server
        .post("/api/v1/executions", r#"{"workflow":"etl"}"#)
        .await
        .json();
    let counts = server.get("/api/v1/counts").await.json();
    assert_eq!(counts["states"]["Failed"]["value"], 1, "{counts}");
    let activity = server.get("/api/v1/activity?buckets=4").await.json();
    assert_eq!(activity["items"].as_array().map(Vec::len), Some(4));
    let failures = server.get("/api/v1/failures").await.json();
    assert_eq!(
        (
            &failures["items"][0]["task"],
            &failures["items"][0]["count"]
        ),
        (&json!("load"), &json!(1))
    );
    let groups = server.get("/api/v1/waiting").await.json();
    assert_eq!(groups["items"][0]["executions"], json!([waiting["id"]]));
    let attention = server.get("/api/v1/attention").await.json();
    assert_eq!(attention["blocked"][0]["count"], 1, "{attention}");
    assert!(attention["blocked"][0]["reason"]["remedy"].is_string());
    assert_eq!(attention["failures"][0]["workflow"], "etl");
    assert_eq!(attention["schedules"][0]["reason"]["code"], "no_runner");
}

#[tokio::test]
async fn stuck_execution_is_found_behind_many_delayed_ones() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let submit = async |body| server.post("/api/v1/executions", body).await.json();
    let stuck = submit(r#"{"workflow":"etl"}"#).await;
    let attention = server.get("/api/v1/attention").await.json();
    assert_eq!(attention["examined"]["executions"], 1);
    assert_eq!(attention["examined"]["open"]["value"], 1);
    for _ in 0..120 {
        submit(r#"{"workflow":"etl","delay":3600}"#).await;
    }
    for path in ["attention", "waiting"] {
        let answer = server.get(&format!("/api/v1/{path}")).await.json();
        let groups = answer.get("blocked").unwrap_or(&answer["items"]);
        let groups = groups.as_array().expect("groups");
        let found = groups
            .iter()
            .find(|group| group["reason"]["code"] == "workflow_unknown")
            .unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(found["executions"], json!([stuck["id"]]));
        assert_eq!(answer["examined"]["executions"], 101);
        assert_eq!(answer["examined"]["open"]["value"], 121);
    }
}

#[tokio::test]
async fn read_only_database_refuses_a_change() {
    let fixture = Fixture::new().await;
    // The server itself is not in read-only mode, so only the database can refuse the request.
    let database = cloacina_web::Database::open_read_only(&fixture.url, None).expect("a database");
    let server = Server::new(Web::with_token(database, TOKEN));
    let answer = server
        .post("/api/v1/executions", r#"{"workflow":"etl"}"#)
        .await;
    assert!(!answer.status.is_success(), "{}", answer.text);
    assert_eq!(
        server.get("/api/v1/executions").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn problem_has_the_code_hint_and_page_of_the_error() {
    let fixture = Fixture::new().await;
    let unknown = "/api/v1/executions/0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41";
    let answer = fixture.server().get(unknown).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let problem = answer.json();
    assert_eq!(problem["code"], "execution_not_found");
    assert_eq!(problem["status"], 404);
    assert!(problem["hint"].is_string() && problem["detail"].is_string());
    let page = problem["type"].as_str().expect("a page");
    assert!(page.ends_with("/errors/#execution-not-found"), "{page}");
}

#[tokio::test]
async fn unchanged_answer_is_not_sent_again() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for path in [
        format!("/api/v1/executions/{}", fixture.completed),
        "/api/v1/executions".to_owned(),
        "/api/v1/workflows".to_owned(),
    ] {
        let first = server.get(&path).await;
        let tag = first.headers[header::ETAG].clone();
        let mut again = request(Method::GET, &path, "");
        again.headers_mut().insert(header::IF_NONE_MATCH, tag);
        let again = server.send(again).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(again.text, "");
    }
}

#[tokio::test]
async fn open_execution_is_sent_again_only_if_it_has_changed() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let new = server
        .post("/api/v1/executions", r#"{"workflow":"etl"}"#)
        .await;
    let id = new.json()["id"].as_str().expect("an id").to_owned();
    // A task's start time is written without raising the revision, so the revision alone does not mean an equal answer.
    for path in ["", "/states"] {
        let path = format!("/api/v1/executions/{id}{path}");
        let first = server.get(&path).await;
        let revision = first.json()["revision"].as_i64().expect("a revision");
        let tag = first.headers[header::ETAG].clone();
        for (tag, expected) in [
            (tag, StatusCode::NOT_MODIFIED),
            (
                format!("\"{revision}\"").parse().expect("a header"),
                StatusCode::OK,
            ),
            (
                format!("\"{revision}-0123456789abcdef\"")
                    .parse()
                    .expect("a header"),
                StatusCode::OK,
            ),
        ] {
            let mut again = request(Method::GET, &path, "");
            again.headers_mut().insert(header::IF_NONE_MATCH, tag);
            assert_eq!(server.send(again).await.status, expected, "{path}");
        }
    }
    // If-Match reads the revision at the start of the tag. The answer to a change has no tag that never matches.
    let path = format!("/api/v1/executions/{id}");
    let tag = server.get(&path).await.headers[header::ETAG].clone();
    for expected in [StatusCode::OK, StatusCode::PRECONDITION_FAILED] {
        let mut pause = request(Method::POST, &format!("{path}/pause"), "{}");
        pause.headers_mut().insert(header::IF_MATCH, tag.clone());
        let answer = server.send(pause).await;
        assert_eq!(answer.status, expected, "{}", answer.text);
        assert!(!answer.headers.contains_key(header::ETAG));
    }
}

#[tokio::test]
async fn time_of_an_answer_does_not_change_its_entity_tag() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for path in [
        "meta".to_owned(),
        "counts".to_owned(),
        "attention".to_owned(),
        "waiting".to_owned(),
        "activity?since=2026-01-01T00:00:00Z&buckets=1".to_owned(),
        format!("executions/{}/export", fixture.failed),
        format!("executions/{}/export?format=html", fixture.failed),
    ] {
        let path = format!("/api/v1/{path}");
        let first = server.get(&path).await;
        let mut again = request(Method::GET, &path, "");
        let tag = first.headers[header::ETAG].clone();
        again.headers_mut().insert(header::IF_NONE_MATCH, tag);
        let again = server.send(again).await;
        // The page reads the server's clock in `/meta`.
        let expected = if path.contains("meta") {
            StatusCode::OK
        } else {
            StatusCode::NOT_MODIFIED
        };
        assert_eq!(again.status, expected, "{path}: {}", first.text);
    }
    let counts = server.get("/api/v1/counts").await;
    let new = r#"{"workflow":"etl"}"#;
    server.post("/api/v1/executions", new).await;
    let changed = server.get("/api/v1/counts").await;
    assert_ne!(counts.headers[header::ETAG], changed.headers[header::ETAG]);
}

#[tokio::test]
async fn every_read_route_answers() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for operation in cloacina_web::operations() {
        if !operation.is_read() || operation.path == "/stream" {
            continue;
        }
        let id = match operation.path {
            path if path.starts_with("/schedules") => &fixture.schedule,
            _ => &fixture.completed,
        };
        let workflows = server.get("/api/v1/workflows").await.json();
        let version = workflows["items"][0]["version"]
            .as_str()
            .expect("a version")
            .to_owned();
        let path = operation
            .path
            .replace("{id}", id)
            .replace("{task}", "extract");
        let path = path.replace("{name}", "etl").replace("{version}", &version);
        if path.starts_with("/runners/") || path.ends_with("/items") {
            continue; // the database has no live runner, and no task is a map
        }
        let required = operation
            .parameters
            .iter()
            .filter(|parameter| parameter.is_required);
        let value = |name: &str| match name {
            "a" => fixture.failed.clone(),
            "b" => "last-success".to_owned(),
            _ => "@daily".to_owned(),
        };
        let query: Vec<String> = required
            .map(|parameter| format!("{}={}", parameter.name, value(parameter.name)))
            .collect();
        let answer = server
            .get(&format!("/api/v1{path}?{}", query.join("&")))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn changes_are_seen_after_a_write_of_a_runner() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let marker = server.get("/api/v1/changes").await.json();
    assert_eq!(marker["changed"], true);
    let after = format!(
        "/api/v1/changes?after={}",
        marker["marker"].as_str().expect("a marker")
    );
    assert_eq!(server.get(&after).await.json()["changed"], false);
    let runner = DefaultRunner::new(&fixture.url).await.expect("a runner");
    tokio::time::sleep(std::time::Duration::from_millis(120)).await; // longer than the server caches the marker
    assert_eq!(server.get(&after).await.json()["changed"], true);
    runner.shutdown().await.expect("an end");
}

#[tokio::test]
async fn caller_limited_to_tenants_cannot_read_outside_them() {
    let fixture = Fixture::new().await;
    let web = Web::new(fixture.database(), |_| {
        Some(Access::full("ann").tenants(["acme"]))
    });
    let server = Server::new(web);
    for path in [
        "/api/v1/executions",
        "/api/v1/executions?tenant=other",
        "/api/v1/stream",
    ] {
        assert_eq!(
            server.get(path).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
}

#[tokio::test]
async fn router_works_below_any_prefix() {
    let fixture = Fixture::new().await;
    let nested = fixture.server().nested("/admin/cloaca");
    let answer = nested.get("/admin/cloaca/api/v1/meta").await;
    assert_eq!(answer.json()["backend"], "sqlite");
    assert_eq!(
        nested.get("/admin/cloaca/healthz").await.status,
        StatusCode::OK
    );
    // The base URL of the page is the prefix, so relative links work below any prefix.
    let page = nested.get("/admin/cloaca").await;
    assert!(
        page.text.contains("<base href=\"./cloaca/\">"),
        "{}",
        page.text
    );
    let page = fixture.server().get("/").await;
    assert!(page.text.contains("<base href=\"./\">"), "{}", page.text);
    let mut link = request(Method::GET, &format!("/admin/cloaca?token={TOKEN}"), "");
    link.headers_mut().remove(header::AUTHORIZATION);
    let login = nested.send(link).await;
    assert_eq!(
        (login.status, &login.headers[header::LOCATION]),
        (StatusCode::SEE_OTHER, &"?".parse().expect("a header"))
    );
}

#[tokio::test]
async fn prune_deletes_as_many_executions_as_its_dry_run_counts() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let future = Timestamp(4_102_444_800_000_000).to_rfc3339();
    let refused = json!({"older_than": future}).to_string();
    assert_eq!(
        server
            .post("/api/v1/database/prune", &refused)
            .await
            .status
            .as_u16(),
        422
    );
    let dry = server
        .post(
            "/api/v1/database/prune",
            r#"{"older_than":"0s","dry_run":true}"#,
        )
        .await;
    assert_eq!(dry.status, StatusCode::OK, "{}", dry.text);
    let counted = json!({"deleted": 2, "more": false, "dry_run": true});
    assert_eq!(dry.json(), counted);
    let left = server.get("/api/v1/executions").await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(2));
    let pruned = server
        .post("/api/v1/database/prune", r#"{"older_than":"0s"}"#)
        .await;
    assert_eq!(pruned.json()["deleted"], 2, "{}", pruned.text);
}
