//! Diagnosis of a schedule or a trigger: the facts that keep it from firing. `runner/explain.rs` puts them in words.

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

/// The input of a schedule's diagnosis besides its record.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleDiagnosisInput<'a> {
    /// Whether a definition of its workflow is stored.
    pub is_workflow_known: bool,
    /// The runners that were not declared dead.
    pub runners: &'a [Presence],
    /// The number of ends of executions that a trigger has not dealt with.
    pub pending: usize,
    /// The current time.
    pub now: Timestamp,
}

/// A fact that holds a schedule or a trigger back, or its next tick or poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleReason {
    /// It was deleted.
    Deleted {
        /// The schedule or trigger.
        what: Subject,
        /// The time of the deletion.
        at: Timestamp,
    },
    /// It is disabled.
    Disabled {
        /// The schedule or trigger.
        what: Subject,
        /// Its workflow.
        workflow: String,
    },
    /// It has no tick left, because its end has passed.
    Over {
        /// The schedule or trigger.
        what: Subject,
        /// Its end.
        end_at: Option<Timestamp>,
    },
    /// No program has stored a definition of its workflow.
    WorkflowUnknown {
        /// The schedule or trigger.
        what: Subject,
        /// The workflow.
        workflow: String,
    },
    /// No live runner can fire it.
    NoRunner,
    /// Ticks wait for the end of executions.
    Queued {
        /// The number of waiting ticks.
        ticks: usize,
        /// One of the executions.
        open: Option<ExecutionId>,
    },
    /// It is called after ends of executions.
    Follows {
        /// The trigger.
        what: Subject,
        /// The workflow that it starts.
        workflow: String,
        /// The workflow whose ends it follows.
        after: String,
        /// The final states that count.
        statuses: Vec<ExecutionStatus>,
        /// The number of ends that it has not dealt with.
        pending: usize,
    },
    /// Its function raised at the last poll.
    PollFailed {
        /// The error.
        error: String,
    },
    /// It has a next tick or poll.
    Next {
        /// The schedule or trigger.
        what: Subject,
        /// Its workflow.
        workflow: String,
        /// The time of the tick or poll.
        at: Timestamp,
    },
}

/// Returns what a schedule or a trigger waits for: the facts that hold it back first, then its next tick or poll.
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
