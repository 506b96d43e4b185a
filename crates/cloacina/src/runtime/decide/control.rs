//! Actions of callers on executions: cancel, pause, resume, retry, reschedule, decide an approval.

use super::finale::{learn_final_state, refuse_stale_finale};
use crate::engine::{Changes, ControlError, DecideError, Execution, MAX_SIGNAL_DATA, first_of};
use crate::runtime::batch::PendingControl;
use crate::runtime::step::Step;
use crate::runtime::{Control, Reply};
use crate::store::Store;
use crate::types::{
    Decided, Decision, Error, ErrorCode, ExecutionId, ExecutionStatus, Monotonic, Ordinal,
    StepDrop, Timestamp, nearest,
};
use crate::workflow::{Workflow, complete_approval_data};

impl Step {
    /// Decides an action that a caller requested.
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
        if matches!(
            action,
            Control::Retry { .. } | Control::RetryAgain { .. } | Control::RetryFromStep { .. }
        ) {
            self.subscriptions.forget_recent(Some(id));
        }
        let change = self.batch.change(execution);
        let decided = apply(&*self.store, execution, &action, self.now);
        let refusal = decided.map(|changes| change.changes.merge(changes)).err();
        if change.is_empty() {
            // The answer does not depend on a write, so the caller receives it now.
            reply(refusal.map_or_else(|| Ok(execution.record().status), Err));
        } else {
            change.controls.push(PendingControl {
                reply,
                action,
                give_up,
                refusal,
            });
            self.watch_deadline(id);
        }
        self.batch.drop_if_empty(id);
    }
}

/// Applies an action to an execution.
///
/// # Errors
/// Returns an error if the execution's state does not allow the action, if the task or the step does not exist, if the data of
/// a decision is not valid, or if the database fails.
pub(in crate::runtime) fn apply(
    store: &dyn Store,
    execution: &mut Execution,
    action: &Control,
    now: Timestamp,
) -> Result<Changes, Error> {
    if matches!(
        action,
        Control::Retry { .. } | Control::RetryAgain { .. } | Control::RetryFromStep { .. }
    ) {
        refuse_stale_finale(store, execution)?;
        learn_final_state(store, execution)?;
    }
    let decided = match action {
        Control::Cancel => execution.cancel(now),
        Control::CancelOpen => execution.cancel_open(now),
        Control::Pause => execution.pause(now),
        Control::Resume => execution.resume(now),
        Control::Retry { from_task } | Control::RetryAgain { from_task } => {
            let from_task = (from_task.as_ref())
                .map(|task| ordinal_of(execution, task))
                .transpose()?;
            if matches!(action, Control::RetryAgain { .. }) {
                execution.retry_ended(from_task, now)
            } else {
                execution.retry(from_task, now)
            }
        }
        Control::RetryFromStep { again: true, .. } if !execution.record().status.is_terminal() => {
            return Ok(Changes::default());
        }
        Control::RetryFromStep { task, step, .. } => {
            let from = step_to_retry(store, execution, task.as_deref(), step)?;
            execution.retry_from_step(from, now)
        }
        Control::Reschedule { task, at } => {
            let task = ordinal_of(execution, task)?;
            execution.reschedule(task, *at, now)
        }
        Control::Decide {
            task,
            decision,
            again,
        } => return decide(execution, task, decision, *again, now),
    };
    decided.map_err(control_error)
}

