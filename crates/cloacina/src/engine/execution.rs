//! An execution together with its workflow: the value that every decision reads and changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Changes, Views};
use crate::types::{
    Claim, Context, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    Micros, Ordinal, ParentLink, RunnerId, TaskRecord, TaskStatus, Timestamp,
};
use crate::workflow::{TaskDefinition, Workflow};

/// An execution's record, with values derived from it.
#[derive(Clone, Debug)]
pub struct Execution {
    pub(super) workflow: Arc<Workflow>,
    pub(super) record: ExecutionRecord,
    /// For each task, the number of its dependencies that have not ended.
    pub(super) open_dependencies: Vec<u32>,
    /// The number of tasks that have not ended.
    pub(super) open_tasks: usize,
    pub(super) views: Views,
    /// The claims of the execution's tasks as the database stores them. A write to the row of such a task requires that the row
    /// still contains this claim.
    stored_claims: BTreeMap<Ordinal, Claim>,
    /// The state of the final tasks, which a retry must know. `None` if the state is not known. It is set when the end
    /// of the execution requests final tasks, and by [`learn_final_state`](Self::learn_final_state).
    pub(super) final_state: Option<super::FinalState>,
}

/// A submission of an execution.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// A fresh id.
    pub id: ExecutionId,
    /// The stored definition of the workflow.
    pub definition: DefinitionId,
    /// The initial context.
    pub input: Arc<Context>,
    /// The idempotency key.
    pub key: Option<String>,
    /// The priority: tasks of executions with a higher priority are claimed first.
    pub priority: i16,
    /// The time before which no task starts.
    pub start_at: Option<Timestamp>,
    /// Maximum run time from the first start, in microseconds.
    pub timeout: Option<Micros>,
}

/// The error of a stored record that is not a valid execution of its workflow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read execution {execution}: {reason}")]
pub struct Unreadable {
    execution: ExecutionId,
    reason: String,
}

impl Unreadable {
    /// The reason why the record is not valid.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::new(ErrorCode::Database, unreadable.to_string())
            .with_hint("check whether a newer release, or a program other than a runner, wrote into the database")
    }
}

/// Maximum value of a task's counters in a valid record.
const MAX_COUNT: u32 = 1 << 30;

fn check_record(workflow: &Workflow, record: &ExecutionRecord) -> Result<(), Unreadable> {
    let refuse = |reason: String| {
        Err(Unreadable {
            execution: record.id,
            reason,
        })
    };
    let (count, expected) = (record.tasks.len(), workflow.len());
    if count != expected {
        return refuse(format!(
            "it has {count} tasks, but its workflow '{}' has {expected}",
            workflow.name()
        ));
    }
    if !(1..i64::MAX).contains(&record.revision) {
        return refuse(format!(
            "its revision is {}, but a revision must be at least 1 and less than {}",
            record.revision,
            i64::MAX
        ));
    }
    let blamed = record.error.as_ref().and_then(|(task, _)| *task);
    if let Some(task) = blamed.filter(|task| *task as usize >= expected) {
        return refuse(format!(
            "its error names task {task}, but its workflow has {expected} tasks"
        ));
    }
    let status = record.status;
    let is_open = |task: &TaskRecord| !task.status.is_terminal();
    if record.tasks.iter().any(is_open) == status.is_terminal() {
        let tasks = if status.is_terminal() {
            "not all"
        } else {
            "all"
        };
        return refuse(format!(
            "it is {status}, but {tasks} of its tasks have ended"
        ));
    }
    if status.is_terminal() != record.ended_at.is_some()
        || (status == ExecutionStatus::Paused) != record.paused_at.is_some()
    {
        return refuse(format!(
            "it is {status}, but its timestamps do not match this state"
        ));
    }
    for (task, definition) in record.tasks.iter().zip(&workflow.definition().tasks) {
        let id = &definition.id;
        let is_running = task.status == TaskStatus::Running;
        let may_have_runner = is_running || task.status.is_terminal();
        if (is_running && (task.runner.is_none() || task.attempt == 0))
            || (task.runner.is_some() && !may_have_runner)
        {
            return refuse(format!(
                "its task '{id}' is {}, with attempt {} and {} runner",
                task.status,
                task.attempt,
                if task.runner.is_some() { "a" } else { "no" }
            ));
        }
        let most = task.attempt.max(task.uncounted).max(task.rescues);
        if most > MAX_COUNT {
            return refuse(format!(
                "a counter of its task '{id}' is {most}, more than the maximum of {MAX_COUNT}"
            ));
        }
    }
    Ok(())
}

