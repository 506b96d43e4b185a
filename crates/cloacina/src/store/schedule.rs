//! Parameters and answers of the store requests about schedules.

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
    /// Number of schedules to skip.
    pub offset: usize,
    /// Only schedules after this id in the order of the list. `None` means all schedules.
    pub after: Option<ScheduleId>,
    /// Whether the newest schedule comes first.
    pub descending: bool,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl ScheduleQuery {
    /// Returns the id after which the list starts.
    pub(super) fn start(&self) -> ScheduleId {
        let before_all = if self.descending {
            [u8::MAX; 16]
        } else {
            [0; 16]
        };
        self.after
            .unwrap_or_else(|| ScheduleId::from_bytes(before_all))
    }
}

/// Selects the schedules that a runner handles.
#[derive(Clone, Debug, Default)]
pub struct DueQuery {
    /// Whether the runner fires cron schedules.
    pub cron: bool,
    /// Names of the triggers whose functions this runner has.
    pub triggers: Vec<String>,
    /// Whether any of these triggers fires at the end of executions.
    pub ends: bool,
    /// Maximum number of schedules of each kind.
    pub limit: usize,
}

/// The schedules that a runner must evaluate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueSchedules {
    /// Schedules that are due: cron schedules, then triggers to poll, then triggers to call for ended executions. The
    /// first two groups are ordered by due time.
    pub due: Vec<ScheduleRecord>,
    /// Due schedules that cannot be read, with the reason.
    pub unreadable: Vec<(ScheduleId, String)>,
    /// The time at which the next schedule becomes due; `None` if no schedule becomes due later.
    pub next: Option<Timestamp>,
}

impl DueSchedules {
    /// Adds a due schedule: its record, or the reason why its row cannot be read.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn add(&mut self, id: ScheduleId, read: Result<ScheduleRecord, String>) {
        match read {
            Ok(record) => self.due.push(record),
            Err(reason) => self.unreadable.push((id, reason)),
        }
    }
}

/// Converts a count to an SQL integer. A larger count becomes `i64::MAX`.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn saturating_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The outcome of writing a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The schedule was written.
    Written,
    /// Another schedule has this identity. Nothing was written.
    Exists(ScheduleId),
    /// The schedule has been changed or deleted since it was read. Nothing was written.
    Changed,
}

/// A change of a schedule with its ticks. It is applied only if the stored revision is `expected`. Otherwise, the batch
/// does not submit the executions of the ticks.
#[derive(Debug)]
pub struct ScheduleWrite<'a> {
    /// The record after the change, with its new revision.
    pub record: &'a ScheduleRecord,
    /// The revision that the change is based on.
    pub expected: i64,
    /// Ticks to store. If a tick with the same due time is already stored, it is replaced only if it is queued, or if it
    /// was missed, skipped or overlapped and the new tick has fired. If it is not replaced, the execution of the new tick
    /// is not submitted.
    pub ticks: &'a [TickWrite],
    /// Ends of executions for which the trigger was called.
    pub ends: &'a [EndWrite],
}

/// The result of calling a trigger for the end of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndWrite {
    /// The execution.
    pub execution: ExecutionId,
    /// The time at which the execution ended.
    pub ended_at: Timestamp,
    /// The time of the next call, and the number of failed calls. `None` if the trigger has handled the end.
    pub again: Option<(Timestamp, u32)>,
}

/// Returns the workflow whose executions fire the trigger when they end, and the codes of the final states that fire
/// it. Returns no states if the record is not such a trigger, or if the trigger is disabled or deleted.
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
    /// The time at which the tick was due.
    pub due_at: Timestamp,
    /// The outcome of the tick.
    pub outcome: TickOutcome,
    /// The execution that the same batch submits for the tick.
    pub execution: Option<ExecutionId>,
    /// Details of the outcome, as text.
    pub detail: Option<String>,
}
