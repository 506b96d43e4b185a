//! Parameters and answers of requests about schedules.

use crate::types::{ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, Timestamp};

/// A filter for listing schedules.
#[derive(Clone, Debug)]
pub struct ScheduleQuery {
    /// Only schedules of this kind.
    pub kind: ScheduleKind,
    /// Only enabled schedules.
    pub enabled_only: bool,
    /// Maximum number of schedules.
    pub limit: usize,
    /// Number of oldest schedules to skip.
    pub offset: usize,
}

/// The schedules for which a runner is responsible.
#[derive(Clone, Debug, Default)]
pub struct DueQuery {
    /// Whether the runner fires cron schedules.
    pub cron: bool,
    /// Names of the triggers whose functions the runner has.
    pub triggers: Vec<String>,
    /// Whether some of these triggers are called after ends of executions.
    pub ends: bool,
    /// Maximum number of schedules of each kind.
    pub limit: usize,
}

/// The schedules that a runner must evaluate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueSchedules {
    /// Schedules that are due, earliest first.
    pub due: Vec<ScheduleRecord>,
    /// Due schedules that cannot be read, with the reason.
    pub unreadable: Vec<(ScheduleId, String)>,
    /// When the next schedule is due.
    pub next: Option<Timestamp>,
}

impl DueSchedules {
    /// Adds a due row: its record, or the reason why it cannot be read.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn add(&mut self, id: ScheduleId, read: Result<ScheduleRecord, String>) {
        match read {
            Ok(record) => self.due.push(record),
            Err(reason) => self.unreadable.push((id, reason)),
        }
    }
}

/// Converts a count to an SQL integer.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn bounded(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The outcome of writing a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The schedule was written.
    Written,
    /// Another schedule has this identity; nothing was written.
    Exists(ScheduleId),
    /// The schedule was changed or deleted since it was read; nothing was written.
    Changed,
}

/// A change of a schedule with its ticks, applied only if the stored revision is `expected`. If it is not applied, the
/// submissions of its ticks' executions in the same batch are dropped.
#[derive(Debug)]
pub struct ScheduleWrite<'a> {
    /// The record after the change, with its new revision.
    pub record: &'a ScheduleRecord,
    /// The revision that the change is based on.
    pub expected: i64,
    /// Ticks to record. A tick that already has an outcome other than `Queued` stays as it is, and the submission of
    /// its execution is dropped.
    pub ticks: &'a [TickWrite],
    /// Ends of executions that a trigger has dealt with, or is to be called for again later.
    pub ends: &'a [EndWrite],
}

/// The consequence of a trigger's call for the end of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndWrite {
    /// The execution.
    pub execution: ExecutionId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// When the trigger is to be called again, and the number of calls that failed. `None`: the trigger has dealt with
    /// the end.
    pub again: Option<(Timestamp, u32)>,
}

/// The workflow whose ends fire a trigger, with the numbers of the final states that count. A trigger that is disabled
/// or deleted follows nothing.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn followed(record: &ScheduleRecord) -> (&str, Vec<i16>) {
    let after = record.spec.after.as_ref();
    match after.filter(|_| record.enabled && record.deleted_at.is_none()) {
        Some(after) => {
            let states = after.statuses.iter().map(|status| status.code());
            (&after.workflow, states.collect())
        }
        None => ("", Vec::new()),
    }
}

/// A tick to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickWrite {
    /// When it was due.
    pub due_at: Timestamp,
    /// Its outcome.
    pub outcome: TickOutcome,
    /// The execution, submitted by the same batch.
    pub execution: Option<ExecutionId>,
    /// Details of the outcome, as text.
    pub detail: Option<String>,
}
