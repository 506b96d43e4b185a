//! The messages that callers, workers and timers send to the coordinator.

use std::sync::Arc;

use super::assignment::{Executor, PollToken};
use super::registry::{Registration, Service};
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::engine::{Finish, Outcome};
use crate::store::AttemptStart;
use crate::types::{
    Claim, Context, Decision, Error, ExecutionId, ExecutionStatus, ItemRecord, Labels, Micros,
    Monotonic, NewSignal, Ordinal, Park, ScheduleId, Sent, StepRecord, Timestamp,
};

/// A message from a caller, a worker or a timer to the coordinator.
pub enum Message {
    /// A caller submits executions.
    Submit {
        /// The executions. Either all of them are stored, or none.
        requests: Vec<SubmitRequest>,
        /// The time at which the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the ids once the executions are durable. A duplicate is answered with the id of the existing execution.
        reply: Reply<Vec<ExecutionId>>,
    },
    /// A worker started a task of an execution whose deadline is not set yet.
    Started {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which the attempt runs.
        claim: Claim,
        /// The start of the attempt.
        at: Timestamp,
    },
    /// An attempt has ended.
    Finished {
        /// The execution.
        execution: ExecutionId,
        /// The end of the attempt.
        finish: Finish,
        /// The executor whose slot the attempt used.
        executor: Executor,
        /// The run time of the function, in microseconds. The prefetch window depends on it.
        ran: Micros,
    },
    /// A running attempt records a step.
    RecordStep {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which the attempt runs. The step is recorded only while the task still has this claim.
        claim: Claim,
        /// The step.
        step: StepRecord,
        /// Called once the step is durable, or with an error if the claim was lost.
        reply: Reply<()>,
    },
    /// A running attempt wants to wait, and asks whether the condition already holds. If it does, the function need not exit.
    EndWait {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which the attempt runs. The step is recorded only while the task still has this claim.
        claim: Claim,
        /// The wait.
        park: Box<Park>,
        /// Whether the end of the wait may already be recorded, because the reply to an earlier commit was lost.
        is_recorded: bool,
        /// Receives the step that records the end of the wait once it is durable, or `None` if the condition does not hold.
        reply: Reply<Option<StepRecord>>,
    },
    /// A running attempt asks for the steps that earlier attempts recorded.
    LoadSteps {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The number of the item, if the task is a map.
        item: Option<u32>,
        /// Receives the steps in the order in which they were recorded.
        reply: Reply<Vec<StepRecord>>,
    },
    /// An item was claimed, and its child must be started.
    StartItem {
        /// The execution.
        execution: ExecutionId,
        /// The node.
        task: Ordinal,
        /// The generation of the node's map: the number of times that its list was read.
        generation: u32,
        /// The item as it was claimed.
        item: Box<ItemRecord>,
    },
    /// The last items of an aligned map were skipped, so the map has to end.
    EndMap {
        /// The execution.
        execution: ExecutionId,
        /// The map.
        task: Ordinal,
        /// The generation of the map: the number of times that its list was read.
        generation: u32,
    },
    /// An attempt overran its timeout, and its worker was notified.
    Overdue {
        /// The attempt and its start.
        attempt: AttemptStart,
        /// The timeout that the attempt overran, in microseconds.
        timeout: Micros,
        /// Whether the metrics already count the timeout.
        is_counted: bool,
    },
    /// The deadline of an execution may have passed.
    Deadline {
        /// The execution.
        execution: ExecutionId,
    },
    /// A caller requests an action on an execution.
    Control {
        /// The execution.
        execution: ExecutionId,
        /// The requested action.
        action: Control,
        /// The time at which the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the status once the change is durable.
        reply: Reply<ExecutionStatus>,
    },
    /// The program registers a workflow with handlers for its tasks.
    Register {
        /// The workflow and the handlers.
        registration: Registration,
        /// Called once the definition is stored.
        reply: Reply<()>,
    },
    /// The program registers handlers for external tasks of a workflow that another program defines.
    Serve {
        /// The handlers.
        service: Service,
        /// Called once the handlers have been checked against the stored definition, if there is one.
        reply: Reply<()>,
    },
    /// The program registers a trigger.
    RegisterTrigger {
        /// The trigger.
        trigger: NewTrigger,
        /// The program's number for the trigger's function. `None`: the trigger has no function, and fires for each ended
        /// execution of the workflow that it follows.
        handler: Option<u64>,
        /// Called once the trigger is stored.
        reply: Reply<ScheduleId>,
    },
    /// A trigger's function has returned or raised an error.
    Polled {
        /// The poll.
        token: PollToken,
        /// The result of the function.
        outcome: PollOutcome,
    },
    /// A deferred task has released its worker's slot, or has reacquired a slot.
    Deferred {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which the attempt runs.
        claim: Claim,
        /// `true`: the slot was released. `false`: a slot was reacquired.
        released: bool,
    },
    /// A caller starts the workflow of a schedule once, immediately.
    RunNow {
        /// The schedule.
        schedule: ScheduleId,
        /// The time at which the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the execution once it is durable.
        reply: Reply<ExecutionId>,
    },
    /// A caller sends signals.
    Send {
        /// The signals.
        signals: Vec<NewSignal>,
        /// The time at which the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives one answer for each signal once the signals are durable.
        reply: Reply<Vec<Sent>>,
    },
    /// This process changed a schedule or a trigger.
    Rescheduled,
    /// The next poll for changes is due immediately: the store has reported a change, a caller waits for an execution
    /// whose state could not be read, or this process made a change that the change marker does not show.
    Watch,
    /// The program allows a runner that was held back to begin.
    Begin,
    /// A timer was added or moved to an earlier time, so the coordinator must compute the time of its next step again.
    Poke,
    /// The program shuts the runner down. The runner stops claiming, waits for running tasks, and returns the other claims.
    Stop {
        /// Maximum time to wait for running tasks, in microseconds.
        grace: Micros,
        /// Called once the shutdown has ended.
        reply: Reply<()>,
    },
}

