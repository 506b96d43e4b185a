//! Diagnosis of a schedule or trigger: finds what keeps it from firing, the error of its last poll, and its next tick
//! or poll, or the workflow that it follows. `runner/explain.rs` turns these facts into sentences.

use crate::types::{
    ExecutionId, ExecutionStatus, Presence, ScheduleId, ScheduleKind, ScheduleRecord, Timestamp,
};

/// The schedule or trigger that a reason is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A cron schedule.
    Schedule(ScheduleId),
    /// A trigger, by its name.
    Trigger(String),
}

/// The data that the diagnosis of a schedule or trigger reads in addition to its record.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleDiagnosisInput<'a> {
    /// Whether the database has a definition of the workflow that the schedule or trigger starts.
    pub is_workflow_known: bool,
    /// The runners that have not been declared dead.
    pub runners: &'a [Presence],
    /// For a trigger that follows a workflow: the number of ended executions that the trigger has not handled yet.
    pub pending: usize,
    /// The current time.
    pub now: Timestamp,
}

/// A fact about a schedule or trigger: what keeps it from firing, the error of its last poll, when its next tick or
/// poll is due, or which workflow it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleReason {
    /// The schedule or trigger was deleted.
    Deleted {
        /// The schedule or trigger.
        what: Subject,
        /// The time of the deletion.
        at: Timestamp,
    },
    /// The schedule or trigger is disabled.
    Disabled {
        /// The schedule or trigger.
        what: Subject,
        /// The workflow that it starts.
        workflow: String,
    },
    /// The schedule or trigger has no further tick or poll, for example because its end time has passed.
    Over {
        /// The schedule or trigger.
        what: Subject,
        /// The time after which no tick is due.
        end_at: Option<Timestamp>,
    },
    /// The database has no definition of the workflow that the schedule or trigger starts.
    WorkflowUnknown {
        /// The schedule or trigger.
        what: Subject,
        /// The workflow.
        workflow: String,
    },
    /// No runner is live, so nothing fires the schedule or trigger.
    NoRunner,
    /// Ticks wait until open executions of the schedule have ended.
    Queued {
        /// The number of waiting ticks.
        ticks: usize,
        /// One of the open executions.
        open: Option<ExecutionId>,
    },
    /// The trigger follows a workflow: the trigger is called when an execution of that workflow ends.
    Follows {
        /// The trigger.
        what: Subject,
        /// The workflow that it starts.
        workflow: String,
        /// The workflow that it follows.
        after: String,
        /// The final statuses after which the trigger is called.
        statuses: Vec<ExecutionStatus>,
        /// The number of ended executions that the trigger has not handled yet.
        pending: usize,
    },
    /// The trigger's function raised an error at the last poll.
    PollFailed {
        /// The error.
        error: String,
    },
    /// The schedule or trigger has a next tick or poll.
    Next {
        /// The schedule or trigger.
        what: Subject,
        /// The workflow that it starts.
        workflow: String,
        /// The time of the tick or poll.
        at: Timestamp,
    },
}

/// Returns the facts about a schedule or trigger: what keeps it from firing, then the error of its last poll, and
/// last its next tick or poll or the workflow that it follows. If the schedule or trigger is deleted or disabled,
/// returns only what keeps it from firing.
#[must_use]
pub fn explain_schedule(
    record: &ScheduleRecord,
    input: &ScheduleDiagnosisInput<'_>,
) -> Vec<ScheduleReason> {
    let what = match record.kind {
        ScheduleKind::Cron => Subject::Schedule(record.id),
        ScheduleKind::Trigger => Subject::Trigger(record.identity.clone()),
    };
    let workflow = record.workflow.clone();
    if let Some(at) = record.deleted_at {
        return vec![ScheduleReason::Deleted { what, at }];
    }
    let mut reasons = Vec::new();
    if !input.is_workflow_known {
        reasons.push(ScheduleReason::WorkflowUnknown {
            what: what.clone(),
            workflow: workflow.clone(),
        });
    }
    if !record.enabled {
        reasons.insert(0, ScheduleReason::Disabled { what, workflow });
        return reasons;
    }
    let is_alive = |runner: &Presence| runner.is_alive(input.now);
    if !input.runners.iter().any(is_alive) {
        reasons.push(ScheduleReason::NoRunner);
    }
    if !record.state.queued.is_empty() {
        reasons.push(ScheduleReason::Queued {
            ticks: record.state.queued.len(),
            open: record.state.open.first().copied(),
        });
    }
    reasons.extend(
        record
            .state
            .last_error
            .clone()
            .map(|error| ScheduleReason::PollFailed { error }),
    );
    reasons.push(match (record.next_due, &record.spec.after) {
        (_, Some(after)) => ScheduleReason::Follows {
            what,
            workflow,
            after: after.workflow.clone(),
            statuses: after.statuses.clone(),
            pending: input.pending,
        },
        (Some(at), None) => ScheduleReason::Next { what, workflow, at },
        (None, None) => ScheduleReason::Over {
            what,
            end_at: record.spec.end_at,
        },
    });
    reasons
}
