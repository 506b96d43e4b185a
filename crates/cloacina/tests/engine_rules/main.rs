//! Tests of the engine's rules. Most test names begin with the number of the tested rule in the semantics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod context;
mod definition;
mod graph;
mod lifecycle;
mod values;

use std::sync::Arc;

use cloacina::engine::{Changes, Execution, Finish, NewExecution, Outcome, TaskLimits};
use cloacina::types::{
    Context, DefinitionId, Delta, ExecutionId, Failure, RetryPolicy, RunnerId, TaskStatus,
    Timestamp,
};
use cloacina::workflow::{TaskDefinition, TriggerRule, Workflow, WorkflowDefinition};

const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1000,
    max_rescues: 3,
};
/// One second, in microseconds.
const SECOND: i64 = 1_000_000;

fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

/// Returns a task with a trigger rule.
fn ruled(id: &str, dependencies: &[&str], rule: TriggerRule) -> TaskDefinition {
    TaskDefinition {
        rule,
        ..task(id, dependencies)
    }
}

fn workflow(tasks: Vec<TaskDefinition>) -> WorkflowDefinition {
    WorkflowDefinition {
        name: "w".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    }
}

struct Run {
    execution: Execution,
    runner: RunnerId,
    now: Timestamp,
}

impl Run {
    fn with_timeout(tasks: Vec<TaskDefinition>, input: &str, timeout: Option<i64>) -> Self {
        let new = NewExecution {
            id: ExecutionId::generate(),
            definition: DefinitionId(1),
            input: Arc::new(Context::from_json(input).unwrap()),
            key: None,
            priority: 0,
            start_at: None,
            timeout,
        };
        let now = Timestamp(SECOND);
        let (execution, _) =
            Execution::submit(Arc::new(Workflow::new(workflow(tasks)).unwrap()), new, now);
        Self {
            execution,
            runner: RunnerId::generate(),
            now,
        }
    }

    fn new(tasks: Vec<TaskDefinition>) -> Self {
        Self::with_timeout(tasks, "{}", None)
    }

    /// Claims a task and ends its attempt with an outcome. Returns `None` if the task cannot be claimed now.
    fn try_run(&mut self, id: &str, outcome: Outcome) -> Option<Changes> {
        let ordinal = self.execution.workflow().ordinal(id).unwrap();
        let claim =
            self.execution
                .claim(ordinal, self.runner, self.now, &mut Changes::default())?;
        self.now = self.now + 1000;
        let finish = Finish {
            task: ordinal,
            claim,
            started_at: None,
            outcome,
        };
        Some(
            self.execution
                .finish(finish, LIMITS, self.now, 0.5)
                .unwrap(),
        )
    }

    fn complete(&mut self, id: &str, delta: &str) {
        let delta = Delta::from_json(delta).unwrap();
        assert!(
            self.try_run(id, Outcome::Completed(Arc::new(delta)))
                .is_some(),
            "{id} is not ready"
        );
    }

    fn fail(&mut self, id: &str) {
        assert!(
            self.try_run(id, Outcome::Failed(failure("boom"))).is_some(),
            "{id} is not ready"
        );
    }

    fn status(&self, id: &str) -> TaskStatus {
        self.execution
            .task(self.execution.workflow().ordinal(id).unwrap())
            .status
    }

    /// Returns the context that the task's function would get.
    fn context_of(&mut self, id: &str) -> String {
        let ordinal = self.execution.workflow().ordinal(id).unwrap();
        self.execution.view(ordinal).to_json()
    }
}

fn failure(message: &str) -> Failure {
    Failure {
        kind: "ValueError".into(),
        message: message.into(),
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    }
}

fn task_failed(id: &str) -> TriggerRule {
    TriggerRule::TaskFailed { task: id.into() }
}
