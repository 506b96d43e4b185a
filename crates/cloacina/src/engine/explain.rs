//! Why an execution is not moving: a function from what is known to reasons.

use std::fmt::Write;

use super::Execution;
use crate::types::{
    ExecutionStatus, Micros, Offer, Ordinal, Presence, RunnerId, ScheduleId, TaskRecord,
    TaskStatus, Timestamp,
};

/// So many waiting tasks are told of one by one, and so many dependencies of one task.
const TOLD_TASKS: usize = 20;
const TOLD_DEPENDENCIES: usize = 5;

/// What an explanation looks at besides the execution.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The runners that were not declared dead.
    pub runners: &'a [Presence],
    /// Handlers for tasks of the execution's workflow, of runners that are there and of some that were.
    pub offers: &'a [Offer],
    /// The instant.
    pub now: Timestamp,
}

/// A runner, and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub runner: RunnerId,
    /// The machine's name.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// When it was last known to be there.
    pub at: Timestamp,
}

impl Seen {
    fn of_offer(offer: &Offer, surroundings: &Surroundings<'_>) -> Self {
        let beat = surroundings
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
        /// Why it failed.
        error: Option<String>,
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
        last: Option<Seen>,
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
        error: Option<String>,
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
        last: Option<Seen>,
    },
    /// A task could run, and the runners that have it have not taken it yet.
    Queued {
        /// The task.
        task: String,
        /// How many live runners have it.
        runners: usize,
        /// One of them.
        runner: Seen,
    },
    /// A live runner runs a task.
    HeldByLive {
        /// The task.
        task: String,
        /// Which attempt.
        attempt: u32,
        /// By whom.
        runner: Seen,
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
        runner: Seen,
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
pub fn explain(execution: &Execution, surroundings: &Surroundings<'_>) -> Vec<Reason> {
    let record = execution.record();
    if record.status.is_terminal() {
        let error = record.error.as_ref().map(|(task, failure)| {
            let told = told_failure(&failure.kind, &failure.message);
            match task {
                Some(task) => format!("task '{}' failed with {told}", id(execution, *task)),
                None => told,
            }
        });
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
        .filter(|until| *until > surroundings.now && record.status != ExecutionStatus::Paused);
    reasons.extend(delay.map(|until| Reason::Delay { until }));
    let mut tasks = Vec::new();
    let (mut ready, mut waiting) = (false, 0);
    for (ordinal, task) in (0..).zip(&record.tasks) {
        match task.status {
            TaskStatus::Running => tasks.push(held(execution, ordinal, task, surroundings)),
            TaskStatus::Ready if record.status != ExecutionStatus::Paused => {
                let is_delayed = delay.is_some() && task.ready_at == delay;
                if !is_delayed {
                    let reason = ready_task(execution, ordinal, task, surroundings);
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
    let knows = |offer: &Offer| is_live(offer, surroundings);
    if ready && !surroundings.offers.iter().any(knows) {
        let last = surroundings
            .offers
            .iter()
            .map(|offer| Seen::of_offer(offer, surroundings))
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

fn is_live(offer: &Offer, surroundings: &Surroundings<'_>) -> bool {
    surroundings
        .runners
        .iter()
        .any(|runner| runner.id == offer.runner && runner.is_alive(surroundings.now))
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
    surroundings: &Surroundings<'_>,
) -> Reason {
    let name = id(execution, ordinal);
    if let Some(until) = task.ready_at.filter(|until| *until > surroundings.now) {
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
            error: task
                .error
                .as_ref()
                .map(|failure| told_failure(&failure.kind, &failure.message)),
        };
    }
    let has_it = |offer: &&Offer| offer.tasks.contains(&name);
    let offers = surroundings.offers.iter().filter(has_it);
    let live: Vec<&Offer> = offers
        .clone()
        .filter(|offer| is_live(offer, surroundings))
        .collect();
    if let Some(first) = live.first() {
        return Reason::Queued {
            task: name,
            runners: live.len(),
            runner: Seen::of_offer(first, surroundings),
        };
    }
    let last = offers
        .map(|offer| Seen::of_offer(offer, surroundings))
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
    surroundings: &Surroundings<'_>,
) -> Reason {
    let name = id(execution, ordinal);
    let attempt = task.attempt;
    let rescuer = surroundings
        .runners
        .iter()
        .any(|runner| Some(runner.id) != task.runner && runner.is_alive(surroundings.now));
    let holder = surroundings
        .runners
        .iter()
        .find(|runner| Some(runner.id) == task.runner);
    match holder {
        Some(runner) if runner.is_alive(surroundings.now) => Reason::HeldByLive {
            task: name,
            attempt,
            runner: Seen::of_presence(runner),
            since: task.started_at,
            until: runner.lease_until,
        },
        Some(runner) => Reason::HeldByDead {
            task: name,
            attempt,
            runner: Seen::of_presence(runner),
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

fn told_failure(kind: &str, message: &str) -> String {
    let first_line = message.lines().next().unwrap_or_default();
    if first_line.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}: {first_line}")
    }
}

impl Reason {
    /// The reason in plain words.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a sentence for each reason")]
    pub fn sentence(&self, now: Timestamp) -> String {
        let at = |time: Timestamp| told_time(time, now);
        match self {
            Self::Ended { status, at, error } => {
                ended_sentence(*status, *at, error.as_deref(), now)
            }
            Self::Paused { since } => format!(
                "The execution is paused{}: what runs may end, nothing new starts until it is resumed.",
                since.map_or_else(String::new, |since| format!(" since {}", at(since)))
            ),
            Self::Deadline {
                timeout,
                at: strikes,
            } => format!(
                "The execution has a timeout of {}: it fails at {} unless it has ended by then.",
                told_span(*timeout),
                at(*strikes)
            ),
            Self::Delay { until } => format!(
                "The execution is delayed: it was submitted to start at {}, not before.",
                at(*until)
            ),
            Self::WorkflowUnknown { workflow, last } => format!(
                "No live runner knows workflow '{workflow}' ({}): its tasks wait, untouched, until one is started that does.",
                told_last(last.as_ref(), now)
            ),
            Self::Dependencies { task, open, more } => dependency_sentence(task, open, *more),
            Self::MoreTasks { count } => {
                format!("{count} more tasks wait for dependencies.")
            }
            Self::Retry {
                task,
                attempt,
                max_attempts,
                until,
                error,
            } => {
                let after = error.as_ref().map_or_else(String::new, |error| {
                    format!(", after it failed with {error}")
                });
                format!(
                    "Task '{task}' waits for its retry: attempt {attempt} of {max_attempts} is due at {}{after}.",
                    at(*until)
                )
            }
            Self::Timer { task, until } => {
                format!(
                    "Task '{task}' waits for its timer: it asked to run later and is due at {}.",
                    at(*until)
                )
            }
            Self::NoHandler {
                task,
                workflow,
                last,
            } => format!(
                "Task '{task}' is ready, but no live runner has task '{task}' of workflow '{workflow}' ({}).",
                told_last(last.as_ref(), now)
            ),
            Self::Queued {
                task,
                runners,
                runner,
            } => {
                let others = match runners {
                    0 | 1 => String::new(),
                    2 => " and one more".to_owned(),
                    more => format!(" and {} more", more - 1),
                };
                format!(
                    "Task '{task}' is ready and waits for a free worker of runner {}{others}.",
                    told_runner(runner)
                )
            }
            Self::HeldByLive {
                task,
                attempt,
                runner,
                since,
                until,
            } => {
                let since = since.map_or_else(String::new, |since| format!(" since {}", at(since)));
                format!(
                    "Task '{task}' (attempt {attempt}) is held by runner {} until {}: it is alive, extends its lease, and \
                     has run the task{since}.",
                    told_runner(runner),
                    at(*until)
                )
            }
            Self::HeldByDead {
                task,
                attempt,
                runner,
                until,
                rescuer,
            } => {
                let then = told_rescue(*rescuer);
                let lease = if *until >= now {
                    "until"
                } else {
                    "whose lease ended at"
                };
                format!(
                    "Task '{task}' (attempt {attempt}) is held by the dead runner {} {lease} {}: {then}.",
                    told_runner(runner),
                    at(*until)
                )
            }
            Self::HeldByGone {
                task,
                attempt,
                runner,
                rescuer,
            } => format!(
                "Task '{task}' (attempt {attempt}) was held by runner {runner}, which was declared dead: {}.",
                told_rescue(*rescuer)
            ),
            Self::ScheduleOff { schedule, deleted } => {
                let how = if *deleted {
                    "was deleted"
                } else {
                    "is disabled"
                };
                format!(
                    "Schedule {schedule}, which started it, {how}: it starts no more executions."
                )
            }
        }
    }
}

fn ended_sentence(
    status: ExecutionStatus,
    at: Option<Timestamp>,
    error: Option<&str>,
    now: Timestamp,
) -> String {
    let mut told = format!("The execution has ended already: {status}");
    if let Some(at) = at {
        // Writing to a String cannot fail.
        let _ = write!(told, " at {}", told_time(at, now));
    }
    if let Some(error) = error {
        let _ = write!(told, ", because {error}");
    }
    told.push('.');
    told
}

fn dependency_sentence(task: &str, open: &[(String, TaskStatus)], more: usize) -> String {
    let named: Vec<String> = open
        .iter()
        .map(|(task, status)| format!("'{task}' ({status})"))
        .collect();
    let named = named.join(", ");
    match (open.len(), more) {
        (1, 0) => format!("Task '{task}' waits for its dependency {named}."),
        (_, 0) => format!("Task '{task}' waits for its dependencies {named}."),
        _ => format!("Task '{task}' waits for its dependencies {named} and {more} more."),
    }
}

const fn told_rescue(rescuer: bool) -> &'static str {
    if rescuer {
        "a live runner takes the task back then, or as soon as it sees that the process is gone"
    } else {
        "the next runner that is started takes the task back"
    }
}

fn told_runner(seen: &Seen) -> String {
    format!("{} (host {}, pid {})", seen.runner, seen.host, seen.pid)
}

fn told_last(last: Option<&Seen>, now: Timestamp) -> String {
    last.map_or_else(
        || "never seen".to_owned(),
        |seen| {
            format!(
                "last seen {} on host {} with pid {}",
                told_time(seen.at, now),
                seen.host,
                seen.pid
            )
        },
    )
}

/// An instant, and how far it is away.
pub(super) fn told_time(time: Timestamp, now: Timestamp) -> String {
    let shown = time.to_datetime().map_or_else(
        || time.to_rfc3339(),
        |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    let away = time.since(now);
    if away >= 0 {
        format!("{shown} (in {})", told_span(away))
    } else {
        format!("{shown} ({} ago)", told_span(away.saturating_neg()))
    }
}

/// A span in its two largest units.
fn told_span(span: Micros) -> String {
    const SECOND: Micros = 1_000_000;
    let seconds = span / SECOND;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match seconds {
        86_400.. => format!("{days} d {hours} h"),
        3_600.. => format!("{hours} h {minutes} min"),
        60.. => format!("{minutes} min {rest} s"),
        10.. => format!("{seconds} s"),
        _ => format!("{}.{} s", seconds, span % SECOND / 100_000),
    }
}