/// An estimate of the size of a message without its payload, in bytes.
const MESSAGE_BYTES: usize = 256;

impl Message {
    /// Whether a caller waits for an answer to the message.
    pub(super) const fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Self::Submit { .. }
                | Self::Control { .. }
                | Self::RecordStep { .. }
                | Self::EndWait { .. }
                | Self::LoadSteps { .. }
                | Self::Register { .. }
                | Self::Serve { .. }
                | Self::RegisterTrigger { .. }
                | Self::RunNow { .. }
                | Self::Send { .. }
                | Self::Stop { .. }
        )
    }

    /// Whether the message is the end of an attempt of a map's item.
    pub(super) fn is_end_of_item(&self) -> bool {
        matches!(self, Self::Finished { finish, .. } if finish.claim.item.is_some())
    }

    /// Whether the message is work that must not wait until the items of a map are written: it comes from a caller that is not
    /// an item, or it is the end of a task's attempt.
    pub(super) fn is_beside_items(&self) -> bool {
        match self {
            Self::RecordStep { claim, .. } | Self::EndWait { claim, .. } => claim.item.is_none(),
            Self::LoadSteps { item, .. } => item.is_none(),
            Self::Finished { finish, .. } => finish.claim.item.is_none(),
            other => other.is_of_caller(),
        }
    }

    /// Whether the message stops the runner.
    pub(super) const fn is_stop(&self) -> bool {
        matches!(self, Self::Stop { .. })
    }

    /// An estimate of the number of bytes that the transaction writes for the message.
    pub(super) fn weight(&self) -> usize {
        let carried = match self {
            Self::Submit { requests, .. } => requests
                .iter()
                .map(|request| MESSAGE_BYTES + request.input.size() + request.labels.size())
                .sum(),
            Self::RecordStep { step, .. } => step.size(),
            Self::Finished { finish, .. } => match &finish.outcome {
                Outcome::Completed(delta) | Outcome::Starting { delta, .. } => delta.size(),
                Outcome::Failed(failure) | Outcome::Retry { failure, .. } => {
                    failure.message.len() + failure.traceback.as_ref().map_or(0, String::len)
                }
                Outcome::Snooze { .. } | Outcome::Park(_) | Outcome::Released => 0,
            },
            Self::Send { signals, .. } => signals
                .iter()
                .map(|signal| MESSAGE_BYTES + signal.data.as_str().len())
                .sum(),
            Self::Polled { outcome, .. } => size_of_poll(outcome),
            _ => 0,
        };
        MESSAGE_BYTES + carried
    }

    /// The execution that must be read before the message can be decided.
    pub(super) const fn execution(&self) -> Option<ExecutionId> {
        match self {
            Self::Finished { execution, .. }
            | Self::Started { execution, .. }
            | Self::RecordStep { execution, .. }
            | Self::EndWait { execution, .. }
            | Self::StartItem { execution, .. }
            | Self::EndMap { execution, .. }
            | Self::Deadline { execution }
            | Self::Control { execution, .. } => Some(*execution),
            Self::Overdue { attempt, .. } => Some(attempt.execution),
            _ => None,
        }
    }

    /// The time at which the caller stops waiting for the database. `None` if the message has no such limit.
    pub(super) const fn give_up(&self) -> Option<Monotonic> {
        match self {
            Self::Submit { give_up, .. }
            | Self::Control { give_up, .. }
            | Self::RunNow { give_up, .. }
            | Self::Send { give_up, .. } => Some(*give_up),
            _ => None,
        }
    }

    /// Answers the caller with an error. A message without a caller is dropped.
    pub(super) fn refuse(self, error: &Error) {
        match self {
            Self::Submit { reply, .. } => reply(Err(error.clone())),
            Self::Control { reply, .. } => reply(Err(error.clone())),
            Self::Register { reply, .. }
            | Self::Serve { reply, .. }
            | Self::Stop { reply, .. }
            | Self::RecordStep { reply, .. } => reply(Err(error.clone())),
            Self::EndWait { reply, .. } => reply(Err(error.clone())),
            Self::LoadSteps { reply, .. } => reply(Err(error.clone())),
            Self::RegisterTrigger { reply, .. } => reply(Err(error.clone())),
            Self::RunNow { reply, .. } => reply(Err(error.clone())),
            Self::Send { reply, .. } => reply(Err(error.clone())),
            _ => {}
        }
    }
}

