//! What to list, and a page of a listing.

use crate::runtime::Ended;
use crate::types::{ExecutionId, ExecutionStatus, Timestamp};

/// Which executions to list.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only in these states; empty means any.
    pub statuses: Vec<ExecutionStatus>,
    /// Only of workflows with all these tags.
    pub tags: Vec<(String, String)>,
    /// Only submitted at or after.
    pub since: Option<Timestamp>,
    /// Only older than this one: the cursor.
    pub before: Option<ExecutionId>,
    /// At most so many.
    pub limit: usize,
}

/// A part of a listing.
pub struct Page {
    /// Newest first.
    pub items: Vec<Ended>,
    /// Where the next part starts, if there is one.
    pub next: Option<ExecutionId>,
}
