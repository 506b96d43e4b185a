//! Triggers that follow a workflow. Such a trigger is called each time an execution of that workflow ends with a chosen
//! status (semantics G4).

use super::output::output;
use super::trigger::schedule_next;
use crate::types::{
    After, Context, Error, ErrorCode, ExecutionRecord, ExecutionStatus, Json, Micros, PendingEnd,
    ScheduleRecord, Timestamp,
};
use crate::workflow::Workflow;

/// Maximum number of times that a trigger is called for one end of an execution. If all calls fail, the trigger's history
/// keeps the last error.
pub const MAX_CALLS: u32 = 10;
/// The first and the longest pause after a failed call, in microseconds. Each pause is twice as long as the previous one,
/// up to the longest.
const PAUSES: (Micros, Micros) = (1_000_000, 300_000_000);

/// Checks the workflow that a trigger follows, and the statuses after which the trigger is called.
///
/// # Errors
/// Returns `ScheduleInvalid` if the workflow's name is not valid, or if the statuses are missing, repeated or not final.
pub fn check(name: &str, after: &After) -> Result<(), Error> {
    let refuse = |what: String| {
        Err(Error::new(
            ErrorCode::ScheduleInvalid,
            format!("trigger '{name}': {what}"),
        ))
    };
    if let Some(problem) = crate::workflow::name_problem("workflow name", &after.workflow) {
        return refuse(format!("it follows a workflow with {problem}"));
    }
    if after.statuses.is_empty() {
        return refuse("it must name a status after which it is called".to_owned());
    }
    for (index, status) in after.statuses.iter().enumerate() {
        if !status.is_terminal() {
            return refuse(format!("an execution cannot end with the status {status}"));
        }
        if after.statuses[..index].contains(status) {
            return refuse(format!("it names the status {status} twice"));
        }
    }
    Ok(())
}

/// Returns the time of a trigger's next call for an ended execution, and the number of calls that have failed so far.
/// `failed`: whether the last call failed. Returns `None` if the last call did not fail, or if it was call number
/// [`MAX_CALLS`].
#[must_use]
pub fn again(end: &PendingEnd, failed: bool, now: Timestamp) -> Option<(Timestamp, u32)> {
    let attempts = end.attempts.saturating_add(1);
    if !failed || attempts >= MAX_CALLS {
        return None;
    }
    let pause = PAUSES.0.saturating_mul(1 << end.attempts.min(20));
    Some((now + pause.min(PAUSES.1), attempts))
}

/// Updates a trigger's record after the trigger's calls for some ended executions. `ticks` is the number of ticks that these
/// calls recorded. The last due time advances by one microsecond for each of these ticks, because each tick of a trigger needs
/// a later time than the tick before it.
pub fn settled(record: &mut ScheduleRecord, ticks: i64, now: Timestamp) {
    record.last_due = record.last_due.map(|last| last + ticks);
    schedule_next(record, now);
}

/// Returns the input of an execution that a trigger without a function starts: the id, workflow, status and output of the
/// ended execution. The output is `null` unless the ended execution completed.
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
