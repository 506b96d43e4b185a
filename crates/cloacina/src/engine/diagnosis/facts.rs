//! The facts of a diagnosis, and its input.

use crate::types::{
    ExecutionId, ExecutionStatus, Failure, MapRow, Micros, Offer, Presence, RunnerId, ScheduleId,
    TaskStatus, Timestamp, Topic,
};
use crate::workflow::TaskKind;

/// The input of a diagnosis besides the execution.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosisInput<'a> {
    /// The runners that were not declared dead.
    pub runners: &'a [Presence],
    /// The handlers for tasks of the execution's workflow that live runners and some former runners have announced.
    pub offers: &'a [Offer],
    /// The attempts that workers of these runners run, as far as they are known.
    pub running: &'a [RunningTask],
    /// The maps of the execution that have expanded.
    pub maps: &'a [MapRow],
    /// The current time.
    pub now: Timestamp,
}

/// An attempt that a worker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningTask {
    /// The runner.
    pub runner: RunnerId,
    /// The workflow.
    pub workflow: String,
    /// The task.
    pub task: String,
    /// The kind of worker that executes it.
    pub kind: TaskKind,
}

/// A task that keeps workers of a runner busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusyTask {
    /// The workflow, unless it is the execution's own.
    pub workflow: Option<String>,
    /// The task.
    pub task: String,
    /// The number of workers that run it.
    pub workers: usize,
}

/// A runner, and the time at which it was last known to be live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRunner {
    /// The runner.
    pub runner: RunnerId,
    /// The name of its machine.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// The time at which it was last known to be live.
    pub at: Timestamp,
}

impl SeenRunner {
    pub(super) fn of_offer(offer: &Offer, input: &DiagnosisInput<'_>) -> Self {
        let beat = input
            .runners
            .iter()
            .find(|runner| runner.id == offer.runner)
            .map_or(offer.seen_at, |runner| runner.heartbeat_at);
        Self {
            runner: offer.runner,
            host: offer.host.clone(),
            pid: offer.pid,
            at: beat.max(offer.seen_at),
        }
    }

    pub(super) fn of_presence(runner: &Presence) -> Self {
        Self {
            runner: runner.id,
            host: runner.host.clone(),
            pid: runner.pid,
            at: runner.heartbeat_at,
        }
    }
}

