//! Sample assignments and attempts for the tests of this folder.

use std::sync::Arc;

use crate::runtime::Subscriptions;
use crate::runtime::assignment::{Assignment, Callback, Running};
use crate::types::{Claim, ExecutionId, Monotonic, RetryPolicy, RunnerId, Timestamp};
use crate::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

fn workflow() -> Arc<Workflow> {
    let only = TaskDefinition {
        id: "only".to_owned(),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    };
    let definition = WorkflowDefinition {
        name: "sample".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: vec![only],
        ..WorkflowDefinition::default()
    };
    Arc::new(Workflow::new(definition).unwrap())
}

pub(super) fn assignment(priority: i16) -> Assignment {
    Assignment {
        execution: ExecutionId::generate(),
        workflow: workflow(),
        task: 0,
        claim: Claim {
            runner: RunnerId::generate(),
            attempt: 1,
            item: None,
        },
        context: Arc::default(),
        handler: 1,
        timeout: None,
        reports_start: false,
        priority,
        max_context_bytes: u64::MAX,
        forward_key: None,
        insight: Arc::default(),
        cancelled: Arc::default(),
        pulse: Arc::default(),
    }
}

pub(super) fn callback() -> Callback {
    Callback {
        handler: 1,
        task: "only".to_owned(),
        workflow: workflow(),
        execution: ExecutionId::generate(),
        error: None,
        context: Arc::default(),
        open: Arc::<Subscriptions>::default().open_callback(ExecutionId::generate()),
    }
}

pub(super) fn running(deadline: Option<Monotonic>) -> Running {
    let assignment = assignment(0);
    Running {
        execution: assignment.execution,
        task: assignment.task,
        claim: assignment.claim,
        workflow: assignment.workflow,
        started_at: Timestamp(0),
        is_start_stored: false,
        started: Monotonic(0),
        deadline,
        worker: 1,
        deferred: false,
        cancelled: assignment.cancelled,
        pulse: assignment.pulse,
    }
}
