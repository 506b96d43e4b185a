//! The filter and the pages of a listing of executions.

use std::sync::Arc;

use crate::runtime::Ended;
use crate::types::{
    ExecutionId, ExecutionStatus, ExecutionSummary, Masking, RunnerId, ScheduleId, Timestamp,
};
use crate::workflow::Workflow;

/// The conditions of a listing. An execution must satisfy all of them. If a condition has several values, one of the values
/// must match.
///
/// A listing reads one index, for example that of keys, of labels or of workflows. It then checks the other
/// conditions on each execution that the index yields. The listing stops after 20,000 executions that do not satisfy
/// them, or after 100 ms. [`ListPage::scanned`] then says where the listing stopped, and [`ListPage::next`] continues
/// there.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Executions of these workflows; empty: of all workflows.
    pub workflows: Vec<String>,
    /// Executions of the versions that begin with one of these texts; empty: of all versions.
    pub versions: Vec<String>,
    /// Executions in these states; empty: in any state.
    pub statuses: Vec<ExecutionStatus>,
    /// Executions in none of these states.
    pub not_statuses: Vec<ExecutionStatus>,
    /// Executions of workflows with these tags. If a tag has several values here, one of them must match.
    pub tags: Vec<(String, String)>,
    /// Executions with these labels. If a label has several values here, one of them must match.
    pub labels: Vec<(String, String)>,
    /// Executions with one of these keys; `None`: executions with any key, and executions without a key.
    pub keys: Option<Vec<String>>,
    /// Executions whose id begins with this text.
    pub id_prefix: Option<String>,
    /// Executions whose error contains this text in its type or its message. The comparison ignores case.
    pub error: Option<String>,
    /// The function that masks secrets in error messages, if the caller shows masked messages. The condition `error` then
    /// searches the masked messages.
    pub masking: Option<Masking>,
    /// Executions whose input has these values. Each entry is a path and a value. The path is the keys that lead to the
    /// value, joined by dots. The value is JSON, or the text of a string. Numbers are compared as text.
    pub inputs: Vec<(String, String)>,
    /// Executions that this schedule or trigger has started.
    pub schedule: Option<ScheduleId>,
    /// Executions with tasks that this runner has claimed.
    pub runner: Option<RunnerId>,
    /// Children of this execution. Without this condition, children are listed only if `children` is set.
    pub parent: Option<ExecutionId>,
    /// Executions submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Executions submitted before this time.
    pub until: Option<Timestamp>,
    /// Executions older than this execution: [`ListPage::next`] of the previous page.
    pub before: Option<ExecutionId>,
    /// Executions newer than this execution, and closest to it in time: [`ListPage::prev`] of the following page.
    pub after: Option<ExecutionId>,
    /// Maximum number of executions.
    pub limit: usize,
    /// Whether to list children too. Otherwise only executions without a parent are listed.
    pub children: bool,
    /// Whether to continue until the page is full, without the limits of 20,000 executions and 100 ms.
    pub unbounded: bool,
}

/// An execution on a page: its row and its workflow.
#[derive(Clone, Debug)]
pub struct ListedExecution {
    pub(super) summary: ExecutionSummary,
    pub(super) workflow: Arc<Workflow>,
}

impl ListedExecution {
    /// The execution's row and its labels.
    #[must_use]
    pub const fn summary(&self) -> &ExecutionSummary {
        &self.summary
    }

    /// The version of the workflow that the execution runs.
    #[must_use]
    pub const fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// The id of the task whose failure is the execution's error.
    #[must_use]
    pub fn failed_task(&self) -> Option<&str> {
        let task = self.summary.error.as_ref()?.task?;
        let tasks = &self.workflow.definition().tasks;
        tasks.get(task as usize).map(|task| task.id.as_str())
    }
}

impl std::ops::Deref for ListedExecution {
    type Target = ExecutionSummary;

    fn deref(&self) -> &ExecutionSummary {
        &self.summary
    }
}

/// The point at which a listing stopped before its page was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The number of executions that were examined.
    pub examined: u64,
    /// The time at which the last examined execution was submitted.
    pub until: Timestamp,
}

/// A page of a listing.
#[derive(Debug)]
pub struct ListPage {
    /// The executions, newest first.
    pub items: Vec<ListedExecution>,
    /// [`ListFilter::before`] of the next page, if there may be one.
    pub next: Option<ExecutionId>,
    /// [`ListFilter::after`] of the previous page, if there may be one.
    pub prev: Option<ExecutionId>,
    /// The point at which the listing stopped, if it stopped before the page was full.
    pub scanned: Option<Scanned>,
}

impl ListPage {
    /// The page of a listing that no execution can satisfy.
    pub(super) const fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
            prev: None,
            scanned: None,
        }
    }
}

/// A page of a listing whose executions have all their data.
pub(super) struct FullPage {
    pub(super) items: Vec<Ended>,
    pub(super) next: Option<ExecutionId>,
    pub(super) scanned: Option<Scanned>,
}
