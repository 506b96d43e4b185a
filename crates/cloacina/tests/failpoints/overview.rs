//! The part of a run that reads an overview: counts, the beginning of an input, and the change marker.

use cloacina::runner::Inspector;
use cloacina::types::{ExecutionId, ExecutionStatus, Timestamp};

use super::scenario::retry;

/// The answers to the requests of an overview.
#[derive(Debug, PartialEq, Eq)]
pub struct Overview {
    /// The number of executions in each state, sorted by the state's name.
    states: Vec<(ExecutionStatus, u64)>,
    /// The number of all executions, and the number of failed executions.
    submitted: (u64, u64),
    /// The first characters of an input, and its size.
    input: Option<(String, u64)>,
}

/// Makes all requests that an overview needs.
pub fn overview(inspector: &Inspector, id: ExecutionId) -> Overview {
    // No execution has this id, so `delete` deletes nothing and returns an error, which is ignored.
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
