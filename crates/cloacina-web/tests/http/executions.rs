//! Tests of the routes that submit, explain, rerun, control, compare and export executions, and send signals.

use axum::http::{Method, StatusCode, header};
use cloacina_web::Permission;
use serde_json::{Value, json};

use crate::fixture::{Fixture, request};

#[tokio::test]
async fn execution_is_submitted_explained_and_cancelled() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let body =
        json!({"workflow": "etl", "input": {"day": "2026-01-02"}, "key": "k1", "delay": 3600});
    let dry = json!({"workflow": "etl", "dry_run": true}).to_string();
    let dry = server.post("/api/v1/executions", &dry).await;
    assert_eq!(
        (dry.status, &dry.json()["id"]),
        (StatusCode::OK, &Value::Null)
    );
    let submitted = server.post("/api/v1/executions", &body.to_string()).await;
    assert_eq!(submitted.status, StatusCode::CREATED, "{}", submitted.text);
    let id = submitted.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        submitted.headers[header::LOCATION],
        format!("executions/{id}")
    );
    let again = server.post("/api/v1/executions", &body.to_string()).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(
        again.json(),
        json!({"id": id, "created": false, "dry_run": false})
    );
    let reasons = server
        .get(&format!("/api/v1/executions/{id}/explain"))
        .await
        .json();
    assert!(
        reasons["items"]
            .as_array()
            .expect("reasons")
            .iter()
            .any(|reason| reason["code"] == "delay")
    );
    let cancel = format!("/api/v1/executions/{id}/cancel");
    let cancelled = server.post(&cancel, "{}").await;
    assert_eq!(cancelled.json(), json!({"id": id, "status": "Cancelled"}));
    let ended = server.post(&cancel, "{}").await;
    assert_eq!(ended.status, StatusCode::CONFLICT);
    assert_eq!(
        (ended.code().as_str(), &ended.json()["current"]),
        ("execution_state", &json!("Cancelled"))
    );
}

