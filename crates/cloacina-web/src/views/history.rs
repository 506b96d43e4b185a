//! Views of events, recorded steps, log lines and progress.

use std::collections::BTreeMap;

use cloacina::Timestamp;
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
    /// The event's index in the history.
    index: usize,
    /// When the event happened.
    #[schema(format = DateTime)]
    time: String,
    /// The kind of event, for example `task_started`.
    r#type: String,
    /// The task that the event is about.
    task: Option<String>,
    /// The attempt that the event is about.
    attempt: Option<u32>,
    /// The runner that caused the event.
    runner: Option<String>,
    /// Details, which depend on the kind of event. Times are RFC 3339 text.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

impl EventView {
    /// Returns the view of an event. `shows_values` says whether the caller may see the values that steps returned.
    pub(crate) fn new(
        index: usize,
        event: HistoryEvent,
        of: &Ended,
        shows_values: bool,
    ) -> Result<Self, Problem> {
        let hides = !shows_values && event.kind == HistoryKind::StepRecorded.name();
        let data = event.data.map(|data| event_data(data.to_string(), hides));
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

/// The members of an event's data that the engine stores as microseconds since 1970.
const TIMES: &[&str] = &["started_at"];

/// Returns the data of an event with its times as RFC 3339 text. If `hides` is true, leaves out the value that
/// a step returned.
fn event_data(data: String, hides: bool) -> Result<Box<RawValue>, Problem> {
    if !hides && !TIMES.iter().any(|name| data.contains(name)) {
        return raw(data);
    }
    let Ok(mut members) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&data) else {
        // Data that is not an object has no members to convert. If `hides` is true, all of the data is hidden,
        // because it may be the value of a step.
        return raw(if hides { "null".to_owned() } else { data });
    };
    if hides {
        members.remove("value");
    }
    for (name, value) in &mut members {
        if TIMES.contains(&name.as_str())
            && let Ok(micros) = value.get().parse()
        {
            *value = raw(format!("\"{}\"", time(Timestamp(micros))))?;
        }
    }
    let failed = |_| Problem::new("internal", "a stored value is not JSON");
    raw(serde_json::to_string(&members).map_err(failed)?)
}

/// A recorded step of a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub(crate) struct StepView {
    /// The key under which later attempts find the step.
    key: String,
    /// The step's index among the recorded steps of the task, from 0.
    position: u32,
    /// The kind of the call that recorded the step.
    kind: &'static str,
    /// The attempt that recorded the step.
    attempt: u32,
    /// When the step began.
    #[schema(format = DateTime)]
    started_at: String,
    /// When the step ended.
    #[schema(format = DateTime)]
    ended_at: String,
    /// The duration of the step, in microseconds.
    duration_us: i64,
    /// The result of the step; null if it is larger than 64 KiB, or if the caller may not see inputs and results.
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Box<RawValue>>,
    /// The size of the result as JSON, in bytes.
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
    /// The line's index in the log of the execution.
    pub(crate) index: usize,
    /// When the line was logged.
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
    /// The amount of work that is done, in the task's own unit.
    done: f64,
    /// The total amount of work, in the same unit.
    total: f64,
    /// The message that the task reported.
    message: Option<String>,
    /// When the task reported the progress.
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

#[cfg(test)]
mod tests {
    use super::event_data;

    #[test]
    fn event_data_has_its_times_as_text_and_no_hidden_value() {
        let shown = |data: &str, hides| {
            let data = event_data(data.to_owned(), hides).expect("data");
            data.get().to_owned()
        };
        assert_eq!(
            shown(r#"{"delay_us":1.50,"started_at":1000001}"#, false),
            r#"{"delay_us":1.50,"started_at":"1970-01-01T00:00:01.000001Z"}"#
        );
        for same in [
            r#"{"started_at":null}"#,
            r#"{"value":{"started_at":1}}"#,
            r#"["started_at"]"#,
        ] {
            assert_eq!(shown(same, false), same);
        }
        assert_eq!(shown(r#"{"key":"a","value":1}"#, true), r#"{"key":"a"}"#);
    }
}
