//! Tests of approving, rejecting and rescheduling on a `DefaultRunner` (semantics L11, L12, L14).

use cloacina::types::{Approval, Condition, Json, WaitEnd};
use cloacina::workflow::{TaskDefinition, TaskKind};
use cloacina::{
    DefaultRunner, ErrorCode, ExecutionId, ExecutionStatus, Wait, WaitFilter, WaitKind,
};
use serde_json::json;

use super::external::{Owner, blocking};
use super::support::{PATIENCE, databases, start};

const SCHEMA: &str = r#"{
    "type": "object", "required": ["limit"], "properties": {"limit": {"type": "integer"}}
}"#;

fn node(id: &str) -> TaskDefinition {
    TaskDefinition {
        id: id.to_owned(),
        kind: TaskKind::Engine,
        ..TaskDefinition::default()
    }
}

/// Defines two workflows and submits three executions as `owner`, which stands for another program. Two executions
/// wait for a decision, and one waits for an hour.
fn submit(owner: &Owner) -> [ExecutionId; 3] {
    let approval = Approval {
        schema: Some(Json::parse(SCHEMA).unwrap()),
        on_reject: WaitEnd::Continue,
        ..Approval::default()
    };
    let release = TaskDefinition {
        approval: Some(approval),
        ..node("release")
    };
    owner.define("released", vec![release]);
    let later = TaskDefinition {
        wait_for: Some(Condition::Delay {
            duration: 3_600_000_000,
        }),
        ..node("later")
    };
    owner.define("delayed", vec![later]);
    ["released", "released", "delayed"].map(|name| owner.submit(name))
}

async fn open_wait(runner: &DefaultRunner, id: ExecutionId, kind: WaitKind) -> Option<Wait> {
    let filter = WaitFilter {
        execution: Some(id),
        kind: Some(kind),
        ..WaitFilter::default()
    };
    runner.waits(filter).await.unwrap().items.pop()
}

#[tokio::test]
async fn l11_program_decides_approvals_and_reschedules_a_timer() {
    for database in databases() {
        let runner = start(&database).await;
        let owner = Owner::open(&database);
        let (owner, [first, second, delayed]) = blocking(move || {
            let ids = submit(&owner);
            (owner, ids)
        })
        .await;

        let wrong = runner
            .approve(first, "release", &json!({ "limit": "x" }), None)
            .await
            .unwrap_err();
        assert_eq!(wrong.code, ErrorCode::WorkflowInputInvalid, "{wrong}");
        let open = open_wait(&runner, first, WaitKind::Approval).await;
        assert!(open.is_some_and(|wait| wait.schema.is_some()));
        runner
            .approve(first, "release", &json!({ "limit": 5 }), Some("ann"))
            .await
            .unwrap();
        let result = runner.handle(first).result_within(PATIENCE).await.unwrap();
        let decided: serde_json::Value = result.final_context().get("release").unwrap();
        assert_eq!(decided["data"], json!({ "limit": 5 }));
        assert_eq!(
            (&decided["approved"], &decided["by"]),
            (&json!(true), &json!("ann"))
        );
        let late = runner.reject(first, "release", None, Some("bob")).await;
        assert_eq!(late.unwrap_err().code, ErrorCode::AlreadyDecided);

        let reason = Some("too much");
        runner
            .reject(second, "release", reason, Some("bob"))
            .await
            .unwrap();
        let result = runner.handle(second).result_within(PATIENCE).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        let decided: serde_json::Value = result.final_context().get("release").unwrap();
        assert_eq!(
            (&decided["approved"], &decided["reason"]),
            (&json!(false), &json!("too much"))
        );

        let timer = open_wait(&runner, delayed, WaitKind::Timer).await.unwrap();
        let due = timer.deadline.unwrap();
        assert!(due.since(timer.since) >= 3_600_000_000);
        runner
            .reschedule(delayed, "later", timer.since)
            .await
            .unwrap();
        let result = runner
            .handle(delayed)
            .result_within(PATIENCE)
            .await
            .unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        let ended = runner.reschedule(delayed, "later", due).await.unwrap_err();
        assert_eq!(ended.code, ErrorCode::ExecutionState, "{ended}");

        blocking(move || drop(owner)).await;
        runner.shutdown().await.unwrap();
    }
}
