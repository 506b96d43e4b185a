//! Diagnosis of an execution: the facts that keep it from making progress. `runner/explain.rs` puts them in words.

use super::Execution;
use crate::types::{
    ExecutionStatus, Failure, Micros, Offer, Ordinal, Presence, RunnerId, ScheduleId, TaskRecord,
    TaskStatus, Timestamp,
};

/// Maximum number of tasks waiting for dependencies that are named.
const MAX_TASKS: usize = 20;
/// Maximum number of dependencies that are named for each of them.
const MAX_DEPENDENCIES: usize = 5;

/// The input of a diagnosis besides the execution.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosisInput<'a> {
    /// The runners that were not declared dead.
    pub runners: &'a [Presence],
    /// The announced handlers for tasks of the execution's workflow, of live runners and of some former ones.
    pub offers: &'a [Offer],
    /// The current time.
    pub now: Timestamp,
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
    fn of_offer(offer: &Offer, input: &DiagnosisInput<'_>) -> Self {
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

    fn of_presence(runner: &Presence) -> Self {
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
        /// One of them.
        runner: SeenRunner,
    },
    /// A live runner has claimed a task, and no worker of it has taken the task yet.
    Claimed {
        /// The task.
        task: String,
        /// The runner.
        runner: SeenRunner,
        /// The end of the runner's lease, unless it is extended.
        until: Timestamp,
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

/// Returns what an execution waits for: reasons for the whole execution first, then task by task.
#[must_use]
pub fn explain(execution: &Execution, input: &DiagnosisInput<'_>) -> Vec<Reason> {
    let record = execution.record();
    if record.status.is_terminal() {
        let error = record
            .error
            .as_ref()
            .map(|(task, failure)| (task.map(|task| id(execution, task)), failure.clone()));
        return vec![Reason::Ended {
            status: record.status,
            at: record.ended_at,
            error,
        }];
    }
    let mut reasons = Vec::new();
    if record.status == ExecutionStatus::Paused {
        reasons.push(Reason::Paused {
            since: record.paused_at,
        });
    } else if let (Some(timeout), Some(at)) = (record.timeout, record.deadline) {
        reasons.push(Reason::Deadline { timeout, at });
    }
    let delay = record
        .start_at
        .filter(|until| *until > input.now && record.status != ExecutionStatus::Paused);
    reasons.extend(delay.map(|until| Reason::Delay { until }));
    let mut tasks = Vec::new();
    let (mut ready, mut waiting) = (false, 0);
    for (ordinal, task) in (0..).zip(&record.tasks) {
        match task.status {
            TaskStatus::Running => tasks.push(held(execution, ordinal, task, input)),
            TaskStatus::Ready if task.runner.is_some() => {
                tasks.push(held(execution, ordinal, task, input));
            }
            TaskStatus::Ready if record.status != ExecutionStatus::Paused => {
                let is_delayed = delay.is_some() && task.ready_at == delay;
                if !is_delayed {
                    let reason = ready_task(execution, ordinal, task, input);
                    ready |= matches!(reason, Reason::NoHandler { .. });
                    tasks.push(reason);
                }
            }
            TaskStatus::Pending if record.status != ExecutionStatus::Paused => {
                waiting += 1;
                if waiting <= MAX_TASKS {
                    tasks.extend(dependencies(execution, ordinal));
                }
            }
            _ => {}
        }
    }
    let knows = |offer: &Offer| is_live(offer, input);
    if ready && !input.offers.iter().any(knows) {
        let last = input
            .offers
            .iter()
            .map(|offer| SeenRunner::of_offer(offer, input))
            .max_by_key(|seen| seen.at);
        reasons.push(Reason::WorkflowUnknown {
            workflow: execution.workflow().name().to_owned(),
            last,
        });
    }
    reasons.extend(tasks);
    if waiting > MAX_TASKS {
        reasons.push(Reason::MoreTasks {
            count: waiting - MAX_TASKS,
        });
    }
    reasons
}

fn id(execution: &Execution, task: Ordinal) -> String {
    execution.workflow().task(task).id.clone()
}

fn is_live(offer: &Offer, input: &DiagnosisInput<'_>) -> bool {
    input
        .runners
        .iter()
        .any(|runner| runner.id == offer.runner && runner.is_alive(input.now))
}

fn dependencies(execution: &Execution, task: Ordinal) -> Option<Reason> {
    let open: Vec<Ordinal> = execution
        .workflow()
        .graph()
        .dependencies(task)
        .iter()
        .copied()
        .filter(|other| !execution.task(*other).status.is_terminal())
        .collect();
    (!open.is_empty()).then(|| Reason::Dependencies {
        task: id(execution, task),
        more: open.len().saturating_sub(MAX_DEPENDENCIES),
        open: open
            .iter()
            .take(MAX_DEPENDENCIES)
            .map(|other| (id(execution, *other), execution.task(*other).status))
            .collect(),
    })
}

fn ready_task(
    execution: &Execution,
    ordinal: Ordinal,
    task: &TaskRecord,
    input: &DiagnosisInput<'_>,
) -> Reason {
    let name = id(execution, ordinal);
    if let Some(until) = task.ready_at.filter(|until| *until > input.now) {
        let counted = task.attempt.saturating_sub(task.uncounted);
        // A snooze does not count as an attempt.
        if counted == 0 {
            return Reason::Timer { task: name, until };
        }
        return Reason::Retry {
            task: name,
            attempt: counted + 1,
            max_attempts: execution.workflow().task(ordinal).retry.max_attempts,
            until,
            error: task.error.clone(),
        };
    }
    let has_it = |offer: &&Offer| offer.tasks.contains(&name);
    let offers = input.offers.iter().filter(has_it);
    let live: Vec<&Offer> = offers
        .clone()
        .filter(|offer| is_live(offer, input))
        .collect();
    if let Some(first) = live.first() {
        return Reason::Queued {
            task: name,
            runners: live.len(),
            runner: SeenRunner::of_offer(first, input),
        };
    }
    let last = offers
        .map(|offer| SeenRunner::of_offer(offer, input))
        .max_by_key(|seen| seen.at);
    Reason::NoHandler {
        task: name,
        workflow: execution.workflow().name().to_owned(),
        last,
    }
}

fn held(
    execution: &Execution,
    ordinal: Ordinal,
    task: &TaskRecord,
    input: &DiagnosisInput<'_>,
) -> Reason {
    let name = id(execution, ordinal);
    let is_claimed_only = task.status == TaskStatus::Ready;
    let attempt = task.attempt + u32::from(is_claimed_only);
    let rescuer = input
        .runners
        .iter()
        .any(|runner| Some(runner.id) != task.runner && runner.is_alive(input.now));
    let holder = input
        .runners
        .iter()
        .find(|runner| Some(runner.id) == task.runner);
    match holder {
        Some(runner) if is_claimed_only && runner.is_alive(input.now) => Reason::Claimed {
            task: name,
            runner: SeenRunner::of_presence(runner),
            until: runner.lease_until,
        },
        Some(runner) if runner.is_alive(input.now) => Reason::HeldByLive {
            task: name,
            attempt,
            runner: SeenRunner::of_presence(runner),
            since: task.started_at,
            until: runner.lease_until,
        },
        Some(runner) => Reason::HeldByDead {
            task: name,
            attempt,
            runner: SeenRunner::of_presence(runner),
            until: runner.lease_until,
            rescuer,
        },
        None => Reason::HeldByGone {
            task: name,
            attempt,
            runner: task.runner.unwrap_or(RunnerId::from_bytes([0; 16])),
            rescuer,
        },
    }
}
