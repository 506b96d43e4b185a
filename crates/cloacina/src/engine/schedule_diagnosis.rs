//! Why a schedule or a trigger does not fire: a function from what is known to facts. `runner/explain.rs` puts them in words.

use crate::types::{ExecutionId, Presence, ScheduleId, ScheduleKind, ScheduleRecord, Timestamp};

/// The schedule or trigger that a reason is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A cron schedule.
    Schedule(ScheduleId),
    /// A trigger, by its name.
    Trigger(String),
}

/// What an explanation looks at besides the row.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleDiagnosisInput<'a> {
    /// Whether a definition of its workflow is known.
    pub is_workflow_known: bool,
    /// The runners that were not declared dead.
    pub runners: &'a [Presence],
    /// The instant.
    pub now: Timestamp,
}

/// Something that holds a schedule or a trigger back, or what it does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleReason {
    /// It was deleted.
    Deleted {
        /// What it is.
        what: Subject,
        /// When.
        at: Timestamp,
    },
    /// It is switched off.
    Disabled {
        /// What it is.
        what: Subject,
        /// Its workflow.
        workflow: String,
    },
    /// It has no tick any more: its end is over.
    Over {
        /// What it is.
        what: Subject,
        /// Its end.
        end_at: Option<Timestamp>,
    },
    /// No program has stored a definition of its workflow.
    WorkflowUnknown {
        /// What it is.
        what: Subject,
        /// The workflow.
        workflow: String,
    },
    /// There is no runner that could fire it.
    NoRunner,
    /// Ticks wait for the end of executions.
    Queued {
        /// How many.
        ticks: usize,
        /// One that they wait for.
        open: Option<ExecutionId>,
    },
    /// Its function raised at the last poll.
    PollFailed {
        /// What.
        error: String,
    },
    /// Its next tick or poll.
    Next {
        /// What it is.
        what: Subject,
        /// Its workflow.
        workflow: String,
        /// When.
        at: Timestamp,
    },
}

/// What a schedule or a trigger waits for: what holds it back first, then what it does next.
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
    reasons.push(match record.next_due {
        Some(at) => ScheduleReason::Next { what, workflow, at },
        None => ScheduleReason::Over {
            what,
            end_at: record.spec.end_at,
        },
    });
    reasons
}
