//! The part of a run that reads an overview: counts, the beginning of an input, and the marker of changes.

use cloacina::runner::Inspector;
use cloacina::types::{ExecutionId, ExecutionStatus, Timestamp};

use super::scenario::retry;

/// Counts of the executions.
#[derive(Debug, PartialEq, Eq)]
pub struct Overview {
    /// The number of executions in each state, in the order of the states' names.
    states: Vec<(ExecutionStatus, u64)>,
    /// The number of all executions, and of those that have failed.
    submitted: (u64, u64),
    /// The first characters of an input, and its size.
    input: Option<(String, u64)>,
}

/// Makes the requests of an overview.
pub fn overview(inspector: &Inspector, id: ExecutionId) -> Overview {
    // No execution has this id, so nothing is deleted, whichever call fails.
    let unknown = inspector.delete(ExecutionId::from_bytes([0; 16]));
    drop(unknown);
    retry(|| inspector.change_marker());
    let mut states: Vec<(ExecutionStatus, u64)> = retry(|| inspector.counts())
        .into_iter()
        .map(|(status, count)| (status, count.value))
        .collect();
    states.sort_by_key(|(status, _)| status.name());
    let end = inspector.now() + 1;
    let buckets = retry(|| inspector.activity(Timestamp(0), end, 1));
    let input = retry(|| inspector.payload(id, None, 1));
    Overview {
        states,
        submitted: (buckets[0].submitted.value, buckets[0].failed.value),
        input: input.map(|input| (input.text, input.size)),
    }
}
