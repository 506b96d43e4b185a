//! The filter of a listing of executions, and a page of it.

use std::sync::Arc;

use crate::runtime::Ended;
use crate::types::{
    ExecutionId, ExecutionStatus, ExecutionSummary, RunnerId, ScheduleId, Timestamp,
};
use crate::workflow::Workflow;

/// The conditions of a listing. All of them must hold; of several values of one condition, one is enough.
///
/// Keys, labels, a schedule, a runner, states other than `Completed`, and workflows are found by an index. Whatever an index
/// yields is compared with the other conditions, and this scan ends after 20,000 executions that do not satisfy them, or after
/// 100 ms. [`ListPage::scanned`] then says how far it looked, and [`ListPage::next`] continues there.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Executions of these workflows; empty: of all.
    pub workflows: Vec<String>,
    /// Executions of the versions that begin with one of these texts; empty: of all.
    pub versions: Vec<String>,
    /// Executions in these states; empty: in any state.
    pub statuses: Vec<ExecutionStatus>,
    /// Executions in none of these states.
    pub not_statuses: Vec<ExecutionStatus>,
    /// Executions of workflows with these tags. Of several values of one tag, one is enough.
    pub tags: Vec<(String, String)>,
    /// Executions with these labels. Of several values of one label, one is enough.
    pub labels: Vec<(String, String)>,
    /// Executions with one of these keys; `None` means any key, and none.
    pub keys: Option<Vec<String>>,
    /// Executions whose id begins with this text.
    pub id_prefix: Option<String>,
    /// Executions whose error has this text in its type or its message, in any case.
    pub error: Option<String>,
    /// Executions whose input has these values: the keys that lead to a value, joined by dots, and the value, as JSON or as
    /// the text of a string. Numbers are compared by their text.
    pub inputs: Vec<(String, String)>,
    /// Executions that this schedule or trigger has started.
    pub schedule: Option<ScheduleId>,
    /// Executions with tasks that this runner is running.
    pub runner: Option<RunnerId>,
    /// Children of this execution. Other children are listed only with `children`.
    pub parent: Option<ExecutionId>,
    /// Executions submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Executions submitted before this time.
    pub until: Option<Timestamp>,
    /// Executions older than this one: [`ListPage::next`] of the page before.
    pub before: Option<ExecutionId>,
    /// Executions newer than this one, those next to it: [`ListPage::prev`] of the page after.
    pub after: Option<ExecutionId>,
    /// Maximum number of executions.
    pub limit: usize,
    /// Whether to list children too, which are parts of other executions. Without it only roots are listed.
    pub children: bool,
    /// Whether to examine as many executions as are needed to fill the page, however long that takes.
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

    /// The version of the workflow that it runs.
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

/// How far a scan looked that ended before its page was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The number of executions that were examined.
    pub examined: u64,
    /// The time at which the last of them was submitted.
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
    /// The place where the scan stopped, if it ended before the page was full.
    pub scanned: Option<Scanned>,
}

/// A page of a listing whose executions have all their data.
pub(super) struct FullPage {
    pub(super) items: Vec<Ended>,
    pub(super) next: Option<ExecutionId>,
    pub(super) scanned: Option<Scanned>,
}
