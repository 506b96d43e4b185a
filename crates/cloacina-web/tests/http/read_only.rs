//! Tests that changes through an inspector fail if the inspector has opened the database read-only. These tests call
//! the inspector directly, without the checks of the HTTP layer.

use cloacina::runner::{Access, Context, CronSchedule, Inspector, Rerun, Submission};
use cloacina::runtime::Control;
use cloacina::types::{Audit, Json, NewSignal, Timestamp};
use cloacina::{Error, ErrorCode};

use crate::fixture::Fixture;

#[tokio::test]
async fn inspector_of_a_read_only_database_refuses_changes() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let inspector = Inspector::open(&fixture.url, None, Access::ReadOnly).expect("a database");
    let failed = fixture.failed.parse().expect("an id");
    let schedule = fixture.schedule.parse().expect("an id");
    let retry = Control::Retry { from_task: None };
    let (audit, now) = (Audit::default(), inspector.now());
    let signal = NewSignal {
        name: "paid".to_owned(),
        key: None,
        to: None,
        data: Json::parse("null").expect("JSON"),
        id: None,
        sender: None,
    };
    let refusals: Vec<(&str, Result<(), Error>)> = vec![
        (
            "submit",
            inspector
                .submit(Submission::new("etl", Context::new()))
                .map(drop),
        ),
        (
            "submit_version",
            inspector
                .submit_version(Submission::new("etl", Context::new()), None, &audit)
                .map(drop),
        ),
        ("rerun", inspector.rerun(failed, Rerun::default()).map(drop)),
        ("control", inspector.control(failed, &retry).map(drop)),
        (
            "control_as",
            inspector.control_as(failed, &retry, &audit).map(drop),
        ),
        ("control_many", {
            let mut outcomes = inspector.control_many(&[failed], &retry, &audit);
            outcomes.pop().expect("an outcome").1.map(drop)
        }),
        ("delete", inspector.delete(failed)),
        ("prune", inspector.prune(now + 1, 10).map(drop)),
        ("send", inspector.send(&[signal]).map(drop)),
        (
            "add_schedule",
            inspector
                .add_schedule(&CronSchedule::new("etl", "@hourly"))
                .map(drop),
        ),
        (
            "update_schedule",
            inspector
                .update_schedule(schedule, Some("@hourly"), None)
                .map(drop),
        ),
        ("replace_schedule", {
            let new = |_: &_| Ok(CronSchedule::new("etl", "@hourly"));
            inspector.replace_schedule(schedule, new).map(drop)
        }),
        (
            "set_schedule_enabled",
            inspector.set_schedule_enabled(schedule, false).map(drop),
        ),
        (
            "delete_schedule",
            inspector.delete_schedule(schedule).map(drop),
        ),
        (
            "run_schedule_now",
            inspector.run_schedule_now(schedule).map(drop),
        ),
        ("backfill", {
            let from = Timestamp(now.0 - 3 * 86_400_000_000);
            inspector.backfill(schedule, from, now, false).map(drop)
        }),
    ];
    for (method, outcome) in refusals {
        let error = outcome.expect_err(method);
        assert_eq!(error.code, ErrorCode::Database, "{method}: {error}");
    }
    let revision = inspector
        .execution(failed)
        .expect("an execution")
        .record()
        .revision;
    assert!(
        inspector
            .control_if(failed, revision, &retry, &audit)
            .is_err()
    );
    assert_eq!(fixture.state().await, before);
}