#[tokio::test]
async fn invalid_submission_is_refused_with_the_code_of_its_error() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for (body, status, code) in [
        ("{", 400, "bad_request"),
        ("[]", 422, "invalid_parameter"),
        ("{}", 422, "invalid_parameter"),
        (
            r#"{"workflow":"etl","inputs":{}}"#,
            400,
            "unknown_parameter",
        ),
        (
            r#"{"workflow":"etl","input":[1]}"#,
            422,
            "invalid_parameter",
        ),
        (r#"{"workflow":"etl","delay":-1}"#, 422, "invalid_parameter"),
        (r#"{"workflow":"etl","key":""}"#, 422, "configuration"),
        (r#"{"workflow":"elt"}"#, 404, "workflow_not_found"),
    ] {
        let answer = server.post("/api/v1/executions", body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}"
        );
    }
}

#[tokio::test]
async fn execution_is_rerun_with_an_edited_input() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/executions/{}/rerun", fixture.failed);
    let body = r#"{"input":{"password":{"$keep":"password"},"day":1.50},"version":"latest","note":"again"}"#;
    let answer = server.post(&path, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let input = server
        .get(&format!("/api/v1/executions/{id}/input"))
        .await
        .text;
    assert!(
        input.contains(r#""day":1.50"#) && input.contains("•••"),
        "{input}"
    );
    let events = server
        .get(&format!("/api/v1/executions/{id}/events"))
        .await
        .text;
    for part in [fixture.failed.as_str(), "again", "token"] {
        assert!(events.contains(part), "{part}: {events}");
    }
    let redacted = r#"{"input":{"password":"•••"}}"#;
    assert_eq!(server.post(&path, redacted).await.status.as_u16(), 422);
    // Python's `json.dumps` escapes characters outside ASCII by default.
    let escaped = r#"{"input":{"password":"\u2022\u2022\u2022","day":2}}"#;
    assert_eq!(server.post(&path, escaped).await.status.as_u16(), 422);
    let same = server.post(&path, "{}").await;
    assert_eq!(same.status, StatusCode::CREATED);
}

#[tokio::test]
async fn bulk_control_counts_changed_and_lists_refused_executions() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let unknown = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41";
    let body = |dry: bool| {
        let ids = [
            fixture.failed.as_str(),
            "x",
            &fixture.completed,
            "x",
            unknown,
        ];
        json!({"action": "retry", "ids": ids, "dry_run": dry}).to_string()
    };
    for dry in [true, false] {
        let outcome = server
            .post("/api/v1/executions/bulk", &body(dry))
            .await
            .json();
        assert_eq!(
            (&outcome["matched"], &outcome["done"]),
            (&json!(4), &json!(1)),
            "{outcome}"
        );
        let refused = outcome["refused"].as_array().expect("refusals");
        let codes: Vec<&str> = refused
            .iter()
            .filter_map(|refused| refused["code"].as_str())
            .collect();
        assert_eq!(
            codes,
            [
                "execution_not_found",
                "execution_state",
                "execution_not_found"
            ]
        );
        assert_eq!(refused[0]["id"], "x");
    }
    let filter =
        json!({"action": "cancel", "filter": {"status": ["Failed", "Pending", "Running"]}});
    let outcome = server
        .post("/api/v1/executions/bulk", &filter.to_string())
        .await
        .json();
    assert_eq!(outcome["done"], 1, "{outcome}");
    let wrong = r#"{"action":"cancel","filter":{"stat":"Failed"}}"#;
    assert_eq!(
        server.post("/api/v1/executions/bulk", wrong).await.code(),
        "unknown_parameter"
    );
    assert_eq!(
        server
            .post("/api/v1/executions/bulk", r#"{"action":"cancel"}"#)
            .await
            .status
            .as_u16(),
        422
    );
}

#[tokio::test]
async fn change_with_an_outdated_entity_tag_is_refused() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/executions/{}", fixture.failed);
    let shown = server.get(&path).await;
    let revision = shown.json()["revision"].as_i64().expect("a revision");
    assert_eq!(shown.headers[header::ETAG], format!("\"{revision}\""));
    let retry = |tag: String| {
        let mut request = request(Method::POST, &format!("{path}/retry"), "{}");
        request
            .headers_mut()
            .insert(header::IF_MATCH, tag.parse().expect("a header"));
        request
    };
    let stale = server.send(retry(format!("\"{}\"", revision - 1))).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(stale.code(), "revision_mismatch");
    let current = server.send(retry(format!("\"{revision}\""))).await;
    assert_eq!(current.status, StatusCode::OK, "{}", current.text);
}

#[tokio::test]
async fn signal_id_is_idempotent_and_decision_needs_an_open_approval() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let body = r#"{"name":"paid","key":"order-42","data":{"n":1.50},"id":"evt-1"}"#;
    let sent = server.post("/api/v1/signals", body).await;
    assert_eq!(
        (sent.status, &sent.json()["created"]),
        (StatusCode::CREATED, &json!(true)),
        "{}",
        sent.text
    );
    let again = server.post("/api/v1/signals", body).await;
    assert_eq!(
        (again.status, &again.json()["created"]),
        (StatusCode::OK, &json!(false))
    );
    let both = format!(r#"{{"name":"paid","key":"a","to":"{}"}}"#, fixture.failed);
    assert_eq!(
        server.post("/api/v1/signals", &both).await.status.as_u16(),
        422
    );
    assert_eq!(server.get("/api/v1/waits").await.json()["items"], json!([]));
    for decision in ["approve", "reject"] {
        let path = format!(
            "/api/v1/executions/{}/tasks/load/{decision}",
            fixture.failed
        );
        let refused = server.post(&path, "{}").await;
        assert!(refused.status.is_client_error(), "{}", refused.text);
    }
}

#[tokio::test]
async fn failed_execution_is_compared_with_the_last_success() {
    let fixture = Fixture::new().await;
    let path = format!("/api/v1/compare?a={}&b=last-success", fixture.failed);
    let compared = fixture.server().get(&path).await.json();
    assert_eq!(compared["b"]["id"], fixture.completed.as_str());
    assert_eq!(compared["first_divergence"], "load");
    assert_eq!(compared["tasks"][1]["a_status"], "Failed");
    let keys: Vec<&str> = (compared["input"].as_array().expect("keys").iter())
        .filter_map(|difference| difference["key"].as_str())
        .collect();
    assert_eq!(keys, ["big", "day", "password"]);
    // The input of the completed execution has no password. The null that stands for the missing value is not masked.
    let password = json!({"key": "password", "a": "•••", "b": null});
    assert_eq!(compared["input"][2], password);
    assert_eq!(compared["input"][1]["b"], "2026-01-01");
    let viewer = fixture
        .server_for(&[Permission::View])
        .get(&path)
        .await
        .json();
    assert_eq!(viewer["input"][1]["b"], Value::Null);
}

/// Submits a copy of the failed execution with another input. Returns the id of the new execution.
async fn rerun_with(fixture: &Fixture, input: &Value) -> String {
    let path = format!("/api/v1/executions/{}/rerun", fixture.failed);
    let body = json!({"input": input}).to_string();
    let answer = fixture.server().post(&path, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn comparison_masks_both_values_of_a_secret_key() {
    let fixture = Fixture::new().await;
    let first = json!({
        "password": "first-secret", "db.apiKey": ["first-secret"], "db": {"token": "first-secret", "n": 1}, "same_secret": "x"
    });
    let second = json!({
        "password": "second-secret", "db.apiKey": {"x": "second-secret"}, "db": {"token": "second-secret", "n": 2},
        "same_secret": "x"
    });
    let a = rerun_with(&fixture, &first).await;
    let b = rerun_with(&fixture, &second).await;
    let path = format!("/api/v1/compare?a={a}&b={b}");
    let answer = fixture.server().get(&path).await;
    assert!(!answer.text.contains("-secret\""), "{}", answer.text);
    let expected = json!([
        {"key": "db", "a": {"token": "•••", "n": 1}, "b": {"token": "•••", "n": 2}},
        {"key": "db.apiKey", "a": "•••", "b": "•••"},
        {"key": "password", "a": "•••", "b": "•••"},
    ]);
    assert_eq!(answer.json()["input"], expected);
}

#[tokio::test]
async fn rerun_cannot_move_a_secret_to_a_visible_key() {
    let fixture = Fixture::new().await;
    let path = format!("/api/v1/executions/{}/rerun", fixture.failed);
    let moved = r#"{"input":{"x":{"$keep":"password"}}}"#;
    let refused = fixture.server().post(&path, moved).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (422, "invalid_parameter"),
        "{}",
        refused.text
    );
    let problem = refused.json();
    assert_eq!(problem["errors"][0]["pointer"], "/input");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("'password'"))
    );
    assert!(problem["hint"].is_string());
    let escaped = r#"{"input":{"x":{"\u0024keep":"password"}}}"#;
    assert_eq!(fixture.server().post(&path, escaped).await.status, 422);
    // The secret may move to another key only if that key is redacted too.
    let renamed = json!({"new_password": {"$keep": "password"}});
    let id = rerun_with(&fixture, &renamed).await;
    let input = format!("/api/v1/executions/{id}/input");
    let input = fixture.server().get(&input).await.json();
    assert_eq!(input["value"], json!({"new_password": "•••"}));
}

