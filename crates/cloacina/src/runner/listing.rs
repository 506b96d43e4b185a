//! The filter of a listing of executions, and a page of it.

use crate::runtime::Ended;
use crate::types::{ExecutionId, ExecutionStatus, Timestamp};

/// The conditions of a listing. All of them must hold.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Only executions of this workflow.
    pub workflow: Option<String>,
    /// Only executions in one of these states; empty means any state.
    pub statuses: Vec<ExecutionStatus>,
    /// Only executions of workflows with all these tags.
    pub tags: Vec<(String, String)>,
    /// Only executions with one of these keys; `None` means any key, and none.
    pub keys: Option<Vec<String>>,
    /// Only executions submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Only executions older than this one. Used as the cursor between pages.
    pub before: Option<ExecutionId>,
    /// Maximum number of executions.
    pub limit: usize,
}

/// A page of a listing.
pub struct ListPage {
    /// The executions, newest first.
    pub items: Vec<Ended>,
    /// The cursor of the next page, if there is one.
    pub next: Option<ExecutionId>,
}
