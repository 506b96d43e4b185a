//! Tests of paging and deletion, and of the routes for children, steps, statistics and backfills.

use axum::http::{Method, StatusCode};
use cloacina_web::Permission;
use serde_json::{Value, json};

use crate::fixture::{Fixture, ids as ids_of, request};

/// Follows `next` to the end and then `prev` back to the start. Returns the items of each page, in both directions.
async fn both_ways(server: &crate::fixture::Server, path: &str) -> (Vec<Value>, Vec<Value>) {
    let page = async |cursor: Option<&str>| {
        let cursor = cursor.map(|cursor| {
            let text: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
            format!("&cursor={text}")
        });
        let answer = server
            .get(&format!("{path}{}", cursor.unwrap_or_default()))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    };
    let (mut forward, mut back) = (Vec::new(), Vec::new());
    let mut current = page(None).await;
    assert_eq!(current["prev"], Value::Null, "{path}");
    loop {
        forward.push(current["items"].clone());
        let Some(next) = current["next"].as_str() else {
            break;
        };
        current = page(Some(next)).await;
    }
    while let Some(prev) = current["prev"].as_str() {
        current = page(Some(prev)).await;
        back.push(current["items"].clone());
    }
    (forward, back)
}

#[tokio::test]
async fn pages_on_the_way_back_equal_the_pages_on_the_way_forward() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for _ in 0..3 {
        let path = format!("/api/v1/schedules/{}/run-now", fixture.schedule);
        assert_eq!(server.post(&path, "{}").await.status, StatusCode::CREATED);
    }
    let execution = format!("/api/v1/executions/{}", fixture.failed);
    for path in [
        format!("{execution}/events?limit=2"),
        format!("{execution}/tasks?limit=1"),
        format!("/api/v1/schedules/{}/ticks?limit=1", fixture.schedule),
        "/api/v1/executions?limit=2".to_owned(),
    ] {
        let (forward, back) = both_ways(&server, &path).await;
        assert!(forward.len() > 1, "{path}");
        let expected: Vec<Value> = forward.iter().rev().skip(1).cloned().collect();
        assert_eq!(back, expected, "{path}");
    }
}

#[tokio::test]
async fn deleting_a_schedule_hides_no_item_of_the_next_page() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let mut ids = vec![fixture.schedule.clone()];
    for hour in 1..5 {
        let new = json!({"workflow": "etl", "cron": format!("0 {hour} * * *")}).to_string();
        let created = server.post("/api/v1/schedules", &new).await.json();
        ids.push(created["id"].as_str().expect("an id").to_owned());
    }
    let list = async |cursor: &Value| {
        let cursor = cursor.as_str().map(|cursor| format!("&cursor={cursor}"));
        let path = format!("/api/v1/schedules?limit=2{}", cursor.unwrap_or_default());
        server.get(&path).await.json()
    };
    let first = list(&Value::Null).await;
    assert_eq!(ids_of(&first), ids[..2]);
    let path = format!("/api/v1/schedules/{}", ids[0]);
    let deleted = server.send(request(Method::DELETE, &path, "")).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let second = list(&first["next"]).await;
    assert_eq!(ids_of(&second), ids[2..4]);
    assert_eq!(ids_of(&list(&second["prev"]).await), ids[1..2]);
    let last = list(&second["next"]).await;
    assert_eq!(ids_of(&last), ids[4..]);
    assert_eq!(last["next"], Value::Null);
    assert_eq!(ids_of(&list(&last["prev"]).await), ids[2..4]);
    let other = format!(
        "/api/v1/schedules?enabled=true&cursor={}",
        first["next"].as_str().expect("a cursor")
    );
    assert_eq!(server.get(&other).await.status.as_u16(), 422);
}

#[tokio::test]
async fn only_ended_executions_can_be_deleted() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let waiting = server
        .post("/api/v1/executions", r#"{"workflow":"etl"}"#)
        .await
        .json();
    let path = |id: &str| format!("/api/v1/executions/{id}");
    let delete = async |id: &str| server.send(request(Method::DELETE, &path(id), "")).await;
    let open = delete(waiting["id"].as_str().expect("an id")).await;
    assert_eq!(
        (open.status, open.code()),
        (StatusCode::CONFLICT, "execution_state".to_owned())
    );
    assert_eq!(open.json()["current"], "Pending");
    let deleted = delete(&fixture.failed).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text);
    assert_eq!(
        server.get(&path(&fixture.failed)).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(delete(&fixture.failed).await.status, StatusCode::NOT_FOUND);
    let limited = fixture.server_for(&[Permission::View, Permission::Control, Permission::Start]);
    let refused = limited
        .send(request(Method::DELETE, &path(&fixture.completed), ""))
        .await;
    assert_eq!(refused.code(), "forbidden");
}

