//! Tests of the routes that create, change, run and delete schedules.

use axum::http::{Method, StatusCode};
use cloacina::{DefaultRunner, StartAfter};
use cloacina_web::Permission;
use serde_json::{Value, json};

use crate::fixture::{Fixture, request};

#[tokio::test]
async fn schedule_is_created_and_changed() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let new = json!({
        "workflow": "etl", "cron": "0 4 * * *", "timezone": "Europe/Berlin", "name": "early",
        "input": {"token": "abc"}, "overlap": "skip", "max_catchup": 3, "jitter_seconds": 1.5,
    });
    let created = server.post("/api/v1/schedules", &new.to_string()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let schedule = created.json();
    assert_eq!(
        (&schedule["overlap"], &schedule["jitter_us"]),
        (&json!("skip"), &json!(1_500_000))
    );
    assert_eq!(schedule["input"], json!({"token": "•••"}));
    let path = format!(
        "/api/v1/schedules/{}",
        schedule["id"].as_str().expect("an id")
    );
    let change = json!({"cron": "0 5 * * *", "max_catchup": null, "enabled": false}).to_string();
    let changed = server.send(request(Method::PATCH, &path, &change)).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(
        (&changed["cron"], &changed["timezone"]),
        (&json!("0 5 * * *"), &json!("Europe/Berlin"))
    );
    assert_eq!(
        (&changed["max_catchup"], &changed["enabled"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(
        (&changed["overlap"], &changed["name"]),
        (&json!("skip"), &json!("early"))
    );
    for wrong in [
        r#"{"cron":"x"}"#,
        r#"{"overlap":"maybe"}"#,
        r#"{"start_at":"soon"}"#,
    ] {
        let refused = server.send(request(Method::PATCH, &path, wrong)).await;
        assert_eq!(refused.status.as_u16(), 422, "{wrong}");
    }
}

#[tokio::test]
async fn schedule_of_an_unknown_workflow_is_created_with_a_warning() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    for (workflow, is_known) in [("etl", true), ("etll", false)] {
        let new = json!({"workflow": workflow, "cron": "0 4 * * *"}).to_string();
        let created = server.post("/api/v1/schedules", &new).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
        let created = created.json();
        let warning = created["warning"].as_str();
        assert_eq!(warning.is_none(), is_known, "{warning:?}");
        let says_what = |text: &str| text.contains("no workflow 'etll'");
        assert!(warning.is_none_or(says_what), "{warning:?}");
    }
}

#[tokio::test]
async fn schedule_is_disabled_run_and_deleted() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    assert_eq!(server.get(&path).await.json()["cron"], "30 2 * * *");
    let body = r#"{"note":"the source is away"}"#;
    let disabled = server.post(&format!("{path}/disable"), body).await.json();
    assert_eq!(disabled["enabled"], false);
    let switched = &server.get(&path).await.json()["switched"];
    assert_eq!(
        (&switched["by"], &switched["note"]),
        (&json!("token"), &json!("the source is away"))
    );
    let reasons = server.get(&format!("{path}/explain")).await.json();
    assert_eq!(reasons["items"][0]["code"], "disabled");
    assert_eq!(
        server.post(&format!("{path}/enable"), "{}").await.json()["enabled"],
        true
    );
    let run = server.post(&format!("{path}/run-now"), "{}").await;
    assert_eq!(run.status, StatusCode::CREATED, "{}", run.text);
    let deleted = server.send(request(Method::DELETE, &path, "")).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let ticks = server.get(&format!("{path}/ticks")).await.json();
    assert_eq!(ticks["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn caller_without_payload_permission_sees_no_schedule_input() {
    let fixture = Fixture::new().await;
    let server = fixture.server_for(&[Permission::View]);
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    assert_eq!(server.get(&path).await.json()["input"], Value::Null);
    assert!(fixture.server().get(&path).await.json()["input"].is_object());
}

#[tokio::test]
async fn change_of_enabled_records_the_caller_and_the_time() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    let change = async |body: &str| {
        server
            .send(request(Method::PATCH, &path, body))
            .await
            .json()
    };
    assert_eq!(
        change(r#"{"cron":"0 6 * * *"}"#).await["switched"],
        Value::Null
    );
    let changed = change(r#"{"enabled":false}"#).await;
    let switched = &changed["switched"];
    assert_eq!(
        (&changed["enabled"], &switched["by"], &switched["note"]),
        (&json!(false), &json!("token"), &Value::Null)
    );
    assert!(switched["at"].is_string());
}

#[tokio::test]
async fn change_of_a_schedule_obeys_if_match() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    let send = async |method: Method, path: &str, body: &str, tag: &str| {
        let mut request = request(method, path, body);
        let tag = tag.parse().expect("a header");
        request.headers_mut().insert("if-match", tag);
        server.send(request).await
    };
    let before = fixture.state().await;
    let (disable, run) = (format!("{path}/disable"), format!("{path}/run-now"));
    let backfill = format!("{path}/backfill");
    for (method, path, body) in [
        (Method::PATCH, &path, r#"{"cron":"0 6 * * *"}"#),
        (Method::DELETE, &path, ""),
        (Method::POST, &disable, "{}"),
        (Method::POST, &run, "{}"),
        (Method::POST, &backfill, r#"{"from":"2d"}"#),
    ] {
        let refused = send(method.clone(), path, body, "\"777\"").await;
        assert_eq!(
            (refused.status, refused.code()),
            (
                StatusCode::PRECONDITION_FAILED,
                "revision_mismatch".to_owned()
            ),
            "{method} {path}"
        );
    }
    assert_eq!(fixture.state().await, before);
    let tag = server.get(&path).await.headers["etag"].clone();
    let tag = tag.to_str().expect("text");
    let changed = send(Method::PATCH, &path, r#"{"cron":"0 6 * * *"}"#, tag).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    let old = send(Method::DELETE, &path, "", tag).await;
    assert_eq!(old.status, StatusCode::PRECONDITION_FAILED);
    let any = send(Method::DELETE, &path, "", "*").await;
    assert_eq!(any.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn trigger_can_be_shown_disabled_and_enabled_but_not_changed() {
    let fixture = Fixture::new().await;
    let runner = DefaultRunner::new(&fixture.url).await.expect("a runner");
    let follower = StartAfter::new("other", "etl").name("after other");
    let trigger = runner.start_after(follower).await.expect("a trigger");
    runner.shutdown().await.expect("an end");
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{trigger}");
    let listed = server.get("/api/v1/schedules?kind=trigger").await.json();
    assert_eq!(listed["items"][0], server.get(&path).await.json());
    let note = r#"{"note":"too many"}"#;
    let disabled = server.post(&format!("{path}/disable"), note).await;
    assert_eq!(disabled.status, StatusCode::OK, "{}", disabled.text);
    let disabled = disabled.json();
    assert_eq!(
        (&disabled["enabled"], &disabled["switched"]["note"]),
        (&json!(false), &json!("too many"))
    );
    let (run, backfill) = (format!("{path}/run-now"), format!("{path}/backfill"));
    for (method, path, body) in [
        (Method::PATCH, &path, r#"{"enabled":true}"#),
        (Method::DELETE, &path, ""),
        (Method::POST, &run, "{}"),
        (Method::POST, &backfill, r#"{"from":"2d"}"#),
    ] {
        let refused = server.send(request(method.clone(), path, body)).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (422, "schedule_invalid".to_owned()),
            "{method} {path}"
        );
        let detail = refused.json()["detail"].to_string();
        assert!(detail.contains("trigger 'after other'"), "{detail}");
    }
    let enabled = server.post(&format!("{path}/enable"), "{}").await.json();
    assert_eq!(enabled["enabled"], true);
}

#[tokio::test]
async fn executions_of_run_now_and_backfill_name_the_caller() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    let (run, backfill) = (format!("{path}/run-now"), format!("{path}/backfill"));
    let run = server.post(&run, r#"{"note":"why"}"#).await.json()["id"].clone();
    let range =
        json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T23:00:00Z", "note": "why"});
    let filled = server.post(&backfill, &range.to_string()).await.json();
    let filled = filled["items"][0]["execution"].clone();
    for id in [run, filled] {
        let id = id.as_str().expect("an id");
        let events = server.get(&format!("/api/v1/executions/{id}/events")).await;
        let events = events.json();
        let events = events["items"].as_array().expect("events");
        let origin = events.iter().find(|event| event["type"] == "submitted_by");
        assert_eq!(
            origin.expect("an event")["data"],
            json!({"actor": "token", "note": "why"})
        );
    }
}