/// An action that a caller requests on an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Ends the execution as cancelled. Changes nothing if the execution is already cancelled.
    Cancel,
    /// Ends the execution as cancelled. This is refused if the execution has already ended, even as cancelled.
    CancelOpen,
    /// Pauses the execution: no task starts until it is resumed.
    Pause,
    /// Ends a pause.
    Resume,
    /// Runs the failed tasks again.
    Retry {
        /// A task to run again too, with its descendants.
        from_task: Option<String>,
    },
    /// Like `Retry`, for a retry that may already have been written: if the execution is open, the retry counts as done.
    RetryAgain {
        /// A task to run again too, with its descendants.
        from_task: Option<String>,
    },
    /// Runs the failed tasks again. Also runs one task again from one of its recorded steps, and the descendants of this task.
    RetryFromStep {
        /// The task. `None`: the task that recorded the step.
        task: Option<String>,
        /// The key of the step.
        step: String,
        /// Whether the retry may already have been written. If so and the execution is open, the retry counts as done.
        again: bool,
    },
    /// Decides an open approval.
    Decide {
        /// The task.
        task: String,
        /// The decision. Its time is set when the decision is recorded.
        decision: Decision,
        /// Whether the decision may already have been written. If so, an equal stored decision counts as this decision.
        again: bool,
    },
    /// Moves a timer or a retry delay to another due time.
    Reschedule {
        /// The task.
        task: String,
        /// The new due time.
        at: Timestamp,
    },
}

impl Control {
    /// The action to decide again after a commit whose reply was lost. It gives the caller the same answer whether the commit
    /// was written or not.
    pub(super) fn again(self) -> Self {
        match self {
            Self::CancelOpen => Self::Cancel,
            Self::Retry { from_task } => Self::RetryAgain { from_task },
            Self::RetryFromStep { task, step, .. } => Self::RetryFromStep {
                task,
                step,
                again: true,
            },
            Self::Decide { task, decision, .. } => Self::Decide {
                task,
                decision,
                again: true,
            },
            other => other,
        }
    }
}

/// Delivers an answer to a caller. It is called once: after the transaction is durable, or with an error.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// Maximum number of bytes that one turn writes for its messages. A single message can exceed it.
pub(super) const TURN_BYTES: usize = 32 << 20;
/// Maximum number of messages in a turn that do not come from callers. It limits the duration of a commit, because callers that
/// arrive during a commit must wait for its end.
pub(super) const TURN_MESSAGES: usize = 512;
/// Maximum number of ends, and of claims, of maps' items in a turn that also contains other work. The others follow in the next
/// turn.
pub(super) const TURN_ITEMS_WITH_OTHERS: usize = 32;

/// The number of messages at the start of a list that fit into one turn; at least 1, unless the list is empty.
pub(super) fn fitting(messages: &[Message]) -> usize {
    let mut bytes = 0;
    let mut fits = |message: &Message| {
        bytes += message.weight();
        bytes <= TURN_BYTES
    };
    let most = messages.len().min(TURN_MESSAGES);
    let count = messages[..most].iter().position(|message| !fits(message));
    count.unwrap_or(most).max(most.min(1))
}

/// An execution to submit.
#[derive(Clone, Debug)]
pub struct SubmitRequest {
    /// A fresh id.
    pub id: ExecutionId,
    /// The workflow's name.
    pub workflow: String,
    /// The initial context.
    pub input: Arc<Context>,
    /// The idempotency key (semantics C7).
    pub key: Option<String>,
    /// The priority: tasks of executions with a higher priority are claimed first.
    pub priority: i16,
    /// The time before which no task starts.
    pub start_at: Option<Timestamp>,
    /// Maximum run time from the start of the first task, in microseconds.
    pub timeout: Option<Micros>,
    /// The labels of the execution.
    pub labels: Labels,
    /// The submitter's trace context as JSON. It is stored in the history for the runners that run the tasks.
    pub trace: Option<Arc<str>>,
}

/// The approximate size of the executions that a poll starts, in bytes.
fn size_of_poll(outcome: &PollOutcome) -> usize {
    match outcome {
        PollOutcome::Fire(context) => context.size(),
        PollOutcome::Many { fires, .. } => fires
            .iter()
            .map(|(context, _)| MESSAGE_BYTES + context.size())
            .sum(),
        PollOutcome::Ends(outcomes) => outcomes.iter().map(size_of_poll).sum(),
        PollOutcome::Skip | PollOutcome::Failed(_) => 0,
    }
}
