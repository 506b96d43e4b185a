//! Executions that run for much longer than their workflow does otherwise.

use std::collections::HashMap;

use cloacina::runner::ListFilter;
use cloacina::{ExecutionStatus, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::Call;
use crate::problem::Problem;
use crate::views::time;

/// An execution is overdue once it has run for this many times the usual duration of its workflow.
const FACTOR: i64 = 3;
/// Number of completed executions of a workflow from which its usual duration, the 95th percentile, is computed.
const SAMPLE: usize = 100;
/// Minimum number of completed executions. With fewer, a workflow has no usual duration.
const MIN_SAMPLE: usize = 5;
/// Minimum age of an execution that is looked at, in microseconds since its submission.
const MIN_AGE: i64 = 5_000_000;
/// Maximum number of running executions that are looked at.
const MAX_RUNNING: usize = 50;
/// Maximum number of workflows whose usual duration is looked up.
const MAX_WORKFLOWS: usize = 5;

/// An execution that runs for much longer than usual.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Overdue)]
pub(super) struct OverdueView {
    /// The execution.
    execution: String,
    /// Its workflow.
    workflow: String,
    /// The start of its first task.
    #[schema(format = DateTime)]
    started_at: String,
    /// The time since then, in microseconds.
    running_us: i64,
    /// 95 of 100 completed executions of the workflow took at most this long, in microseconds.
    usual_us: i64,
}

/// The newest running executions that have run for longer than [`FACTOR`] times the usual duration of their workflow.
pub(super) fn find(call: &Call<'_>) -> Result<Vec<OverdueView>, Problem> {
    let now = call.inspector.now();
    let running = call.inspector.list(&ListFilter {
        statuses: vec![ExecutionStatus::Running],
        until: Some(now - MIN_AGE),
        limit: MAX_RUNNING,
        ..ListFilter::default()
    })?;
    let mut usual: HashMap<String, Option<i64>> = HashMap::new();
    let mut found = Vec::new();
    for item in running.items {
        let (workflow, summary) = (item.workflow().name(), item.summary());
        let Some(started) = summary.started_at else {
            continue;
        };
        if !usual.contains_key(workflow) {
            if usual.len() == MAX_WORKFLOWS {
                continue;
            }
            usual.insert(workflow.to_owned(), usual_duration(call, workflow)?);
        }
        let limit = usual.get(workflow).copied().flatten();
        if let Some(usual_us) = limit.filter(|usual| is_overdue(started, *usual, now)) {
            found.push(OverdueView {
                execution: summary.id.to_string(),
                workflow: workflow.to_owned(),
                started_at: time(started),
                running_us: now.since(started),
                usual_us,
            });
        }
    }
    Ok(found)
}

fn is_overdue(started: Timestamp, usual: i64, now: Timestamp) -> bool {
    now.since(started) > usual.saturating_mul(FACTOR)
}

/// The duration that 95 of 100 of the last completed executions of a workflow did not exceed; `None` if there are too few.
fn usual_duration(call: &Call<'_>, workflow: &str) -> Result<Option<i64>, Problem> {
    let page = call.inspector.list(&ListFilter {
        workflows: vec![workflow.to_owned()],
        statuses: vec![ExecutionStatus::Completed],
        limit: SAMPLE,
        ..ListFilter::default()
    })?;
    let durations = page.items.iter().filter_map(|item| {
        let summary = item.summary();
        Some(summary.ended_at?.since(summary.started_at?))
    });
    Ok(percentile(durations.collect()))
}

fn percentile(mut durations: Vec<i64>) -> Option<i64> {
    durations.sort_unstable();
    let rank = (durations.len() * 95).div_ceil(100);
    let found = durations.get(rank.checked_sub(1)?).copied();
    found.filter(|_| durations.len() >= MIN_SAMPLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_duration_needs_some_executions() {
        assert_eq!(percentile(vec![]), None);
        assert_eq!(percentile(vec![1, 2, 3, 4]), None);
        assert_eq!(percentile(vec![5, 1, 2, 3, 4]), Some(5));
        assert_eq!(percentile((1..=100).collect()), Some(95));
    }

    #[test]
    fn execution_is_overdue_after_three_times_the_usual_duration() {
        let start = Timestamp(0);
        assert!(!is_overdue(start, 100, Timestamp(300)));
        assert!(is_overdue(start, 100, Timestamp(301)));
        assert!(!is_overdue(start, i64::MAX, Timestamp(i64::MAX)));
    }
}
