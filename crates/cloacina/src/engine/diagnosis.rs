//! Why an execution is not moving: a function from what is known to facts. `runner/explain.rs` puts them in words.

use super::Execution;
use crate::types::{
    ExecutionStatus, Failure, Micros, Offer, Ordinal, Presence, RunnerId, ScheduleId, TaskRecord,
    TaskStatus, Timestamp,
};

/// Maximum number of waiting tasks that are named.
const TOLD_TASKS: usize = 20;
/// Maximum number of dependencies that are named for each of them.
const TOLD_DEPENDENCIES: usize = 5;

/// What an explanation looks at besides the execution.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosisInput<'a> {
    /// The runners that were not declared dead.
    pub runners: &'a [Presence],
    /// Handlers for tasks of the execution's workflow, of runners that are there and of some that were.
    pub offers: &'a [Offer],
    /// The instant.
    pub now: Timestamp,
}

/// A runner, and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRunner {
    /// Which.
    pub runner: RunnerId,
    /// The machine's name.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// When it was last known to be there.
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

/// Something that holds an execution or one of its tasks back, or the one that has it in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has ended.
    Ended {
        /// How.
        status: ExecutionStatus,
        /// When.
        at: Option<Timestamp>,
        /// Why it failed, with the task if one is to blame.
        error: Option<(Option<String>, Failure)>,
    },
    /// It is paused.
    Paused {
        /// Since when.
        since: Option<Timestamp>,
    },
    /// It ends by its own timeout unless it is done before.
    Deadline {
        /// Its timeout.
        timeout: Micros,
        /// When that strikes.
        at: Timestamp,
    },
    /// It was submitted with a delay or a start time.
    Delay {
        /// When it may start.
        until: Timestamp,
    },
    /// No live runner has any task of the workflow.
    WorkflowUnknown {
        /// The workflow.
        workflow: String,
        /// Who had it last.
        last: Option<SeenRunner>,
    },
    /// A task waits for others.
    Dependencies {
        /// The task.
        task: String,
        /// Those that have not ended, with their states.
        open: Vec<(String, TaskStatus)>,
        /// How many more there are.
        more: usize,
    },
    /// More tasks than those told of wait for dependencies.
    MoreTasks {
        /// How many.
        count: usize,
    },
    /// A task waits for its next attempt.
    Retry {
        /// The task.
        task: String,
        /// The attempt to come, as its policy counts.
        attempt: u32,
        /// How many its policy allows.
        max_attempts: u32,
        /// When it is due.
        until: Timestamp,
        /// What the last one failed with.
        error: Option<Failure>,
    },
    /// A task asked to run later.
    Timer {
        /// The task.
        task: String,
        /// When it is due.
        until: Timestamp,
    },
    /// A task could run, and no live runner has a handler for it.
    NoHandler {
        /// The task.
        task: String,
        /// The workflow.
        workflow: String,
        /// Who had it last.
        last: Option<SeenRunner>,
    },
    /// A task could run, and the runners that have it have not taken it yet.
    Queued {
        /// The task.
        task: String,
        /// How many live runners have it.
        runners: usize,
        /// One of them.
        runner: SeenRunner,
    },
    /// A live runner runs a task.
    HeldByLive {
        /// The task.
        task: String,
        /// Which attempt.
        attempt: u32,
        /// By whom.
        runner: SeenRunner,
        /// Since when.
        since: Option<Timestamp>,
        /// Until when, unless it is extended.
        until: Timestamp,
    },
    /// A dead runner has a task.
    HeldByDead {
        /// The task.
        task: String,
        /// Which attempt.
        attempt: u32,
        /// Whose.
        runner: SeenRunner,
        /// When its lease ends.
        until: Timestamp,
        /// Whether a live runner is there to take it back.
        rescuer: bool,
    },
    /// A runner that was declared dead had a task, and it is being taken back.
    HeldByGone {
        /// The task.
        task: String,
        /// Which attempt.
        attempt: u32,
        /// Whose.
        runner: RunnerId,
        /// Whether a live runner is there to take it back.
        rescuer: bool,
    },
    /// The schedule that started the execution fires no more.
    ScheduleOff {
        /// Which.
        schedule: ScheduleId,
        /// Deleted, or only switched off.
        deleted: bool,
    },
}

/// What an execution waits for, the whole first and then task by task.
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
                if waiting <= TOLD_TASKS {
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
    if waiting > TOLD_TASKS {
        reasons.push(Reason::MoreTasks {
            count: waiting - TOLD_TASKS,
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
        more: open.len().saturating_sub(TOLD_DEPENDENCIES),
        open: open
            .iter()
            .take(TOLD_DEPENDENCIES)
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
        // A snooze does not count as an attempt, and leaves no failure behind.
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
    let attempt = task.attempt;
    let rescuer = input
        .runners
        .iter()
        .any(|runner| Some(runner.id) != task.runner && runner.is_alive(input.now));
    let holder = input
        .runners
        .iter()
        .find(|runner| Some(runner.id) == task.runner);
    match holder {
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
