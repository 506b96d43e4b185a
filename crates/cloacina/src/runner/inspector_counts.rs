//! Counts executions by state and over time, and groups failures by cause.

use indexmap::IndexMap;

use super::Inspector;
use super::listing::{ListFilter, ListedExecution};
use crate::engine::cause_of;
use crate::store::Payload;
use crate::types::{Error, ErrorCode, ExecutionId, ExecutionStatus, Micros, Timestamp};

/// Maximum count of the executions in a state. Counting stops at this number.
const MAX_COUNT: usize = 10_000;
/// Maximum count of the executions in a [`Bucket`]. Counting stops at this number.
const MAX_BUCKET_COUNT: usize = 1_000;
/// Maximum number of buckets in one call of [`Inspector::activity`].
const MAX_BUCKETS: usize = 200;
/// Maximum number of failed executions that [`Inspector::failures`] groups.
const MAX_FAILURES: usize = 1_000;
/// Maximum number of executions whose ids a [`FailureGroup`] lists.
const MAX_NAMED: usize = 100;

/// The precision of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountKind {
    /// The number is exact.
    Exact,
    /// The count stopped at its limit: the true number can be higher.
    AtLeast,
}

impl CountKind {
    /// Returns the name in the public API: `exact` or `at_least`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::AtLeast => "at_least",
        }
    }
}

/// A count of executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub value: u64,
    /// The precision of the number.
    pub kind: CountKind,
    /// The time of the count.
    pub as_of: Timestamp,
}

/// Counts of the executions that were submitted in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The start of the span.
    pub since: Timestamp,
    /// The end of the span.
    pub until: Timestamp,
    /// The number of executions that were submitted in the span.
    pub submitted: Count,
    /// The number of these executions that have failed.
    pub failed: Count,
}

/// Failed executions with the same cause.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureGroup {
    /// The workflow.
    pub workflow: String,
    /// The task that failed; `None`: the execution itself failed, for example by its timeout.
    pub task: Option<String>,
    /// The type of the error.
    pub kind: String,
    /// The message without its numbers and ids: see [`cause_of`].
    pub cause: String,
    /// The message of the newest of these executions, cut to 300 characters.
    pub message: String,
    /// The number of executions in the group.
    pub count: usize,
    /// The time at which the oldest of these executions was submitted.
    pub first: Timestamp,
    /// The time at which the newest of these executions was submitted.
    pub last: Timestamp,
    /// The newest of these executions, at most 100, newest first.
    pub executions: Vec<ExecutionId>,
}

impl Inspector {
    /// Counts the executions in each state, up to 10,000 per state. Completed executions are counted only among the newest
    /// 20,000 executions.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn counts(&self) -> Result<Vec<(ExecutionStatus, Count)>, Error> {
        let as_of = self.now();
        let counted = self.store.count_states(MAX_COUNT)?.into_iter();
        let counts = counted.map(|(status, value, is_exact)| {
            let kind = if is_exact {
                CountKind::Exact
            } else {
                CountKind::AtLeast
            };
            (status, Count { value, kind, as_of })
        });
        Ok(counts.collect())
    }

    /// Divides a span of time into `buckets` buckets of the same length, and counts the executions that were submitted in
    /// each bucket, up to 1,000. The oldest bucket comes first.
    ///
    /// # Errors
    /// `Configuration` for an empty span, or a number of buckets that is not from 1 to 200; `Database` or `Connection`.
    pub fn activity(
        &self,
        since: Timestamp,
        until: Timestamp,
        buckets: usize,
    ) -> Result<Vec<Bucket>, Error> {
        let span = until.0.saturating_sub(since.0);
        if !(1..=MAX_BUCKETS).contains(&buckets) || span <= 0 {
            return Err(Error::new(
                ErrorCode::Configuration,
                format!(
                    "activity needs 1 to {MAX_BUCKETS} buckets and a start before its end, not {buckets} buckets from {since} to {until}"
                ),
            ));
        }
        let as_of = self.now();
        let count = |value: u64| Count {
            value,
            kind: if value < MAX_BUCKET_COUNT as u64 {
                CountKind::Exact
            } else {
                CountKind::AtLeast
            },
            as_of,
        };
        let edge = |index: usize| {
            let part = i128::from(span) * index as i128 / buckets as i128;
            since + Micros::try_from(part).unwrap_or(span)
        };
        let buckets = (0..buckets).map(|index| {
            let (since, until) = (edge(index), edge(index + 1));
            let (after, before) = (id_before(since), id_before(until));
            let (submitted, failed) = self.store.count_between(after, before, MAX_BUCKET_COUNT)?;
            Ok(Bucket {
                since,
                until,
                submitted: count(submitted),
                failed: count(failed),
            })
        });
        buckets.collect()
    }

    /// Groups the newest 1,000 failed executions by their causes: workflow, task, error type, and the message without numbers
    /// and ids. The group with the newest execution comes first. Children are left out.
    ///
    /// `since`: executions that were submitted before this time are left out.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn failures(&self, since: Option<Timestamp>) -> Result<Vec<FailureGroup>, Error> {
        let filter = ListFilter {
            statuses: vec![ExecutionStatus::Failed],
            since,
            limit: MAX_FAILURES,
            ..ListFilter::default()
        };
        Ok(grouped(&self.list(&filter)?.items))
    }

    /// Returns at most the first `limit` characters of an execution's input as JSON, or of the writes of one of its
    /// tasks. `None` if the execution or the task has no such data.
    ///
    /// # Errors
    /// `TaskInvalid` for a task that the workflow does not have; `ExecutionNotFound`; `Database` or `Connection`.
    pub fn payload(
        &self,
        id: ExecutionId,
        task: Option<&str>,
        limit: usize,
    ) -> Result<Option<Payload>, Error> {
        let Some(summary) = self.summaries(&[id])?.pop() else {
            return Err(Error::unknown_execution(id));
        };
        let ordinal = task.map(|task| {
            summary.workflow().ordinal(task).ok_or_else(|| {
                let name = summary.workflow().name();
                Error::new(
                    ErrorCode::TaskInvalid,
                    format!("workflow '{name}' has no task '{task}'"),
                )
            })
        });
        Ok(self.store.payload(id, ordinal.transpose()?, limit)?)
    }
}

/// Returns an id below the ids of all executions that are submitted at or after a time.
fn id_before(time: Timestamp) -> ExecutionId {
    let millis = u64::try_from(time.0 / 1000).unwrap_or_default();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    ExecutionId::from_bytes(bytes)
}

fn grouped(failed: &[ListedExecution]) -> Vec<FailureGroup> {
    let mut groups: IndexMap<(&str, Option<&str>, &str, String), FailureGroup> = IndexMap::new();
    for item in failed {
        let Some(error) = &item.error else {
            continue;
        };
        let (workflow, task) = (item.workflow().name(), item.failed_task());
        let cause = cause_of(&error.message);
        let key = (workflow, task, error.kind.as_str(), cause);
        let cause = key.3.clone();
        let group = groups.entry(key).or_insert_with(|| FailureGroup {
            workflow: workflow.to_owned(),
            task: task.map(str::to_owned),
            kind: error.kind.clone(),
            cause,
            message: error.message.clone(),
            count: 0,
            first: item.created_at,
            last: item.created_at,
            executions: Vec::new(),
        });
        group.count += 1;
        group.first = group.first.min(item.created_at);
        group.last = group.last.max(item.created_at);
        if group.executions.len() < MAX_NAMED {
            group.executions.push(item.id);
        }
    }
    groups.into_values().collect()
}
