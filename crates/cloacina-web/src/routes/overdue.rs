//! Finds executions that have run for much longer than usual for their workflow.

use std::collections::HashMap;

use cloacina::runner::ListFilter;
use cloacina::{ExecutionStatus, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::Call;
use crate::problem::Problem;
use crate::views::time;

/// An execution is overdue when it has run for more than this many times the usual duration of its workflow.
const FACTOR: i64 = 3;
/// Maximum number of completed executions from which the usual duration of a workflow (the 95th percentile) is computed.
const SAMPLE: usize = 100;
/// Minimum number of completed executions. A workflow with fewer completed executions has no usual duration.
const MIN_SAMPLE: usize = 5;
/// Minimum age of an examined execution: the time since its submission, in microseconds.
const MIN_AGE: i64 = 5_000_000;
/// Maximum number of running executions that are examined.
const MAX_RUNNING: usize = 50;
/// Maximum number of workflows whose usual duration is computed.
const MAX_WORKFLOWS: usize = 5;

/// An execution that runs for much longer than usual.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Overdue)]
pub(super) struct OverdueView {
    /// The id of the execution.
    execution: String,
    /// The workflow.
    workflow: String,
    /// The start of the execution's first task.
    #[schema(format = DateTime)]
    started_at: String,
    /// The time since the start of the first task, in microseconds.
    running_us: i64,
    /// The usual duration of the workflow, in microseconds: 95 % of its last completed executions took at most this long.
    usual_us: i64,
}

/// Returns the overdue executions among the newest running executions.
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

/// Returns the usual duration of a workflow, or `None` if too few of its executions have completed. 95 % of the last completed
/// executions took at most this long.
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
    fn usual_duration_needs_five_completed_executions() {
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
