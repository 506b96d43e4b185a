//! Why a schedule or a trigger does not fire: a function from what is known to reasons.

use super::explain::told_time;
use crate::types::{ExecutionId, Presence, ScheduleKind, ScheduleRecord, Timestamp};

/// What an explanation looks at besides the row.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleSurroundings<'a> {
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
        /// "schedule" or "trigger", and which.
        what: String,
        /// When.
        at: Timestamp,
    },
    /// It is switched off.
    Disabled {
        /// "schedule" or "trigger", and which.
        what: String,
        /// Its workflow.
        workflow: String,
    },
    /// It has no tick any more: its end is over.
    Over {
        /// "schedule" or "trigger", and which.
        what: String,
        /// Its end.
        end_at: Option<Timestamp>,
    },
    /// No program has stored a definition of its workflow.
    WorkflowUnknown {
        /// "schedule" or "trigger", and which.
        what: String,
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
        /// "schedule" or "trigger", and which.
        what: String,
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
    surroundings: &ScheduleSurroundings<'_>,
) -> Vec<ScheduleReason> {
    let what = match record.kind {
        ScheduleKind::Cron => format!("Schedule {}", record.id),
        ScheduleKind::Trigger => format!("Trigger '{}'", record.identity),
    };
    let workflow = record.workflow.clone();
    if let Some(at) = record.deleted_at {
        return vec![ScheduleReason::Deleted { what, at }];
    }
    let mut reasons = Vec::new();
    if !surroundings.is_workflow_known {
        reasons.push(ScheduleReason::WorkflowUnknown {
            what: what.clone(),
            workflow: workflow.clone(),
        });
    }
    if !record.enabled {
        reasons.insert(0, ScheduleReason::Disabled { what, workflow });
        return reasons;
    }
    let is_alive = |runner: &Presence| runner.is_alive(surroundings.now);
    if !surroundings.runners.iter().any(is_alive) {
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

impl ScheduleReason {
    /// The reason in plain words.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        let at = |time: Timestamp| told_time(time, now);
        match self {
            Self::Deleted { what, at: deleted } => format!(
                "{what} was deleted at {}: it fires no more, and its history stays.",
                at(*deleted)
            ),
            Self::Disabled { what, workflow } => format!(
                "{what} is disabled: it starts no execution of workflow '{workflow}' until it is enabled."
            ),
            Self::Over { what, end_at } => format!(
                "{what} has no tick any more{}.",
                end_at.map_or_else(String::new, |end| format!(": it ended at {}", at(end)))
            ),
            Self::WorkflowUnknown { what, workflow } => format!(
                "{what} starts workflow '{workflow}', of which no program has stored a definition in this database: \
                 its ticks are recorded as skipped until one does."
            ),
            Self::NoRunner => "There is no live runner to fire it.".to_owned(),
            Self::Queued { ticks, open } => {
                let ticks = match ticks {
                    1 => "1 tick waits".to_owned(),
                    more => format!("{more} ticks wait"),
                };
                let open = open.map_or_else(
                    || "an execution of it".to_owned(),
                    |id| format!("execution {id}"),
                );
                format!("{ticks} for the end of {open}, by its overlap rule.")
            }
            Self::PollFailed { error } => {
                format!("Its function raised at the last poll: {error}.")
            }
            Self::Next {
                what,
                workflow,
                at: next,
            } => format!(
                "{what} starts workflow '{workflow}' at its next time: {}.",
                at(*next)
            ),
        }
    }
}