/// Decides an approval (L11).
fn decide(
    execution: &mut Execution,
    task: &str,
    decision: &Decision,
    again: bool,
    now: Timestamp,
) -> Result<Changes, Error> {
    let ordinal = ordinal_of(execution, task)?;
    let id = execution.record().id;
    check_decision_size(id, task, decision)?;
    let decision = &match with_complete_data(execution, ordinal, decision) {
        Ok(complete) => complete,
        Err(refusal) if execution.task(ordinal).is_waiting() => return Err(refusal),
        // `execution.decide` will refuse the decision. The reason for that matters more to the caller than the invalid
        // data.
        Err(_) => decision.clone(),
    };
    let new = Decision {
        at: now,
        ..decision.clone()
    };
    match execution.decide(ordinal, new, now) {
        Ok(changes) => Ok(changes),
        Err(DecideError::NotWaiting(error)) => Err(control_error(error)),
        Err(DecideError::AlreadyDecided {
            decision: earlier, ..
        }) if again
            && *earlier
                == (Decision {
                    at: earlier.at,
                    ..decision.clone()
                }) =>
        {
            Ok(Changes::default())
        }
        Err(DecideError::AlreadyDecided {
            task,
            decision: earlier,
        }) => {
            let what = if earlier.approved {
                "approved"
            } else {
                "rejected"
            };
            let by = (earlier.by.as_ref()).map_or_else(String::new, |by| format!(" by {by}"));
            let message = format!(
                "'{task}' of execution {id} was already {what}{by} at {}",
                earlier.at.to_rfc3339()
            );
            Err(Error {
                decided: Some(Box::new(Decided {
                    by: earlier.by,
                    at: earlier.at,
                })),
                ..Error::new(ErrorCode::AlreadyDecided, message)
            })
        }
    }
}

/// Refuses a decision that is too large to be stored.
fn check_decision_size(id: ExecutionId, task: &str, decision: &Decision) -> Result<(), Error> {
    let sizes = [
        ("data", decision.data.as_str().len()),
        ("reason", decision.reason.as_ref().map_or(0, String::len)),
        ("by", decision.by.as_ref().map_or(0, String::len)),
    ];
    match sizes.into_iter().find(|(_, size)| *size > MAX_SIGNAL_DATA) {
        None => Ok(()),
        Some((what, size)) => Err(Error::new(
            ErrorCode::ContextInvalid,
            format!(
                "cannot decide '{task}' of execution {id}: the decision's {what} takes {size} bytes, more than {MAX_SIGNAL_DATA}"
            ),
        )
        .with_hint("store large data in a file or a table, and send a reference to it")),
    }
}

/// L12: checks the decision's data against the schema of the approval. Returns the decision with the schema's defaults added.
fn with_complete_data(
    execution: &Execution,
    ordinal: Ordinal,
    decision: &Decision,
) -> Result<Decision, Error> {
    let task = execution.workflow().task(ordinal);
    let schema = task
        .approval
        .as_ref()
        .and_then(|approval| approval.schema.as_ref());
    let data = match schema.filter(|_| decision.approved) {
        Some(schema) => complete_approval_data(&task.id, schema, &decision.data)?,
        None => decision.data.clone(),
    };
    Ok(Decision {
        data,
        ..decision.clone()
    })
}

fn ordinal_of(execution: &Execution, task: &str) -> Result<Ordinal, Error> {
    let ordinal = execution.workflow().ordinal(task);
    ordinal.ok_or_else(|| unknown_task(execution.workflow(), task))
}

/// Returns the recorded step from which a task must run again.
pub(in crate::runtime) fn step_to_retry(
    store: &dyn Store,
    execution: &Execution,
    task: Option<&str>,
    key: &str,
) -> Result<StepDrop, Error> {
    let task = match task {
        Some(task) => match execution.workflow().ordinal(task) {
            Some(ordinal) => Some(ordinal),
            None => return Err(unknown_task(execution.workflow(), task)),
        },
        None => None,
    };
    let id = execution.record().id;
    let steps = store.steps(id, task)?;
    first_of(&steps, task, key).map_err(|reason| {
        let error = Error::new(
            ErrorCode::ExecutionState,
            format!("execution {id} {reason}"),
        );
        match nearest(key, steps.iter().map(|(_, step)| step.key.as_str())) {
            Some(near) if near != key => error.with_hint(format!("did you mean '{near}'?")),
            _ => error,
        }
    })
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

fn unknown_task(workflow: &Workflow, task: &str) -> Error {
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

fn control_error(error: ControlError) -> Error {
    let refused = Error::new(ErrorCode::ExecutionState, error.message);
    match error.hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}
