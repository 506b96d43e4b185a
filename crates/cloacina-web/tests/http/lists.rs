//! Tests of the lists: filters, cursors, and refused parameters.

use axum::http::{StatusCode, header};
use cloacina_web::Permission;
use serde_json::{Value, json};

use crate::fixture::{Fixture, ids};

#[tokio::test]
async fn list_has_filters_and_cursors_that_are_valid_for_one_filter() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let all = server.get("/api/v1/executions").await.json();
    assert_eq!(
        ids(&all),
        [fixture.failed.clone(), fixture.completed.clone()]
    );
    assert_eq!((&all["next"], &all["prev"]), (&Value::Null, &Value::Null));
    let failed = server.get("/api/v1/executions?status=Failed").await.json();
    assert_eq!(ids(&failed), [fixture.failed.as_str()]);
    let either = server
        .get("/api/v1/executions?status=Failed&status=Completed")
        .await
        .json();
    assert_eq!(ids(&either).len(), 2);
    let others = server.get("/api/v1/executions?-status=Failed").await.json();
    assert_eq!(ids(&others), [fixture.completed.as_str()]);

    let first = server.get("/api/v1/executions?workflow=etl&limit=1").await;
    let link = first.headers[header::LINK]
        .to_str()
        .expect("text")
        .to_owned();
    let first = first.json();
    assert_eq!(ids(&first), [fixture.failed.as_str()]);
    let cursor = first["next"].as_str().expect("a cursor").to_owned();
    assert!(
        link.contains(&cursor) && link.contains("rel=\"next\""),
        "{link}"
    );
    let second = format!("/api/v1/executions?workflow=etl&limit=1&cursor={cursor}");
    assert_eq!(
        ids(&server.get(&second).await.json()),
        [fixture.completed.as_str()]
    );
    let other = format!("/api/v1/executions?workflow=other&limit=1&cursor={cursor}");
    assert_eq!(
        server.get(&other).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn cursors_lead_forward_and_back() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = "/api/v1/executions?workflow=etl&workflow=other&limit=1";
    let first = server.get(path).await.json();
    let next = first["next"].as_str().expect("a cursor");
    let second = server.get(&format!("{path}&cursor={next}")).await.json();
    assert_eq!(ids(&second), [fixture.completed.as_str()]);
    let prev = second["prev"].as_str().expect("a cursor");
    let back = server.get(&format!("{path}&cursor={prev}")).await.json();
    assert_eq!(ids(&back), [fixture.failed.as_str()]);
}

#[tokio::test]
async fn executions_are_found_by_label_error_input_and_id() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let body = json!({"workflow": "etl", "labels": {"order": "4711"}, "delay": 3600}).to_string();
    let labelled = server.post("/api/v1/executions", &body).await.json()["id"].clone();
    let labelled = labelled.as_str().expect("an id");
    let (failed, completed) = (fixture.failed.as_str(), fixture.completed.as_str());
    for (query, expected) in [
        ("label.order=4711&label.order=1".to_owned(), labelled),
        ("error=CANNOT%20log%20in".to_owned(), failed),
        ("input.day=2026-01-01".to_owned(), completed),
        (format!("id={completed}"), completed),
        ("until=0s&status=Failed".to_owned(), failed),
    ] {
        let found = server
            .get(&format!("/api/v1/executions?{query}"))
            .await
            .json();
        assert_eq!(ids(&found), [expected], "{query}");
    }
    let shown = server
        .get(&format!("/api/v1/executions/{labelled}"))
        .await
        .json();
    assert_eq!(shown["labels"], json!({"order": "4711"}));
}

#[tokio::test]
async fn log_lines_are_selected_by_levels_tasks_and_attempts() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/executions/{}/logs", fixture.completed);
    for (query, status) in [
        ("level=INFO", 200),
        ("level=warning", 200),
        ("level=30", 200),
        ("level=101", 422),
        ("level=loud", 422),
        ("level=30&level=40", 422),
        ("task=extract&task=load&attempt=1&attempt=2", 200),
        ("attempt=1&attempt=x", 422),
    ] {
        let answer = server.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn search_in_inputs_needs_the_permission_to_see_them() {
    let fixture = Fixture::new().await;
    let path = "/api/v1/executions?input.day=2026-01-01";
    assert_eq!(
        fixture
            .server_for(&[Permission::View])
            .get(path)
            .await
            .code(),
        "forbidden"
    );
    // A caller could guess a secret by searching for it, so secret keys cannot be searched.
    let guess = "/api/v1/executions?input.password=hunter2-long";
    assert_eq!(fixture.server().get(guess).await.code(), "forbidden");
}

#[tokio::test]
async fn unknown_parameter_is_refused_with_a_hint() {
    let fixture = Fixture::new().await;
    let answer = fixture
        .server()
        .get("/api/v1/executions?statu=Failed")
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let problem = answer.json();
    assert_eq!(problem["code"], "unknown_parameter");
    assert_eq!(problem["hint"], "did you mean 'status'?");
}
