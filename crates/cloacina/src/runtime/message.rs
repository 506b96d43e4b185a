//! The messages of callers, workers and timers to the coordinator.

use std::sync::Arc;

use super::assignment::{Executor, PollToken};
use super::registry::{Registration, Service};
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::engine::{Finish, Outcome};
use crate::types::{
    Claim, Context, Decision, Error, ExecutionId, ExecutionStatus, ItemRecord, Labels, Micros,
    Monotonic, NewSignal, Ordinal, Park, ScheduleId, Sent, StepRecord, Timestamp,
};

/// A message of a caller, a worker or a timer to the coordinator.
pub enum Message {
    /// A caller submits executions.
    Submit {
        /// The executions: all of them are stored, or none.
        requests: Vec<SubmitRequest>,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the ids once the executions are durable. The id of a duplicate is that of the existing execution.
        reply: Reply<Vec<ExecutionId>>,
    },
    /// A worker started a task whose execution has no deadline yet.
    Started {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which it runs.
        claim: Claim,
        /// The start of the attempt.
        at: Timestamp,
    },
    /// An attempt ended.
    Finished {
        /// The execution.
        execution: ExecutionId,
        /// The end of the attempt.
        finish: Finish,
        /// The executor whose slot it used.
        executor: Executor,
        /// The run time of the function, for the prefetch.
        ran: Micros,
    },
    /// A running attempt records a step.
    RecordStep {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which it runs: the fence of the step.
        claim: Claim,
        /// The step.
        step: StepRecord,
        /// Answered once the step is durable, or with an error if the claim was lost.
        reply: Reply<()>,
    },
    /// A running attempt asks whether a condition already holds that it would leave its function for.
    EndWait {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which it runs: the fence of the step.
        claim: Claim,
        /// The wait.
        park: Box<Park>,
        /// Its end may be recorded already, because the answer to the commit was lost.
        is_recorded: bool,
        /// Receives the step once it is durable, or `None` if the condition does not hold.
        reply: Reply<Option<StepRecord>>,
    },
    /// A running attempt asks for the steps that earlier attempts recorded.
    LoadSteps {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The item, if the task is a map.
        item: Option<u32>,
        /// Receives the steps in the order in which they were recorded.
        reply: Reply<Vec<StepRecord>>,
    },
    /// An item was claimed whose child is to be started.
    StartItem {
        /// The execution.
        execution: ExecutionId,
        /// The node.
        task: Ordinal,
        /// The generation of its map.
        generation: u32,
        /// The item as it was claimed.
        item: Box<ItemRecord>,
    },
    /// The last items of an aligned map were skipped, so that it ends.
    EndMap {
        /// The execution.
        execution: ExecutionId,
        /// The map.
        task: Ordinal,
        /// Its generation.
        generation: u32,
    },
    /// An attempt overran its timeout, and its worker was notified.
    Overdue {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which it ran.
        claim: Claim,
        /// The start of the attempt.
        started_at: Timestamp,
        /// The timeout that it overran.
        timeout: Micros,
    },
    /// An execution may have overrun its timeout.
    Deadline {
        /// The execution.
        execution: ExecutionId,
    },
    /// A caller controls an execution.
    Control {
        /// The execution.
        execution: ExecutionId,
        /// The requested action.
        action: Control,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the status once the change is durable.
        reply: Reply<ExecutionStatus>,
    },
    /// The program registers a workflow with handlers for its tasks.
    Register {
        /// The workflow and the handlers.
        registration: Registration,
        /// Answered once the definition is stored.
        reply: Reply<()>,
    },
    /// The program registers handlers for external tasks of a workflow that another program defines.
    Serve {
        /// The handlers.
        service: Service,
        /// Answered once the handlers were checked against the stored definition, if there is one.
        reply: Reply<()>,
    },
    /// The program registers a trigger.
    RegisterTrigger {
        /// The trigger.
        trigger: NewTrigger,
        /// The program's number of the function. `None`: the trigger has none, and fires after each end that it follows.
        handler: Option<u64>,
        /// Answered once the trigger is stored.
        reply: Reply<ScheduleId>,
    },
    /// A trigger's function returned or raised.
    Polled {
        /// The poll.
        token: PollToken,
        /// The result of the function.
        outcome: PollOutcome,
    },
    /// A deferred task released its worker's slot, or reacquired one.
    Deferred {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// The claim under which it runs.
        claim: Claim,
        /// `true`: it released its slot; `false`: it reacquired one.
        released: bool,
    },
    /// A caller starts a schedule's workflow once, now.
    RunNow {
        /// The schedule.
        schedule: ScheduleId,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the execution once it is durable.
        reply: Reply<ExecutionId>,
    },
    /// A caller sends signals.
    Send {
        /// The signals.
        signals: Vec<NewSignal>,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives an answer per signal once they are durable.
        reply: Reply<Vec<Sent>>,
    },
    /// This process changed schedules.
    Rescheduled,
    /// The next poll for changes is due: a caller waits for an execution that may end in another process, or something changed
    /// that a poll does not see.
    Watch,
    /// The program lets the runner begin to claim tasks.
    Begin,
    /// A timer was added or moved to an earlier time: the next step must compute its due time again.
    Poke,
    /// The program shuts the runner down: it stops claiming, waits for running tasks, and returns the other claims.
    Stop {
        /// Maximum time to wait for running tasks.
        grace: Micros,
        /// Answered once the shutdown has ended.
        reply: Reply<()>,
    },
}

