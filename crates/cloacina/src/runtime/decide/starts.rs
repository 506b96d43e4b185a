//! Executions that start when the task that requested them completes (semantics T10).

use std::sync::Arc;

use crate::engine::{ChildFound, Execution, NewExecution, Outcome, called_workflows, record_start};
use crate::runtime::batch::PendingChange;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{
    Condition, Context, ExecutionId, Failure, FailureKind, Labels, Ordinal, Park, ParkKind,
    RootStart, Runs, TaskStatus,
};
use crate::workflow::is_derived;

/// Q1: fails a task that starts a derived workflow. A derived workflow runs the final tasks of another workflow, so
/// only the end of an execution can start it.
pub(super) fn refuse_derived_starts(outcome: &mut Outcome) {
    let derived = match &*outcome {
        Outcome::Starting { starts, .. } => {
            let mut names = starts.iter().map(|start| start.workflow.as_str());
            names.find(|name| is_derived(name))
        }
        Outcome::Park(park) => called_workflows(park).find(|name| is_derived(name)),
        _ => None,
    };
    if let Some(name) = derived {
        let message = format!(
            "workflow '{name}' runs final tasks; only the end of an execution can start it"
        );
        *outcome = Outcome::Failed(Failure::engine(FailureKind::Rule, message));
    }
}

impl Step {
    /// Finds the workflows of the executions that an outcome requests. If a workflow is not known yet, replaces the
    /// outcome: the task waits for the workflow, and then its function runs again. If a workflow cannot be read, replaces
    /// the outcome with a failure.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(super) fn found_starts(
        &mut self,
        outcome: &mut Outcome,
    ) -> Result<Vec<(RootStart, ChildFound)>, StoreError> {
        let Outcome::Starting { starts, .. } = outcome else {
            return Ok(Vec::new());
        };
        let starts = Arc::clone(starts);
        let mut found = Vec::with_capacity(starts.len());
        for start in starts.iter() {
            match self.newest_of(&start.workflow) {
                Ok(Some(newest)) => found.push((start.clone(), newest)),
                Ok(None) => {
                    *outcome = Outcome::Park(Box::new(waits_for(start)));
                    return Ok(Vec::new());
                }
                Err(error) if error.is_of_item() => {
                    let failure = Failure::engine(FailureKind::Rule, error.to_string());
                    *outcome = Outcome::Failed(failure);
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Submits the executions that a completed task requested. Each is stored only if the completion is stored.
    pub(super) fn submit_starts(
        &mut self,
        source: ExecutionId,
        task: Ordinal,
        starts: Vec<(RootStart, ChildFound)>,
    ) {
        for (start, found) in starts {
            let id = self.fresh_execution();
            let now = self.now;
            let Some(execution) = self.ledger.get(source) else {
                return;
            };
            // The task has not completed if its delta was too large.
            if execution.task(task).status != TaskStatus::Completed {
                return;
            }
            let change = self.batch.change(execution);
            record_start(task, &start, id, now, &mut change.changes);
            let new = NewExecution {
                id,
                definition: found.definition,
                input: Arc::new(Context::from_json(start.input.as_str()).unwrap_or_default()),
                key: None,
                priority: 0,
                start_at: None,
                timeout: found.default_timeout,
            };
            let (started, changes) = Execution::submit(found.workflow, new, now);
            self.ledger.insert(started);
            let change = PendingChange {
                source: Some(source),
                ..PendingChange::new(changes, Labels::default())
            };
            self.batch.executions.insert(id, change);
        }
    }
}

/// Returns a wait that lasts until the workflow of the requested execution is known.
fn waits_for(start: &RootStart) -> Park {
    Park {
        kind: ParkKind::Start,
        key: start.key.clone(),
        position: 0,
        condition: Condition::none(),
        timeout: None,
        runs: Some(Box::new(Runs {
            workflow: start.workflow.clone(),
            ..Runs::default()
        })),
    }
}
