//! Parameters and answers of the verbs about schedules.

use crate::types::{ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, Timestamp};

/// Which schedules to list.
#[derive(Clone, Debug)]
pub struct ScheduleQuery {
    /// Of this kind.
    pub kind: ScheduleKind,
    /// Only those that fire.
    pub enabled_only: bool,
    /// At most so many.
    pub limit: usize,
    /// Leaving out so many of the oldest.
    pub offset: usize,
}

/// Which schedules a runner looks after.
#[derive(Clone, Debug, Default)]
pub struct DueQuery {
    /// Whether it fires cron schedules.
    pub cron: bool,
    /// The triggers whose functions it has.
    pub triggers: Vec<String>,
    /// At most so many of each kind.
    pub limit: usize,
}

/// What a runner has to look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueSchedules {
    /// Now, earliest first.
    pub due: Vec<ScheduleRecord>,
    /// Those that are due and cannot be read, with why.
    pub unreadable: Vec<(ScheduleId, String)>,
    /// And next.
    pub next: Option<Timestamp>,
}

impl DueSchedules {
    /// Adds a row that is due: its record, or why it cannot be read.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn add(&mut self, id: ScheduleId, read: Result<ScheduleRecord, String>) {
        match read {
            Ok(record) => self.due.push(record),
            Err(reason) => self.unreadable.push((id, reason)),
        }
    }
}

/// A count as the databases take it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn bounded(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What became of a schedule's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is written.
    Written,
    /// Another one has this identity; nothing was written.
    Exists(ScheduleId),
    /// It has changed since it was read, or is gone; nothing was written.
    Changed,
}

/// Change of a schedule with its ticks, applied only if its stored revision is `expected`; its new one is the record's. If it is
/// not applied, the batch's submissions of the executions that its ticks name are dropped.
#[derive(Debug)]
pub struct ScheduleWrite<'a> {
    /// The whole record after the decision.
    pub record: &'a ScheduleRecord,
    /// The revision that the decision was made on.
    pub expected: i64,
    /// Rows of its history. A tick that is there already, and does not wait in a queue, is left as it is, and the submission
    /// of its execution is dropped.
    pub ticks: &'a [TickWrite],
}

/// A tick to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickWrite {
    /// When it was due.
    pub due_at: Timestamp,
    /// What became of it.
    pub outcome: TickOutcome,
    /// The execution, submitted by the same batch.
    pub execution: Option<ExecutionId>,
    /// More about it.
    pub detail: Option<String>,
}
