//! The options of a submission, and the filter and pages of a listing of executions.

use std::sync::Arc;
use std::time::Duration;

use super::async_engine::AsyncEngine;
use super::listing::FullPage;
use super::{Context, ListFilter, WorkflowResult};
use crate::runtime::SubmitRequest;
use crate::types::{
    Error, ErrorCode, ExecutionId, ExecutionStatus, Labels, RunnerId, ScheduleId, Timestamp, micros,
};

/// Maximum length of an idempotency key, in characters.
const MAX_KEY: usize = 512;

/// An execution to submit: its workflow, its context and its options.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cloacina::{Context, Submission};
///
/// let nightly = Submission::new("etl", Context::new())
///     .key("etl-2026-01-01")
///     .priority(5)
///     .delay(Duration::from_secs(60))
///     .timeout(Duration::from_secs(3600));
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct Submission {
    workflow: String,
    context: Context,
    key: Option<String>,
    priority: i16,
    start: Start,
    timeout: Option<Duration>,
    labels: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Now,
    After(Duration),
    At(Timestamp),
}

impl Submission {
    /// Creates a submission that starts immediately. `workflow`: a name or a [`Workflow`](super::Workflow).
    ///
    /// Since 1.0.
    pub fn new(workflow: impl AsRef<str>, context: Context) -> Self {
        Self {
            workflow: workflow.as_ref().to_owned(),
            context,
            key: None,
            priority: 0,
            start: Start::Now,
            timeout: None,
            labels: Vec::new(),
        }
    }

    /// Makes the submission idempotent: if an execution of this workflow with this key exists, submitting returns the handle
    /// of that execution and starts nothing. A key has 1 to 512 characters. Since 1.0.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The priority (default 0): tasks of executions with a higher priority are claimed first. Since 1.0.
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// The minimum time between the submission and the start. Since 1.0.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.start = Start::After(delay);
        self
    }

    /// The earliest time at which the execution can start. Since 1.0.
    pub fn at(mut self, at: impl Into<Timestamp>) -> Self {
        self.start = Start::At(at.into());
        self
    }

    /// The timeout of the execution, from the start of its first task; the execution fails when the timeout expires. Since 1.0.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Adds a label, by which the execution can be found later. An execution has at most 32 labels. Names have 1 to 128
    /// characters, values at most 512. Since 1.0.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    pub(super) fn into_request(self, now: Timestamp) -> Result<SubmitRequest, Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::Configuration, message));
        if let Some(key) = &self.key {
            let length = key.chars().count();
            if !(1..=MAX_KEY).contains(&length) {
                return refuse(format!(
                    "the key must have 1 to {MAX_KEY} characters, but has {length}"
                ));
            }
            if key.contains('\0') {
                return refuse(
                    "the key contains a NUL character, which cannot be stored".to_owned(),
                );
            }
        }
        if self.timeout == Some(Duration::ZERO) {
            return refuse(format!(
                "the timeout of an execution of '{}' must be greater than zero",
                self.workflow
            ));
        }
        Ok(SubmitRequest {
            id: ExecutionId::generate(),
            workflow: self.workflow,
            input: self.context.into_values(),
            key: self.key,
            priority: self.priority,
            start_at: match self.start {
                Start::Now => None,
                Start::After(delay) => Some(now + micros(delay)),
                Start::At(at) => Some(at),
            },
            timeout: self.timeout.map(micros),
            labels: Labels::new(self.labels)?,
            trace: None,
        })
    }
}

/// The filter of [`DefaultRunner::list_executions`](super::DefaultRunner::list_executions). An execution must satisfy all
/// conditions. A filter without conditions lists the 50 newest executions without a parent.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct ExecutionFilter {
    inner: ListFilter,
}

