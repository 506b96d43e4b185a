//! Schedules: created, changed, run and deleted.

use axum::http::{Method, StatusCode};
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
async fn schedule_is_disabled_run_and_deleted() {
    let fixture = Fixture::new().await;
    let server = fixture.server();
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    assert_eq!(server.get(&path).await.json()["cron"], "30 2 * * *");
    let disabled = server.post(&format!("{path}/disable"), "{}").await;
    assert_eq!(disabled.json()["enabled"], false);
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
async fn caller_without_payloads_sees_no_input_of_a_schedule() {
    let fixture = Fixture::new().await;
    let server = fixture.server_for(&[Permission::View]);
    let path = format!("/api/v1/schedules/{}", fixture.schedule);
    assert_eq!(server.get(&path).await.json()["input"], Value::Null);
    assert!(fixture.server().get(&path).await.json()["input"].is_object());
}