/// A fact that holds an execution or one of its tasks back, or the runner that runs a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The execution has ended.
    Ended {
        /// The final status.
        status: ExecutionStatus,
        /// The time of the end.
        at: Option<Timestamp>,
        /// The failure, with the failed task if there is one.
        error: Option<(Option<String>, Failure)>,
    },
    /// The final tasks of the execution have not ended, or have failed.
    FinalTasks {
        /// Their execution.
        execution: ExecutionId,
        /// Its status.
        status: ExecutionStatus,
        /// Its failure, with the failed task if there is one.
        error: Option<(Option<String>, Failure)>,
    },
    /// Final tasks wait until attempts of the first execution have ended or are lost.
    AttemptsOpen {
        /// The first execution.
        first: ExecutionId,
        /// The number of the attempts.
        count: usize,
    },
    /// This release does not have a mechanism that the workflow needs.
    NeedUnknown {
        /// The workflow.
        workflow: String,
        /// The mechanism.
        need: String,
    },
    /// The execution is paused.
    Paused {
        /// The time since which it is paused.
        since: Option<Timestamp>,
    },
    /// The execution has a deadline at which it fails.
    Deadline {
        /// Its timeout.
        timeout: Micros,
        /// The deadline.
        at: Timestamp,
    },
    /// The execution was submitted with a delay or a start time.
    Delay {
        /// The time before which no task starts.
        until: Timestamp,
    },
    /// A signal of `cancel_on` cannot cancel the execution.
    NotCancellable {
        /// The signal, and why it cannot.
        problem: String,
    },
    /// Two tasks wrote a key, and neither depends on the other: the final context has one of the values (B3).
    LostWrite {
        /// The key.
        key: String,
        /// The task whose value the context has: the later one in the order of the declaration.
        kept: String,
        /// The task whose value it lacks.
        lost: String,
    },
    /// No live runner has any task of the workflow.
    WorkflowUnknown {
        /// The workflow.
        workflow: String,
        /// The last runner that had it.
        last: Option<SeenRunner>,
    },
    /// A task waits for its dependencies.
    Dependencies {
        /// The task.
        task: String,
        /// Some dependencies that have not ended, with their statuses.
        open: Vec<(String, TaskStatus)>,
        /// The number of other dependencies that have not ended.
        more: usize,
    },
    /// More tasks wait for dependencies than the reasons name.
    MoreTasks {
        /// Their number.
        count: usize,
    },
    /// A task waits for its next attempt.
    Retry {
        /// The task.
        task: String,
        /// The number of the next attempt. Snoozes do not count.
        attempt: u32,
        /// Maximum number of attempts of its policy.
        max_attempts: u32,
        /// The time at which the attempt is due.
        until: Timestamp,
        /// The failure of the last attempt.
        error: Option<Failure>,
    },
    /// A task waits for a signal, an approval, a child or a time.
    Waiting {
        /// The task.
        task: String,
        /// The open parts of its condition, in words.
        what: Vec<String>,
        /// The names of the signals, with the topics in which each may come.
        signals: Vec<(String, Vec<Topic>)>,
        /// The beginning of the wait.
        since: Timestamp,
        /// The end of the wait if nothing comes.
        deadline: Option<Timestamp>,
        /// Per name, the number of signals that came with other keys, if it is known.
        others: Vec<(String, usize)>,
    },
    /// A map runs its items.
    Map {
        /// The task.
        task: String,
        /// The counts of its items. `None`: its list has not been read yet.
        row: Option<Box<MapRow>>,
    },
    /// A task is snoozed.
    Timer {
        /// The task.
        task: String,
        /// The time at which it is due.
        until: Timestamp,
    },
    /// A task is ready, and no live runner has a handler for it.
    NoHandler {
        /// The task.
        task: String,
        /// The workflow.
        workflow: String,
        /// The last runner that had a handler.
        last: Option<SeenRunner>,
    },
    /// A task is ready, and live runners have a handler for it, but none has claimed it.
    Queued {
        /// The task.
        task: String,
        /// The number of live runners with a handler.
        runners: usize,
        /// One of these runners.
        runner: SeenRunner,
        /// The tasks that the workers of this runner run, the most frequent first.
        busy: Vec<BusyTask>,
    },
    /// A live runner has claimed a task, and no worker of it has taken the task yet.
    Claimed {
        /// The task.
        task: String,
        /// The runner.
        runner: SeenRunner,
        /// The end of the runner's lease, unless it is extended.
        until: Timestamp,
        /// The tasks that its workers run, the most frequent first.
        busy: Vec<BusyTask>,
    },
    /// A live runner runs a task.
    HeldByLive {
        /// The task.
        task: String,
        /// The number of the attempt.
        attempt: u32,
        /// The runner.
        runner: SeenRunner,
        /// The start of the attempt.
        since: Option<Timestamp>,
        /// The end of the runner's lease, unless it is extended.
        until: Timestamp,
    },
    /// A dead runner holds the claim on a task.
    HeldByDead {
        /// The task.
        task: String,
        /// The number of the attempt.
        attempt: u32,
        /// The runner.
        runner: SeenRunner,
        /// The end of the runner's lease.
        until: Timestamp,
        /// Whether a live runner can rescue the task.
        rescuer: bool,
    },
    /// A runner that was declared dead held the claim on a task, which is being rescued.
    HeldByGone {
        /// The task.
        task: String,
        /// The number of the attempt.
        attempt: u32,
        /// The runner.
        runner: RunnerId,
        /// Whether a live runner can rescue the task.
        rescuer: bool,
    },
    /// The schedule that started the execution does not fire any more.
    ScheduleOff {
        /// The schedule.
        schedule: ScheduleId,
        /// `true`: it is deleted; `false`: it is disabled.
        deleted: bool,
    },
}

impl Reason {
    /// The runner whose workers a task waits for.
    #[must_use]
    pub const fn waits_for_worker_of(&self) -> Option<RunnerId> {
        match self {
            Self::Queued { runner, .. } | Self::Claimed { runner, .. } => Some(runner.runner),
            _ => None,
        }
    }
}