impl Execution {
    /// Returns an execution from its stored record.
    ///
    /// # Errors
    /// Returns an error if no decision of the engine can lead to this record, for example because another program wrote into
    /// the database.
    pub fn restore(workflow: Arc<Workflow>, record: ExecutionRecord) -> Result<Self, Unreadable> {
        check_record(&workflow, &record)?;
        Ok(Self::load(workflow, record))
    }

    fn load(workflow: Arc<Workflow>, mut record: ExecutionRecord) -> Self {
        let own = record.parent.as_ref().and_then(|link| link.timeout);
        if let Some(own) = own.filter(|own| own.holds) {
            record.timeout = own.micros;
        }
        let claims = (0..).zip(&record.tasks);
        let claims = claims.filter_map(|(ordinal, task)| Some((ordinal, task.claim()?)));
        let mut execution = Self {
            stored_claims: claims.collect(),
            workflow,
            record,
            open_dependencies: Vec::new(),
            open_tasks: 0,
            views: Views::default(),
            final_state: None,
        };
        execution.count_open();
        execution
    }

    /// Returns a new execution. Its roots are ready, or are skipped if their rule does not hold (semantics C1, C6).
    #[must_use]
    pub fn submit(workflow: Arc<Workflow>, new: NewExecution, now: Timestamp) -> (Self, Changes) {
        Self::submit_child(workflow, new, None, now)
    }

    /// Like [`submit`](Self::submit), for a child of another execution.
    #[must_use]
    pub fn submit_child(
        workflow: Arc<Workflow>,
        new: NewExecution,
        parent: Option<Arc<ParentLink>>,
        now: Timestamp,
    ) -> (Self, Changes) {
        let mut execution = Self::unstarted(workflow, new, parent, now);
        let mut changes = Changes::default();
        let roots: Vec<Ordinal> = execution.workflow.graph().roots().collect();
        execution.propagate(roots, now, &mut changes);
        (execution, changes)
    }

    /// Returns a new execution in which no task is ready yet.
    pub(super) fn unstarted(
        workflow: Arc<Workflow>,
        new: NewExecution,
        parent: Option<Arc<ParentLink>>,
        now: Timestamp,
    ) -> Self {
        let record = ExecutionRecord {
            id: new.id,
            definition: new.definition,
            revision: 1,
            status: ExecutionStatus::Pending,
            priority: new.priority,
            key: new.key,
            input: new.input,
            created_at: now,
            start_at: new.start_at,
            started_at: None,
            ended_at: None,
            timeout: new.timeout,
            deadline: None,
            paused_at: None,
            error: None,
            parent,
            finale: None,
            tasks: vec![TaskRecord::pending(); workflow.len()],
        };
        Self::load(workflow, record)
    }

    /// The workflow.
    #[must_use]
    pub const fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// The record.
    #[must_use]
    pub const fn record(&self) -> &ExecutionRecord {
        &self.record
    }

    /// The record of a task.
    #[must_use]
    pub fn task(&self, ordinal: Ordinal) -> &TaskRecord {
        &self.record.tasks[ordinal as usize]
    }

    /// The priority with which a task is claimed (semantics C6).
    #[must_use]
    pub fn priority(&self, ordinal: Ordinal) -> i16 {
        self.definition(ordinal)
            .priority
            .unwrap_or(self.record.priority)
    }

    /// Sets the revision under which the changes will be written.
    pub fn set_revision(&mut self, revision: i64) {
        self.record.revision = revision;
    }

    /// Notes that the current rows of these tasks have been written to the database.
    pub fn note_written(&mut self, tasks: impl IntoIterator<Item = Ordinal>) {
        for ordinal in tasks {
            let task = self.task_mut(ordinal);
            task.stored |= task.status != TaskStatus::Pending || task.ready_at.is_some();
            match task.claim() {
                Some(claim) => self.stored_claims.insert(ordinal, claim),
                None => self.stored_claims.remove(&ordinal),
            };
        }
    }

    /// The claim of a task as it is stored in the database.
    #[must_use]
    pub fn stored_claim(&self, ordinal: Ordinal) -> Option<Claim> {
        self.stored_claims.get(&ordinal).copied()
    }

