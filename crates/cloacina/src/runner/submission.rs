//! The options to submit an execution, and the filter and pages of a listing.

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

/// An execution to submit, with options beyond its workflow and its context.
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
    /// A submission of a workflow, given by its name or as a [`Workflow`](super::Workflow), that starts at once.
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

    /// Makes the submission idempotent: while an execution of this workflow with this key exists, submitting returns its
    /// handle and starts nothing. 1 to 512 characters. Since 1.0.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The priority (default 0): tasks of executions with a higher one are claimed first. Since 1.0.
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// The minimum time between the submission and the start. Since 1.0.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.start = Start::After(delay);
        self
    }

    /// The earliest start. Since 1.0.
    pub fn at(mut self, at: impl Into<Timestamp>) -> Self {
        self.start = Start::At(at.into());
        self
    }

    /// The timeout of the execution, from the start of its first task; the execution fails when it expires. Since 1.0.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A label, to find the execution by it later; call it several times for several labels. At most 32, with names of 1 to
    /// 128 characters and values of at most 512. Since 1.0.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    pub(super) fn into_request(self, now: Timestamp) -> Result<SubmitRequest, Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::Configuration, message));
        if let Some(key) = &self.key {
            let length = key.chars().count();
            if !(1..=MAX_KEY).contains(&length) {
                return refuse(format!("a key has 1 to {MAX_KEY} characters, not {length}"));
            }
            if key.contains('\0') {
                return refuse("a key cannot contain a NUL character".to_owned());
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

/// The filter of [`DefaultRunner::list_executions`](super::DefaultRunner::list_executions). All conditions must hold. Without
/// conditions it lists the 50 newest executions.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct ExecutionFilter {
    inner: ListFilter,
}

impl ExecutionFilter {
    /// A filter without conditions, with a limit of 50. Since 1.0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: ListFilter {
                limit: 50,
                ..ListFilter::default()
            },
        }
    }

    /// Only executions of this workflow; call it several times to allow several workflows. Since 1.0.
    pub fn workflow(mut self, workflow: impl AsRef<str>) -> Self {
        self.inner.workflows.push(workflow.as_ref().to_owned());
        self
    }

    /// Only executions of the versions whose hash begins with this text. Since 1.0.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.inner.versions.push(version.into());
        self
    }

    /// Only executions in this state; call it several times to allow several states. Since 1.0.
    pub fn status(mut self, status: ExecutionStatus) -> Self {
        self.inner.statuses.push(status);
        self
    }

    /// Only executions that are not in this state; call it several times to exclude several states. Since 1.0.
    pub fn not_status(mut self, status: ExecutionStatus) -> Self {
        self.inner.not_statuses.push(status);
        self
    }

    /// Only executions of workflows with this tag; after calls with several names, with all of these tags. Since 1.0.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.tags.push((key.into(), value.into()));
        self
    }

    /// Only executions with this label; after calls with several names, with all of these labels. Since 1.0.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.labels.push((name.into(), value.into()));
        self
    }

    /// Only executions with this key; call it several times to allow several keys. Since 1.0.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.inner.keys.get_or_insert_default().push(key.into());
        self
    }

    /// Only executions whose id begins with this text. Since 1.0.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inner.id_prefix = Some(prefix.into());
        self
    }

    /// Only executions whose error has this text in its type or its message, in any case. Since 1.0.
    pub fn error(mut self, text: impl Into<String>) -> Self {
        self.inner.error = Some(text.into());
        self
    }

    /// Only executions whose input has this value. `path` is the keys that lead to it, joined by dots; `value` is JSON or the
    /// text of a string. Since 1.0.
    pub fn input(mut self, path: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.inputs.push((path.into(), value.into()));
        self
    }

    /// Only executions that this schedule or trigger has started. Since 1.0.
    pub const fn schedule(mut self, schedule: ScheduleId) -> Self {
        self.inner.schedule = Some(schedule);
        self
    }

    /// Only executions with tasks that this runner is running. Since 1.0.
    pub const fn runner(mut self, runner: RunnerId) -> Self {
        self.inner.runner = Some(runner);
        self
    }

    /// Only the children of this execution. Since 1.0.
    pub const fn parent(mut self, parent: ExecutionId) -> Self {
        self.inner.parent = Some(parent);
        self
    }

    /// Also children, which are parts of other executions; without a call only roots are listed. Since 1.0.
    pub const fn children(mut self) -> Self {
        self.inner.children = true;
        self
    }

    /// Only executions submitted at or after this time. Since 1.0.
    pub fn since(mut self, since: impl Into<Timestamp>) -> Self {
        self.inner.since = Some(since.into());
        self
    }

    /// Only executions submitted before this time. Since 1.0.
    pub fn until(mut self, until: impl Into<Timestamp>) -> Self {
        self.inner.until = Some(until.into());
        self
    }

    /// Maximum number of executions on a page. Since 1.0.
    pub const fn limit(mut self, limit: usize) -> Self {
        self.inner.limit = limit;
        self
    }

    /// Continues after a page; `cursor` is the page's [`ExecutionPage::next`]. Since 1.0.
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
    /// The executions, newest first, in the state that they had when they were read.
    pub items: Vec<WorkflowResult>,
    /// The cursor of the next page, if there may be one.
    pub next: Option<ExecutionId>,
    /// If the search ended before the page was full, because it examined 20,000 executions or took 100 ms: the time at which
    /// the last examined execution was submitted. `next` continues there.
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
