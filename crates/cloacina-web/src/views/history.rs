//! Events, log lines and progress.

use std::collections::BTreeMap;

use cloacina::runtime::Ended;
use cloacina::types::{HistoryEvent, HistoryKind, LogLine, Progress, StepRecord};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{MAX_INLINE, raw, time};
use crate::problem::Problem;

/// An event of an execution's history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// The event's place in the history.
    index: usize,
    /// When it happened.
    #[schema(format = DateTime)]
    time: String,
    /// The kind of event, for example `task_started`.
    r#type: String,
    /// The task that it is about.
    task: Option<String>,
    /// The attempt that it is about.
    attempt: Option<u32>,
    /// The runner that caused it.
    runner: Option<String>,
    /// Details, which depend on the kind.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

impl EventView {
    /// `shows_values`: whether the caller may see the values that steps returned.
    pub(crate) fn new(
        index: usize,
        event: HistoryEvent,
        of: &Ended,
        shows_values: bool,
    ) -> Result<Self, Problem> {
        let hides = !shows_values && event.kind == HistoryKind::StepRecorded.name();
        let data = event.data.map(|data| {
            if hides {
                without_value(&data.to_string())
            } else {
                raw(data.to_string())
            }
        });
        Ok(Self {
            index,
            time: time(event.time),
            r#type: event.kind,
            task: event.task.map(|task| of.workflow().task(task).id.clone()),
            attempt: event.attempt,
            runner: event.runner.map(|runner| runner.to_string()),
            data: data.transpose()?,
        })
    }
}

/// The data of a recorded step without the value that it returned.
fn without_value(data: &str) -> Result<Box<RawValue>, Problem> {
    let broken = |_| Problem::new("internal", "a stored value is not JSON");
    let mut members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(data).map_err(broken)?;
    members.remove("value");
    raw(serde_json::to_string(&members).map_err(broken)?)
}

/// A recorded step of a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub(crate) struct StepView {
    /// The key under which later attempts find it.
    key: String,
    /// Its place among the recorded steps of the task, counted from 0.
    position: u32,
    /// The kind of the call that recorded it.
    kind: &'static str,
    /// The attempt that recorded it.
    attempt: u32,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: String,
    /// Its duration, in microseconds.
    duration_us: i64,
    /// Its result; null if it is larger than 64 KiB, or the caller may not see it.
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Box<RawValue>>,
    /// The size of its result as JSON, in bytes.
    value_bytes: usize,
}

impl StepView {
    pub(crate) fn new(step: &StepRecord, shows_values: bool) -> Result<Self, Problem> {
        let value = step.value.as_str();
        let shown = shows_values && value.len() <= MAX_INLINE;
        Ok(Self {
            key: step.key.clone(),
            position: step.position,
            kind: step.kind.name(),
            attempt: step.attempt,
            started_at: time(step.started_at),
            ended_at: time(step.ended_at),
            duration_us: step.ended_at.since(step.started_at),
            value: shown.then(|| raw(value.to_owned())).transpose()?,
            value_bytes: value.len(),
        })
    }
}

/// A log line of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogView {
    /// The line's place in the log of the execution.
    pub(crate) index: usize,
    /// When it was logged.
    #[schema(format = DateTime)]
    pub(crate) time: String,
    /// The severity, from 10 (debug) to 50 (critical).
    pub(crate) level: i64,
    /// The name of the severity.
    pub(crate) level_name: String,
    /// The name of the logger.
    pub(crate) logger: String,
    /// The text.
    pub(crate) message: String,
    /// The task.
    pub(crate) task: String,
    /// The attempt.
    pub(crate) attempt: u32,
}

impl LogView {
    pub(crate) fn new(index: usize, task: &str, attempt: u32, line: LogLine) -> Self {
        Self {
            index,
            time: time(line.time),
            level: line.level,
            level_name: level_name(line.level).to_owned(),
            logger: line.logger,
            message: line.message,
            task: task.to_owned(),
            attempt,
        }
    }
}

const fn level_name(level: i64) -> &'static str {
    match level {
        50.. => "CRITICAL",
        40.. => "ERROR",
        30.. => "WARNING",
        20.. => "INFO",
        10.. => "DEBUG",
        _ => "NOTSET",
    }
}

/// The progress that a running task reported.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProgressView {
    /// The task.
    task: String,
    /// The attempt.
    attempt: u32,
    /// The amount of work that is done.
    done: f64,
    /// The total amount of work.
    total: f64,
    /// The message that the task reported.
    message: Option<String>,
    /// When it was reported.
    #[schema(format = DateTime)]
    time: String,
}

impl ProgressView {
    pub(crate) fn new(progress: Progress, of: &Ended) -> Self {
        Self {
            task: of.workflow().task(progress.task).id.clone(),
            attempt: progress.attempt,
            done: progress.done,
            total: progress.total,
            message: progress.message,
            time: time(progress.time),
        }
    }
}
