//! Rows that tests write into a store.

use std::sync::Arc;

use cloacina::store::RunnerRow;
use cloacina::types::{
    Context, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, RunnerId, TaskRecord,
    TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

pub const NOW: Timestamp = Timestamp(1_750_000_000_000_000);
/// One second, in microseconds.
pub const SECOND: i64 = 1_000_000;

/// Returns a workflow with the independent tasks `task0`, `task1` and so on.
pub fn workflow(name: &str, tasks: usize) -> Workflow {
    let tasks = (0..tasks).map(|index| TaskDefinition {
        id: format!("task{index}"),
        ..TaskDefinition::default()
    });
    Workflow::new(WorkflowDefinition {
        name: name.to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    })
    .unwrap()
}

/// Returns the row of a runner with a lease of 15 seconds.
pub fn runner_row(id: RunnerId, now: Timestamp) -> RunnerRow {
    RunnerRow {
        id,
        host: "host/boot".to_owned(),
        pid: 4711,
        pid_started: 99,
        started_at: now,
        heartbeat_at: now,
        lease_until: now + 15 * SECOND,
        workflows: vec!["etl".to_owned()],
    }
}

/// Returns an execution whose tasks have no rows yet.
pub fn record_of(definition: DefinitionId, tasks: usize, now: Timestamp) -> ExecutionRecord {
    ExecutionRecord {
        id: ExecutionId::generate(),
        definition,
        revision: 1,
        status: ExecutionStatus::Pending,
        priority: 0,
        key: None,
        input: Arc::new(Context::new()),
        created_at: now,
        start_at: None,
        started_at: None,
        ended_at: None,
        timeout: None,
        deadline: None,
        paused_at: None,
        parent: None,
        finale: None,
        error: None,
        tasks: vec![TaskRecord::pending(); tasks],
    }
}

/// Returns an execution with one ready task.
pub fn ready(definition: DefinitionId, now: Timestamp) -> ExecutionRecord {
    let mut record = record_of(definition, 1, now);
    record.tasks[0].status = TaskStatus::Ready;
    record
}
