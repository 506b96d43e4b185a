//! Turns the reasons that `explain` found for an execution, a schedule or a trigger into sentences.

use std::fmt::{self, Write};

use crate::engine::{BusyTask, Reason, ScheduleReason, SeenRunner, Subject};
use crate::types::{ExecutionStatus, Failure, MapRow, Micros, TaskStatus, Timestamp};

/// Maximum number of running tasks that a sentence about busy workers names.
const MAX_BUSY: usize = 5;

impl Reason {
    /// The reason as a sentence. Times are also shown relative to `now`.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a sentence for each reason")]
    pub fn sentence(&self, now: Timestamp) -> String {
        let at = |time: Timestamp| format_time(time, now);
        match self {
            Self::Ended { status, at, error } => ended_sentence(*status, *at, error.as_ref(), now),
            Self::FinalTasks {
                execution,
                status,
                error,
            } => {
                let why = error.as_ref().map_or_else(String::new, |(task, failure)| {
                    let of_task = (task.as_ref())
                        .map_or_else(String::new, |task| format!("task '{task}' with "));
                    format!(": {of_task}{}", format_failure(failure))
                });
                let what = if *status == ExecutionStatus::Failed {
                    format!("ended as {status}{why}; it can be retried separately")
                } else if status.is_terminal() {
                    format!("ended as {status}{why}")
                } else {
                    format!("is {status}")
                };
                format!("The execution of its final tasks, {execution}, {what}.")
            }
            Self::AttemptsOpen { first, count } => format!(
                "The final tasks wait until {count} running attempt{} of execution {first} {} ended or {} lost.",
                if *count == 1 { "" } else { "s" },
                if *count == 1 { "has" } else { "have" },
                if *count == 1 { "is" } else { "are" },
            ),
            Self::NeedUnknown { workflow, need } => format!(
                "Workflow '{workflow}' needs '{need}', which release {} does not have: the workflow's tasks wait for a runner of a \
                 newer release.",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Paused { since } => format!(
                "The execution has been paused{}: running tasks may finish, but no task starts before the execution is \
                 resumed.",
                since.map_or_else(String::new, |since| format!(" since {}", at(since)))
            ),
            Self::Deadline {
                timeout,
                at: strikes,
            } => format!(
                "The execution has a timeout of {}: it fails at {} unless it has ended by then.",
                format_span(*timeout),
                at(*strikes)
            ),
            Self::Delay { until } => format!(
                "The execution is delayed: it was submitted with the start time {}.",
                at(*until)
            ),
            Self::NotCancellable { problem } => {
                let mut letters = problem.chars();
                let first = letters
                    .next()
                    .map_or_else(String::new, |letter| letter.to_uppercase().to_string());
                format!("{first}{}.", letters.as_str())
            }
            Self::LostWrite { key, kept, lost } => format!(
                "The tasks '{lost}' and '{kept}' both wrote '{key}', and neither depends on the other: the context has the \
                 value of '{kept}', which comes later in the workflow. Use a different key for each task, or let one task depend on the other."
            ),
            Self::WorkflowUnknown { workflow, last } => format!(
                "No live runner knows workflow '{workflow}' ({}): its tasks wait until a runner that knows it is started.",
                format_last(last.as_ref(), now)
            ),
            Self::Dependencies { task, open, more } => dependency_sentence(task, open, *more),
            Self::MoreTasks { count } => match count {
                1 => "1 more task waits for dependencies.".to_owned(),
                more => format!("{more} more tasks wait for dependencies."),
            },
            Self::Retry {
                task,
                attempt,
                max_attempts,
                until,
                error,
            } => {
                let after = error.as_ref().map_or_else(String::new, |error| {
                    format!("; the last attempt failed with {}", format_failure(error))
                });
                format!(
                    "Task '{task}' waits for its retry: attempt {attempt} of {max_attempts} is due at {}{after}.",
                    at(*until)
                )
            }
            Self::Waiting {
                task,
                what,
                since,
                deadline,
                others,
                ..
            } => {
                let timeout = deadline.map_or_else(String::new, |deadline| {
                    format!("; the wait times out at {}", at(deadline))
                });
                let others: String = others
                    .iter()
                    .map(|(name, count)| match count {
                        1 => format!("; 1 signal '{name}' was sent with another key"),
                        more => format!("; {more} signals '{name}' were sent with other keys"),
                    })
                    .collect();
                format!(
                    "Task '{task}' has waited for {} since {}{timeout}{others}.",
                    what.join(" and "),
                    at(*since)
                )
            }
            Self::Map { task, row } => map_sentence(task, row.as_deref()),
            Self::Timer { task, until } => {
                format!(
                    "Task '{task}' was snoozed and is due to run again at {}.",
                    at(*until)
                )
            }
            Self::NoHandler {
                task,
                workflow,
                last,
            } => format!(
                "Task '{task}' is ready, but no live runner has a handler for task '{task}' of workflow '{workflow}' ({}).",
                format_last(last.as_ref(), now)
            ),
            Self::Queued {
                task,
                runners,
                runner,
                busy,
            } => {
                let others = match runners {
                    0 | 1 => String::new(),
                    more => format!(", one of {more} runners that have a handler for the task"),
                };
                format!(
                    "Task '{task}' is ready and waits for a free worker of runner {}{others}.{}",
                    format_runner(runner),
                    busy_sentence(busy)
                )
            }
            Self::Claimed {
                task,
                runner,
                until,
                busy,
            } => format!(
                "Task '{task}' is ready and waits for a free worker of runner {}, which holds it until {}: the runner is \
                 alive and extends its lease.{}",
                format_runner(runner),
                at(*until),
                busy_sentence(busy)
            ),
            Self::HeldByLive {
                task,
                attempt,
                runner,
                since,
                until,
            } => {
                let since = since.map_or_else(String::new, |since| format!(" since {}", at(since)));
                format!(
                    "Task '{task}' (attempt {attempt}) is held by runner {} until {}: the runner is alive, extends its \
                     lease, and has run the task{since}.",
                    format_runner(runner),
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
                let then = format_rescue(*rescuer);
                let (lease, latest) = if *until < now {
                    ("whose lease ended at", "")
                } else if *rescuer {
                    (
                        "until",
                        " at that time, or earlier if it sees that the process is gone",
                    )
                } else {
                    ("until", "")
                };
                format!(
                    "Task '{task}' (attempt {attempt}) is held by the dead runner {} {lease} {}: {then}{latest}.",
                    format_runner(runner),
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
                format_rescue(*rescuer)
            ),
            Self::ScheduleOff { schedule, deleted } => {
                let how = if *deleted {
                    "was deleted"
                } else {
                    "is disabled"
                };
                format!(
                    "Schedule {schedule}, which started this execution, {how}: it starts no more executions."
                )
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule(id) => write!(f, "Schedule {id}"),
            Self::Trigger(name) => write!(f, "Trigger '{name}'"),
        }
    }
}

impl ScheduleReason {
    /// The reason as a sentence. Times are also shown relative to `now`.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        let at = |time: Timestamp| format_time(time, now);
        match self {
            Self::Deleted { what, at: deleted } => format!(
                "{what} was deleted at {}: it no longer fires, and its history is kept.",
                at(*deleted)
            ),
            Self::Disabled { what, workflow } => format!(
                "{what} is disabled: it starts no execution of workflow '{workflow}' until it is enabled."
            ),
            Self::Over { what, end_at } => format!(
                "{what} has no more ticks{}.",
                end_at.map_or_else(String::new, |end| format!(": it ended at {}", at(end)))
            ),
            Self::WorkflowUnknown { what, workflow } => format!(
                "{what} starts workflow '{workflow}', but no program has stored a definition of it in this database: \
                 its ticks are recorded as skipped until a program stores one."
            ),
            Self::NoRunner => "There is no live runner to fire the schedule or trigger.".to_owned(),
            Self::Queued { ticks, open } => {
                let ticks = match ticks {
                    1 => "1 tick waits".to_owned(),
                    more => format!("{more} ticks wait"),
                };
                let open = open.map_or_else(
                    || "an execution of the schedule".to_owned(),
                    |id| format!("execution {id}"),
                );
                format!("Because of the schedule's overlap rule, {ticks} for the end of {open}.")
            }
            Self::Follows {
                what,
                workflow,
                after,
                statuses,
                pending,
            } => {
                let statuses: Vec<&str> = statuses.iter().map(|status| status.name()).collect();
                let waiting = match pending {
                    0 => "No ended execution waits for it".to_owned(),
                    1 => "1 ended execution waits for it".to_owned(),
                    more => format!("{more} ended executions wait for it"),
                };
                format!(
                    "{what} is called after each execution of workflow '{after}' that ends as {}, and starts workflow \
                     '{workflow}'. {waiting}.",
                    statuses.join(" or ")
                )
            }
            Self::PollFailed { error } => {
                format!("The trigger's function raised an error at the last poll: {error}.")
            }
            Self::Next {
                what,
                workflow,
                at: next,
            } => {
                let when = match what {
                    Subject::Schedule(_) => "at its next time",
                    Subject::Trigger(_) => "if it fires at its next poll",
                };
                format!("{what} starts workflow '{workflow}' {when}: {}.", at(*next))
            }
        }
    }
}

fn ended_sentence(
    status: ExecutionStatus,
    at: Option<Timestamp>,
    error: Option<&(Option<String>, Failure)>,
    now: Timestamp,
) -> String {
    let mut sentence = format!("The execution has already ended: {status}");
    if let Some(at) = at {
        // Writing to a String cannot fail.
        let _ = write!(sentence, " at {}", format_time(at, now));
    }
    if let Some((task, failure)) = error {
        let failure = format_failure(failure);
        let _ = match task {
            Some(task) => write!(sentence, ", because task '{task}' failed with {failure}"),
            None => write!(sentence, ", because {failure}"),
        };
    }
    sentence.push('.');
    sentence
}

/// K12: returns a sentence with the counts of a map and its first error.
fn map_sentence(task: &str, row: Option<&MapRow>) -> String {
    let Some(row) = row else {
        return format!("Map '{task}' starts once a runner has read its list.");
    };
    let mut sentence = format!("Map '{task}': {}", row.counts_text());
    if let Some((item, failure)) = &row.first_failure {
        // Writing to a String cannot fail.
        let _ = write!(
            sentence,
            "; the first error is from item {item}: {}",
            format_failure(failure)
        );
    }
    sentence.push('.');
    if let (true, Some(max)) = (row.is_exceeded(), row.max_failed) {
        let _ = write!(
            sentence,
            " More than the tolerated {max} items have failed: no further item starts, and the map fails once its running items \
             have ended."
        );
    }
    sentence
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

/// Returns a sentence that names the tasks which occupy the workers of a runner; empty if none is known. The caller appends
/// it to another sentence.
fn busy_sentence(busy: &[BusyTask]) -> String {
    let count: usize = busy.iter().map(|task| task.workers).sum();
    if count == 0 {
        return String::new();
    }
    let named = busy.iter().take(MAX_BUSY).map(|task| {
        let workflow = task.workflow.as_ref();
        let of = workflow.map_or_else(String::new, |name| format!(" of workflow '{name}'"));
        format!("{} × '{}'{of}", task.workers, task.task)
    });
    let mut named = named.collect::<Vec<_>>().join(", ");
    let more: usize = busy.iter().skip(MAX_BUSY).map(|task| task.workers).sum();
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(named, ", and {more} more");
    }
    match count {
        1 => format!(" Its worker is busy: {named}."),
        _ => format!(" Its {count} workers are busy: {named}."),
    }
}

fn format_failure(failure: &Failure) -> String {
    let Failure { kind, message, .. } = failure;
    match message.lines().next() {
        None | Some("") => kind.clone(),
        Some(first_line) => format!("{kind}: {first_line}"),
    }
}

const fn format_rescue(rescuer: bool) -> &'static str {
    if rescuer {
        "a live runner takes the task back"
    } else {
        "the next runner that is started takes the task back"
    }
}

fn format_runner(seen: &SeenRunner) -> String {
    format!("{} (host {}, pid {})", seen.runner, seen.host, seen.pid)
}

fn format_last(last: Option<&SeenRunner>, now: Timestamp) -> String {
    last.map_or_else(
        || "never seen".to_owned(),
        |seen| {
            format!(
                "last seen {} on host {} with pid {}",
                format_time(seen.at, now),
                seen.host,
                seen.pid
            )
        },
    )
}

/// Formats a time, and how far it is from `now`.
fn format_time(time: Timestamp, now: Timestamp) -> String {
    let shown = time.to_datetime().map_or_else(
        || time.to_rfc3339(),
        |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    let away = time.since(now);
    if away.saturating_abs() < 100_000 {
        // The span would be shown as 0.0 s.
        format!("{shown} (now)")
    } else if away >= 0 {
        format!("{shown} (in {})", format_span(away))
    } else {
        format!("{shown} ({} ago)", format_span(away.saturating_neg()))
    }
}

/// Formats a duration in its two largest units.
fn format_span(span: Micros) -> String {
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