/// An estimate of the bytes of a message without its payload.
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

    /// An estimate of the bytes that the transaction writes for the message.
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
            | Self::Overdue { execution, .. }
            | Self::Deadline { execution }
            | Self::Control { execution, .. } => Some(*execution),
            _ => None,
        }
    }

    /// When the caller stops waiting for the database, if the message has such a limit.
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

/// An action of a caller on an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Ends it as cancelled.
    Cancel,
    /// Ends it as cancelled, and is refused if it has ended already, also as cancelled.
    CancelOpen,
    /// Starts none of its tasks until it is resumed.
    Pause,
    /// Ends a pause.
    Resume,
    /// Runs failed tasks again.
    Retry {
        /// Runs this task and its descendants again too.
        from_task: Option<String>,
    },
    /// As `Retry`, after a retry that may have been written: an execution that has not ended counts as retried.
    RetryAgain {
        /// Runs this task and its descendants again too.
        from_task: Option<String>,
    },
    /// Runs failed tasks again, and a task with its descendants from one of the task's recorded steps.
    RetryFromStep {
        /// The task. `None`: the one that recorded the step.
        task: Option<String>,
        /// The key of the step.
        step: String,
        /// The retry may have been written already: an execution that has not ended counts as retried.
        again: bool,
    },
    /// Decides an open approval.
    Decide {
        /// The task.
        task: String,
        /// The decision. Its time is set when it is recorded.
        decision: Decision,
        /// The decision may have been written already: an equal one counts as this one.
        again: bool,
    },
    /// Moves the due time of a timer or of a retry delay.
    Reschedule {
        /// The task.
        task: String,
        /// The new due time.
        at: Timestamp,
    },
}

impl Control {
    /// The action to decide after a commit without an answer, so that the caller gets the same answer whether the action was
    /// written or not.
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

/// Delivers an answer to a caller. Called once, after the transaction is durable.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// Maximum number of bytes that one turn writes for its messages, unless a single message is larger.
pub(super) const TURN_BYTES: usize = 32 << 20;
/// Maximum number of messages of a turn that do not come from callers. It bounds the commit for which a caller that arrives
/// meanwhile must wait.
pub(super) const TURN_MESSAGES: usize = 512;

/// The number of messages at the front that fit into one turn.
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
    /// The priority: tasks of executions with a higher one are claimed first.
    pub priority: i16,
    /// The time before which no task starts.
    pub start_at: Option<Timestamp>,
    /// Maximum run time from the first start, in microseconds.
    pub timeout: Option<Micros>,
    /// Its labels.
    pub labels: Labels,
    /// The submitter's trace context as JSON, stored in the history for the runner that runs the tasks.
    pub trace: Option<Arc<str>>,
}

/// The approximate size of what a trigger starts, in bytes.
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
