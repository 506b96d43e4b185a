//! The input of a diagnosis, and the facts that a diagnosis can report.

use crate::types::{
    ExecutionId, ExecutionStatus, Failure, MapRow, Micros, Offer, Presence, RunnerId, ScheduleId,
    TaskStatus, Timestamp, Topic,
};
use crate::workflow::TaskKind;

/// The data that a diagnosis reads in addition to the execution.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosisInput<'a> {
    /// The runners that have not been declared dead.
    pub runners: &'a [Presence],
    /// The announcements of runners that have handlers for tasks of this workflow. The list has the announcements of all
    /// such live runners, and possibly some of runners that are no longer live.
    pub offers: &'a [Offer],
    /// The attempts that are known to run on workers of these runners.
    pub running: &'a [RunningTask],
    /// The maps of the execution that have expanded.
    pub maps: &'a [MapRow],
    /// The current time.
    pub now: Timestamp,
}

/// An attempt that a worker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningTask {
    /// The runner whose worker runs it.
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
    /// The workflow of the task, if it is not the workflow of the diagnosed execution.
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

/// A fact that explains the state of an execution or task, for example what blocks it or which runner runs it.
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
    /// The execution has ended, but its final tasks have not ended or have failed.
    FinalTasks {
        /// The execution of the final tasks.
        execution: ExecutionId,
        /// The status of that execution.
        status: ExecutionStatus,
        /// The failure of that execution, with the failed task if there is one.
        error: Option<(Option<String>, Failure)>,
    },
    /// The execution runs final tasks, which wait until the attempts of the first execution have ended or are lost.
    AttemptsOpen {
        /// The execution to which the final tasks belong.
        first: ExecutionId,
        /// The number of its attempts that may still run.
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
        /// The start of the pause.
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
    /// A signal that `cancel_on` names cannot cancel the execution.
    NotCancellable {
        /// The name of the signal, and the reason why the signal cannot cancel the execution.
        problem: String,
    },
    /// Two tasks that do not depend on each other wrote the same key. The final context contains only one of the values (B3).
    LostWrite {
        /// The key.
        key: String,
        /// The task whose value is in the final context.
        kept: String,
        /// The task whose value is not in the final context.
        lost: String,
    },
    /// No live runner has handlers for tasks of the workflow.
    WorkflowUnknown {
        /// The workflow.
        workflow: String,
        /// The last runner that had such handlers.
        last: Option<SeenRunner>,
    },
    /// A task waits for its dependencies.
    Dependencies {
        /// The task.
        task: String,
        /// The dependencies that have not ended, with their statuses. If there are many, the list contains only the first ones.
        open: Vec<(String, TaskStatus)>,
        /// The number of further dependencies that have not ended.
        more: usize,
    },
    /// Further tasks wait for dependencies, in addition to the tasks with a `Dependencies` reason.
    MoreTasks {
        /// The number of tasks that are not reported.
        count: usize,
    },
    /// A task waits for its next attempt.
    Retry {
        /// The task.
        task: String,
        /// The number of the next attempt. Snoozes do not count.
        attempt: u32,
        /// Maximum number of attempts that the task's retry policy allows.
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
        /// The parts of the task's condition that have not been met, in words.
        what: Vec<String>,
        /// The names of the signals that the task waits for, with the topics under which each can arrive.
        signals: Vec<(String, Vec<Topic>)>,
        /// The beginning of the wait.
        since: Timestamp,
        /// The time at which the wait ends even if nothing has arrived.
        deadline: Option<Timestamp>,
        /// For each signal name, the number of arrived signals whose key differs from the key that the task waits for. Names
        /// for which this number is not known are left out.
        others: Vec<(String, usize)>,
    },
    /// A map runs its items, or has not read its list yet.
    Map {
        /// The task.
        task: String,
        /// The counts of its items. `None`: its list has not been read yet.
        row: Option<Box<MapRow>>,
    },
    /// A snoozed task, of which no attempt has failed, is not due yet.
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
        /// One of these live runners.
        runner: SeenRunner,
        /// The tasks that the workers of this runner run, the most frequent first.
        busy: Vec<BusyTask>,
    },
    /// A live runner has claimed a task, but none of its workers has taken the task yet.
    Claimed {
        /// The task.
        task: String,
        /// The runner.
        runner: SeenRunner,
        /// The end of the runner's lease, unless it is extended.
        until: Timestamp,
        /// The tasks that this runner's workers run, the most frequent first.
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
    /// A runner that is dead, but has not been declared dead, holds the claim on a task.
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
    /// A runner that has been declared dead still holds the claim on a task: the task has not been rescued yet.
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
    /// The schedule that started the execution no longer fires.
    ScheduleOff {
        /// The schedule.
        schedule: ScheduleId,
        /// `true`: it is deleted; `false`: it is disabled.
        deleted: bool,
    },
}

impl Reason {
    /// Returns the runner whose workers have yet to take the task, if this is the reason why the task waits.
    #[must_use]
    pub const fn waits_for_worker_of(&self) -> Option<RunnerId> {
        match self {
            Self::Queued { runner, .. } | Self::Claimed { runner, .. } => Some(runner.runner),
            _ => None,
        }
    }
}