#[tokio::test]
async fn html_export_keeps_digits_key_order_and_nesting() {
    let fixture = Fixture::new().await;
    let deep = format!("{}1.50{}", "[".repeat(300), "]".repeat(300));
    let path = format!("/api/v1/executions/{}/rerun", fixture.failed);
    let body = format!(r#"{{"input":{{"z":12345678901234567890123,"deep":{deep},"a":1.50}}}}"#);
    let answer = fixture.server().post(&path, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/executions/{id}/export?format=html");
    let export = fixture.server().get(&path).await;
    assert_eq!(export.status, StatusCode::OK, "{}", export.text);
    let at = |part: &str| {
        export
            .text
            .find(part)
            .unwrap_or_else(|| panic!("the export has no {part}"))
    };
    assert!(at("&quot;z&quot;: 12345678901234567890123") < at("&quot;a&quot;: 1.50"));
    assert!(export.text.contains("[[1.50]]"));
}

#[tokio::test]
async fn tasks_can_be_filtered_by_each_state() {
    let fixture = Fixture::new().await;
    let path = format!("/api/v1/executions/{}/tasks", fixture.failed);
    for (state, count) in [
        ("Pending", 0),
        ("Ready", 0),
        ("Waiting", 0),
        ("Running", 0),
        ("Completed", 1),
        ("Failed", 1),
        ("Skipped", 0),
        ("Cancelled", 0),
    ] {
        let answer = fixture.server().get(&format!("{path}?state={state}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let found = answer.json()["items"].as_array().map(Vec::len);
        assert_eq!(found, Some(count), "{state}");
    }
}

#[tokio::test]
async fn export_is_a_download_without_secrets() {
    let fixture = Fixture::new().await;
    let path = format!("/api/v1/executions/{}/export", fixture.failed);
    for format in ["json", "html"] {
        let answer = fixture
            .server()
            .get(&format!("{path}?format={format}"))
            .await;
        let disposition = answer.headers[header::CONTENT_DISPOSITION]
            .to_str()
            .expect("text");
        assert!(disposition.starts_with("attachment;"), "{disposition}");
        assert!(answer.text.contains("•••") && !answer.text.contains("hunter2-long"));
        assert!(!answer.text.contains("<script"));
    }
    let viewer = fixture
        .server_for(&[Permission::View])
        .get(&path)
        .await
        .json();
    assert_eq!(
        (&viewer["input"], &viewer["context"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn numbers_of_an_input_keep_their_digits() {
    let fixture = Fixture::new().await;
    let path = format!("/api/v1/executions/{}/input", fixture.completed);
    let input = fixture.server().get(&path).await.text;
    assert!(input.contains("12345678901234567890123"), "{input}");
}