    /// Claims a ready task for a runner. Returns `None` if the task is waiting, is not ready or is not due, or if the
    /// execution is paused or has ended.
    pub fn claim(
        &mut self,
        ordinal: Ordinal,
        runner: RunnerId,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Option<Claim> {
        let status = self.record.status;
        let task = self.task(ordinal);
        let may_start = task.status == TaskStatus::Ready
            && !task.is_waiting()
            && task.ready_at.is_none_or(|at| at <= now)
            && matches!(status, ExecutionStatus::Pending | ExecutionStatus::Running);
        may_start.then(|| {
            changes.touch(ordinal);
            self.note_claim(ordinal, runner)
        })
    }

    /// Applies a claim that the store made. The attempt has not started yet: it starts when a worker takes the task (see
    /// [`note_started`](Self::note_started)).
    pub fn note_claim(&mut self, ordinal: Ordinal, runner: RunnerId) -> Claim {
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Running;
        task.attempt += 1;
        task.runner = Some(runner);
        task.ready_at = None;
        task.started_at = None;
        let attempt = task.attempt;
        self.record.status = ExecutionStatus::Running;
        Claim {
            runner,
            attempt,
            item: None,
        }
    }

    /// Notes the time at which a worker took a claimed task. Returns `false` if the task does not run under the claim.
    pub fn note_started(&mut self, ordinal: Ordinal, claim: Claim, at: Timestamp) -> bool {
        if !self.holds(ordinal, claim) {
            return false;
        }
        self.task_mut(ordinal).started_at = Some(at);
        let first = self.record.started_at.map_or(at, |first| first.min(at));
        self.record.started_at = Some(first);
        true
    }

    /// Returns the execution as it is shown to users. For example, a claimed task that no worker has taken is `Ready` and keeps
    /// its runner, and an execution without a started task is `Pending`.
    ///
    /// `started_at` returns the start time of a claimed attempt if the database does not contain this time yet; `None` if
    /// no worker is known to have started the attempt. Use the returned execution only for display: it is not a valid input
    /// of a decision.
    #[must_use]
    pub fn present(mut self, started_at: impl Fn(Ordinal, Claim) -> Option<Timestamp>) -> Self {
        for ordinal in (0..).take(self.record.tasks.len()) {
            if self.has_open_map(ordinal) {
                self.task_mut(ordinal).status = TaskStatus::Running;
            } else if self.task(ordinal).is_waiting() {
                self.task_mut(ordinal).status = TaskStatus::Waiting;
            }
            let task = self.task(ordinal);
            let Some(claim) = task.claim().filter(|_| task.started_at.is_none()) else {
                continue;
            };
            if let Some(at) = started_at(ordinal, claim) {
                self.note_started(ordinal, claim, at);
            } else {
                let task = self.task_mut(ordinal);
                task.status = TaskStatus::Ready;
                task.attempt -= 1;
            }
        }
        if self.record.status == ExecutionStatus::Running && self.record.started_at.is_none() {
            self.record.status = ExecutionStatus::Pending;
        }
        self
    }

    /// Whether the task runs under this claim. This is checked before every write about an attempt.
    #[must_use]
    pub fn holds(&self, ordinal: Ordinal, claim: Claim) -> bool {
        self.record
            .tasks
            .get(ordinal as usize)
            .and_then(TaskRecord::claim)
            == Some(claim)
    }

    /// Sets the deadline when a worker starts the first task (semantics D5). Changes nothing if the execution has no
    /// timeout or already has a deadline, or if the task does not run under the claim.
    pub fn start(&mut self, ordinal: Ordinal, claim: Claim, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        if let Some(timeout) = self.record.timeout
            && self.record.deadline.is_none()
            && self.note_started(ordinal, claim, now)
        {
            self.record.deadline = Some(now + timeout);
            changes.touch(ordinal);
        }
        changes
    }

    pub(super) fn definition(&self, ordinal: Ordinal) -> &TaskDefinition {
        self.workflow.task(ordinal)
    }

    pub(super) fn task_mut(&mut self, ordinal: Ordinal) -> &mut TaskRecord {
        &mut self.record.tasks[ordinal as usize]
    }

    pub(super) fn count_open(&mut self) {
        let graph = self.workflow.graph();
        let is_open = |task: &Ordinal| !self.record.tasks[*task as usize].status.is_terminal();
        let count = |task: Ordinal| {
            graph
                .dependencies(task)
                .iter()
                .filter(|other| is_open(other))
                .count()
        };
        let counts = (0..)
            .zip(&self.record.tasks)
            .map(|(task, _)| u32::try_from(count(task)).unwrap_or(u32::MAX));
        self.open_dependencies = counts.collect();
        self.open_tasks = self
            .record
            .tasks
            .iter()
            .filter(|task| !task.status.is_terminal())
            .count();
    }
}
