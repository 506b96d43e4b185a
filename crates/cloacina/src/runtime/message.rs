//! What callers, workers and timers tell the coordinator.

use std::sync::Arc;

use super::assignment::{Executor, PollToken};
use super::registry::{Registration, Service};
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::engine::{Finish, Outcome};
use crate::types::{
    Claim, Context, Error, ExecutionId, ExecutionStatus, Micros, Monotonic, Ordinal, ScheduleId,
    Timestamp,
};

/// What callers, workers and timers tell the coordinator.
pub enum Message {
    /// Start executions; answered once they are durable.
    Submit {
        /// All or none.
        requests: Vec<SubmitRequest>,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// Receives the ids. The id of a duplicate is that of the existing execution.
        reply: Reply<Vec<ExecutionId>>,
    },
    /// A worker entered a task whose execution's deadline is not set.
    Started {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// Under which claim.
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
    /// An attempt overran its timeout; its worker was told.
    Overdue {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// Under which claim it ran.
        claim: Claim,
        /// The limit that it overran.
        timeout: Micros,
    },
    /// An execution may have overrun its timeout.
    Deadline {
        /// The execution.
        execution: ExecutionId,
    },
    /// A caller wants something of an execution.
    Control {
        /// The execution.
        execution: ExecutionId,
        /// The change that the caller asks for.
        action: Control,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// The state after it is durable.
        reply: Reply<ExecutionStatus>,
    },
    /// The program has a workflow and handlers for its tasks.
    Register {
        /// What it has.
        registration: Registration,
        /// Answered once the definition is stored.
        reply: Reply<()>,
    },
    /// The program has handlers for external tasks of a workflow that another program defines.
    Serve {
        /// What it has.
        service: Service,
        /// Answered once the handlers were held against the stored definition, where there is one.
        reply: Reply<()>,
    },
    /// The program has a trigger's function.
    RegisterTrigger {
        /// What the trigger is to do.
        trigger: NewTrigger,
        /// The program's number of the function.
        handler: u64,
        /// Answered once the trigger is stored.
        reply: Reply<ScheduleId>,
    },
    /// A trigger's function has ended.
    Polled {
        /// The poll.
        token: PollToken,
        /// The result of the function.
        outcome: PollOutcome,
    },
    /// A task lends its worker's slot while it waits, or has it back.
    Deferred {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// Under which claim.
        claim: Claim,
        /// Lent, or back.
        lent: bool,
    },
    /// Fire a schedule once, now.
    RunNow {
        /// The schedule.
        schedule: ScheduleId,
        /// When the caller stops waiting for the database.
        give_up: Monotonic,
        /// The execution, once it is durable.
        reply: Reply<ExecutionId>,
    },
    /// This process changed schedules.
    Rescheduled,
    /// A caller waits for an execution that may end in another process.
    Watch,
    /// Look at the timers again: one moved closer.
    Poke,
    /// Stop claiming, let tasks end for a while, give the rest back.
    Stop {
        /// The time that running tasks may take.
        grace: Micros,
        /// Answered when nothing runs any more.
        reply: Reply<()>,
    },
}

/// The number of bytes that a message takes beside what it carries.
const MESSAGE_BYTES: usize = 256;

impl Message {
    /// Whether a caller waits for the answer.
    pub(super) const fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Self::Submit { .. }
                | Self::Control { .. }
                | Self::Register { .. }
                | Self::Serve { .. }
                | Self::RegisterTrigger { .. }
                | Self::RunNow { .. }
                | Self::Stop { .. }
        )
    }

    /// An estimate of the bytes that the message makes a transaction write.
    pub(super) fn weight(&self) -> usize {
        let carried = match self {
            Self::Submit { requests, .. } => requests
                .iter()
                .map(|request| MESSAGE_BYTES + request.input.size())
                .sum(),
            Self::Finished { finish, .. } => match &finish.outcome {
                Outcome::Completed(delta) => delta.size(),
                Outcome::Failed(failure) | Outcome::Retry { failure, .. } => {
                    failure.message.len() + failure.traceback.as_ref().map_or(0, String::len)
                }
                Outcome::Snooze { .. } | Outcome::Released => 0,
            },
            Self::Polled {
                outcome: PollOutcome::Fire(context),
                ..
            } => context.size(),
            _ => 0,
        };
        MESSAGE_BYTES + carried
    }

    /// The execution that must be read before the message can be decided.
    pub(super) const fn execution(&self) -> Option<ExecutionId> {
        match self {
            Self::Finished { execution, .. }
            | Self::Started { execution, .. }
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
            | Self::RunNow { give_up, .. } => Some(*give_up),
            _ => None,
        }
    }

    /// Answers the caller with an error. A message without a caller is dropped.
    pub(super) fn refuse(self, error: &Error) {
        match self {
            Self::Submit { reply, .. } => reply(Err(error.clone())),
            Self::Control { reply, .. } => reply(Err(error.clone())),
            Self::Register { reply, .. } | Self::Serve { reply, .. } | Self::Stop { reply, .. } => {
                reply(Err(error.clone()));
            }
            Self::RegisterTrigger { reply, .. } => reply(Err(error.clone())),
            Self::RunNow { reply, .. } => reply(Err(error.clone())),
            _ => {}
        }
    }
}

/// What a caller can ask of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// End it.
    Cancel,
    /// Start nothing new.
    Pause,
    /// Go on.
    Resume,
    /// Run failed tasks again.
    Retry {
        /// Run this task and its descendants again too.
        from_task: Option<String>,
    },
}

/// How an answer gets back to the caller; called once, after the transaction is durable.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// The largest number of bytes that the messages of one turn may make it write, unless one message alone is larger.
pub(super) const TURN_BYTES: usize = 32 << 20;
/// The largest number of messages of a turn that do not come from callers: a caller that asks meanwhile waits for no longer
/// commit than theirs.
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

/// One execution to start.
#[derive(Clone, Debug)]
pub struct SubmitRequest {
    /// A fresh id.
    pub id: ExecutionId,
    /// The workflow's name.
    pub workflow: String,
    /// What the tasks start from.
    pub input: Arc<Context>,
    /// Idempotency key (semantics C7).
    pub key: Option<String>,
    /// Claims go to higher ones first.
    pub priority: i16,
    /// Not to start before.
    pub start_at: Option<Timestamp>,
    /// Limit from the first start.
    pub timeout: Option<Micros>,
    /// The submitter's trace context as JSON, kept in the history for the runner of the tasks.
    pub trace: Option<Arc<str>>,
}