impl ExecutionFilter {
    /// Creates a filter without conditions and with a limit of 50. Since 1.0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: ListFilter {
                limit: 50,
                ..ListFilter::default()
            },
        }
    }

    /// Lists only executions of this workflow. Several calls allow several workflows. Since 1.0.
    pub fn workflow(mut self, workflow: impl AsRef<str>) -> Self {
        self.inner.workflows.push(workflow.as_ref().to_owned());
        self
    }

    /// Lists only executions of workflow versions that begin with this text. Since 1.0.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.inner.versions.push(version.into());
        self
    }

    /// Lists only executions in this state. Several calls allow several states. Since 1.0.
    pub fn status(mut self, status: ExecutionStatus) -> Self {
        self.inner.statuses.push(status);
        self
    }

    /// Lists only executions that are not in this state. Several calls exclude several states. Since 1.0.
    pub fn not_status(mut self, status: ExecutionStatus) -> Self {
        self.inner.not_statuses.push(status);
        self
    }

    /// Lists only executions of workflows with this tag. Several calls with the same name allow several values; calls with
    /// different names require all of these tags. Since 1.0.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.tags.push((key.into(), value.into()));
        self
    }

    /// Lists only executions with this label. Several calls with the same name allow several values; calls with different
    /// names require all of these labels. Since 1.0.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.labels.push((name.into(), value.into()));
        self
    }

    /// Lists only executions with this key. Several calls allow several keys. Since 1.0.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.inner.keys.get_or_insert_default().push(key.into());
        self
    }

    /// Lists only executions whose id begins with this text. Since 1.0.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inner.id_prefix = Some(prefix.into());
        self
    }

    /// Lists only executions whose error contains this text in its type or its message. The comparison ignores case. Since 1.0.
    pub fn error(mut self, text: impl Into<String>) -> Self {
        self.inner.error = Some(text.into());
        self
    }

    /// Lists only executions whose input has this value. `path`: the keys that lead to the value, joined by dots. `value`:
    /// JSON, or the text of a string. Since 1.0.
    pub fn input(mut self, path: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.inputs.push((path.into(), value.into()));
        self
    }

    /// Lists only executions that this schedule or trigger has started. Since 1.0.
    pub const fn schedule(mut self, schedule: ScheduleId) -> Self {
        self.inner.schedule = Some(schedule);
        self
    }

    /// Lists only executions with tasks that this runner has claimed. Since 1.0.
    pub const fn runner(mut self, runner: RunnerId) -> Self {
        self.inner.runner = Some(runner);
        self
    }

    /// Lists only the children of this execution. Since 1.0.
    pub const fn parent(mut self, parent: ExecutionId) -> Self {
        self.inner.parent = Some(parent);
        self
    }

    /// Lists children too. Without this call and without [`parent`](Self::parent), only executions without a parent
    /// are listed. Since 1.0.
    pub const fn children(mut self) -> Self {
        self.inner.children = true;
        self
    }

    /// Lists only executions submitted at or after this time. Since 1.0.
    pub fn since(mut self, since: impl Into<Timestamp>) -> Self {
        self.inner.since = Some(since.into());
        self
    }

    /// Lists only executions submitted before this time. Since 1.0.
    pub fn until(mut self, until: impl Into<Timestamp>) -> Self {
        self.inner.until = Some(until.into());
        self
    }

    /// Maximum number of executions on a page. Since 1.0.
    pub const fn limit(mut self, limit: usize) -> Self {
        self.inner.limit = limit;
        self
    }

    /// Continues after a page. `cursor`: the [`ExecutionPage::next`] of that page. Since 1.0.
    pub const fn after(mut self, cursor: ExecutionId) -> Self {
        self.inner.before = Some(cursor);
        self
    }

    pub(super) fn into_inner(self) -> ListFilter {
        self.inner
    }
}

impl Default for ExecutionFilter {
    fn default() -> Self {
        Self::new()
    }
}

/// A page of a listing.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct ExecutionPage {
    /// The executions, newest first, each in the state in which it was read.
    pub items: Vec<WorkflowResult>,
    /// The cursor of the next page, if there may be one.
    pub next: Option<ExecutionId>,
    /// The time at which the last examined execution was submitted, if the listing stopped before the page was full. A listing
    /// stops after 20,000 executions that do not satisfy the filter, or after 100 ms; `next` continues there.
    pub scanned_until: Option<Timestamp>,
}

impl ExecutionPage {
    pub(super) fn new(page: FullPage, engine: &Arc<AsyncEngine>) -> Self {
        let items = page.items.into_iter();
        Self {
            items: items
                .map(|item| WorkflowResult::new(item, engine))
                .collect(),
            next: page.next,
            scanned_until: page.scanned.map(|scanned| scanned.until),
        }
    }
}
