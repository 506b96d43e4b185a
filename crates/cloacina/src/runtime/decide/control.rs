//! Actions of callers on executions: cancel, pause, resume, retry.

use crate::engine::ControlError;
use crate::runtime::batch::PendingControl;
use crate::runtime::step::Step;
use crate::runtime::{Control, Reply};
use crate::types::{Error, ErrorCode, ExecutionId, ExecutionStatus, Monotonic, nearest};
use crate::workflow::Workflow;

impl Step {
    /// Decides an action of a caller.
    pub(in crate::runtime) fn control(
        &mut self,
        id: ExecutionId,
        action: Control,
        give_up: Monotonic,
        reply: Reply<ExecutionStatus>,
    ) {
        self.note_starts_of(id);
        let Some(execution) = self.ledger.get_mut(id) else {
            let error = if self.ledger.is_unreadable(id) {
                unreadable_execution(id)
            } else {
                Error::unknown_execution(id)
            };
            return reply(Err(error));
        };
        let from_task = match &action {
            Control::Retry {
                from_task: Some(task),
            } => match execution.workflow().ordinal(task) {
                Some(ordinal) => Some(ordinal),
                None => return reply(Err(unknown_task(execution.workflow(), task))),
            },
            _ => None,
        };
        let change = self.batch.change(execution);
        let decided = match &action {
            Control::Cancel => execution.cancel(self.now),
            Control::CancelOpen => execution.cancel_open(self.now),
            Control::Pause => execution.pause(self.now),
            Control::Resume => execution.resume(self.now),
            Control::Retry { .. } => {
                self.subscriptions.forget_recent(Some(id));
                execution.retry(from_task, self.now)
            }
        };
        match decided {
            Ok(changes) => {
                change.changes.merge(changes);
                change.controls.push(PendingControl {
                    reply,
                    action,
                    give_up,
                });
                self.watch_deadline(id);
            }
            Err(error) => reply(Err(control_error(error))),
        }
        self.batch.drop_if_empty(id);
    }
}

pub(in crate::runtime) fn unreadable_execution(id: ExecutionId) -> Error {
    Error::new(
        ErrorCode::Database,
        format!("this program cannot read execution {id}"),
    )
    .with_hint(
        "see the runner's log for the reason; a newer release may have written the execution",
    )
}

pub(in crate::runtime) fn unknown_task(workflow: &Workflow, task: &str) -> Error {
    let error = Error::new(
        ErrorCode::WorkflowInvalid,
        format!("workflow '{}' has no task '{task}'", workflow.name()),
    );
    let known = workflow.definition().tasks.iter();
    match nearest(task, known.map(|known| known.id.as_str())) {
        Some(near) => error.with_hint(format!("did you mean '{near}'?")),
        None => error,
    }
}

pub(in crate::runtime) fn control_error(error: ControlError) -> Error {
    let refused = Error::new(ErrorCode::ExecutionState, error.message);
    match error.hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}
