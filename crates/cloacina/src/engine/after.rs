//! Triggers that are called after ends of executions (semantics G4).

use super::output::output;
use super::trigger::schedule_next;
use crate::types::{
    After, Context, Error, ErrorCode, ExecutionRecord, ExecutionStatus, Json, Micros, PendingEnd,
    ScheduleRecord, Timestamp,
};
use crate::workflow::Workflow;

/// Maximum number of calls for one end. The last error is in the trigger's history.
pub const MAX_CALLS: u32 = 10;
/// The first and the longest pause after a failed call, in microseconds. Each pause is twice as long as the one before.
const PAUSES: (Micros, Micros) = (1_000_000, 300_000_000);

/// Checks the ends that a trigger is to follow.
///
/// # Errors
/// `ScheduleInvalid`.
pub fn check(name: &str, after: &After) -> Result<(), Error> {
    let refuse = |what: String| {
        Err(Error::new(
            ErrorCode::ScheduleInvalid,
            format!("trigger '{name}': {what}"),
        ))
    };
    if let Some(problem) = crate::workflow::name_problem(&after.workflow) {
        return refuse(format!("the workflow that it follows has {problem}"));
    }
    if after.statuses.is_empty() {
        return refuse("it must name a status after which it is called".to_owned());
    }
    for (index, status) in after.statuses.iter().enumerate() {
        if !status.is_terminal() {
            return refuse(format!("no execution ends as {status}"));
        }
        if after.statuses[..index].contains(status) {
            return refuse(format!("it names the status {status} twice"));
        }
    }
    Ok(())
}

/// Returns when the trigger is to be called again for an end, and the number of failed calls. `None`: it is not called again.
#[must_use]
pub fn again(end: &PendingEnd, failed: bool, now: Timestamp) -> Option<(Timestamp, u32)> {
    let attempts = end.attempts.saturating_add(1);
    if !failed || attempts >= MAX_CALLS {
        return None;
    }
    let pause = PAUSES.0.saturating_mul(1 << end.attempts.min(20));
    Some((now + pause.min(PAUSES.1), attempts))
}

/// Ends a trigger's calls for some ends. `ticks`: the number of ticks that they recorded; later ticks must have later times.
pub fn settled(record: &mut ScheduleRecord, ticks: i64, now: Timestamp) {
    record.last_due = record.last_due.map(|last| last + ticks);
    schedule_next(record, now);
}

/// The input of an execution that a trigger without a function starts.
#[must_use]
pub fn input(workflow: &Workflow, ended: &ExecutionRecord) -> Context {
    let text = |text: &str| Json::encode(&text).unwrap_or_else(|_| Json::from_encoder("null"));
    let mut input = Context::new();
    input.set("ended_execution_id", text(&ended.id.to_string()));
    input.set("ended_workflow", text(workflow.name()));
    input.set("ended_status", text(ended.status.name()));
    let is_completed = ended.status == ExecutionStatus::Completed;
    let value = if is_completed {
        output(workflow, ended)
    } else {
        Json::from_encoder("null")
    };
    input.set("ended_output", value);
    input
}