#[tokio::test]
async fn backfill_starts_one_execution_per_due_time() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{}/backfill", fixture.schedule);
    let body = |dry: bool| {
        let range =
            json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T23:00:00Z", "dry_run": dry});
        range.to_string()
    };
    let count = async || {
        server.get("/api/v1/executions").await.json()["items"]
            .as_array()
            .map(Vec::len)
    };
    let before = count().await;
    let dry = server.post(&path, &body(true)).await.json();
    assert_eq!(
        (&dry["matched"], &dry["done"], &dry["dry_run"]),
        (&json!(3), &json!(3), &json!(true))
    );
    assert_eq!(dry["items"][0]["due_at"], "2026-01-01T01:30:00.000000Z");
    assert_eq!(count().await, before);
    let done = server.post(&path, &body(false)).await.json();
    assert_eq!(
        (&done["matched"], &done["done"]),
        (&json!(3), &json!(3)),
        "{done}"
    );
    let id = done["items"][2]["execution"].as_str().expect("an id");
    let input = server
        .get(&format!("/api/v1/executions/{id}/input"))
        .await
        .json();
    assert_eq!(
        input["value"]["scheduled_time"], "2026-01-03T01:30:00.000000Z",
        "{input}"
    );
    let again = server.post(&path, &body(false)).await.json();
    assert_eq!(
        (&again["matched"], &again["done"]),
        (&json!(3), &json!(0)),
        "{again}"
    );
    assert_eq!(again["items"][0]["has_fired"], true);
    let ticks = server
        .get(&format!("/api/v1/schedules/{}/ticks", fixture.schedule))
        .await
        .json();
    assert_eq!(ticks["items"][0]["detail"], "backfill", "{ticks}");
    for wrong in [
        r#"{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}"#,
        r#"{"from":"2026-01-02T00:00:00Z","to":"2999-01-01T00:00:00Z"}"#,
        r#"{"from":"1980-01-02T00:00:00Z"}"#,
    ] {
        assert_eq!(
            server.post(&path, wrong).await.code(),
            "schedule_invalid",
            "{wrong}"
        );
    }
    assert_eq!(
        server.post(&path, r#"{"from":"soon"}"#).await.code(),
        "invalid_parameter"
    );
}

#[tokio::test]
async fn statistics_of_a_workflow_cover_its_last_executions() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let stats = server
        .get("/api/v1/workflows/etl/stats?last=10")
        .await
        .json();
    assert_eq!(
        stats["states"],
        json!({"Completed": 1, "Failed": 1}),
        "{stats}"
    );
    assert_eq!(
        (&stats["executions"], &stats["failure_rate"]),
        (&json!(2), &json!(0.5))
    );
    assert!(stats["duration"]["median_us"].is_i64());
    assert_eq!(stats["runs"][0]["id"], fixture.failed.as_str());
    assert_eq!(
        server.get("/api/v1/workflows/nothing/stats").await.code(),
        "workflow_not_found"
    );
}

#[tokio::test]
async fn execution_without_children_and_steps_has_empty_lists() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let execution = format!("/api/v1/executions/{}", fixture.completed);
    let empty = json!({"items": [], "next": null, "prev": null});
    assert_eq!(
        server.get(&format!("{execution}/children")).await.json(),
        empty
    );
    assert_eq!(
        server
            .get(&format!("{execution}/tasks/extract/steps"))
            .await
            .json(),
        empty
    );
    let unknown = "/api/v1/executions/0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41/children";
    assert_eq!(server.get(unknown).await.code(), "execution_not_found");
    let listed = server
        .get(&format!("/api/v1/executions?parent={}", fixture.completed))
        .await;
    assert_eq!(listed.json()["items"], json!([]));
}

#[tokio::test]
async fn problem_type_is_a_relative_url() {
    let fixture = Fixture::new().await;
    let problem = fixture
        .server()
        .get("/api/v1/executions/nothing")
        .await
        .json();
    assert_eq!(problem["type"], "reference/errors/#execution-not-found");
}
