//! One execution with its workflow: the value that every decision reads and changes.

use std::sync::Arc;

use super::{Changes, Views};
use crate::types::{
    Claim, Context, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    Micros, Ordinal, RunnerId, TaskRecord, TaskStatus, Timestamp,
};
use crate::workflow::{TaskDefinition, Workflow};

/// An execution's record with what is derived from it.
#[derive(Clone, Debug)]
pub struct Execution {
    pub(super) workflow: Arc<Workflow>,
    pub(super) record: ExecutionRecord,
    /// Per task: dependencies that have not ended.
    pub(super) open_dependencies: Vec<u32>,
    /// Tasks that have not ended.
    pub(super) open_tasks: usize,
    pub(super) views: Views,
}

/// What a submission says.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// A fresh id.
    pub id: ExecutionId,
    /// The stored definition of the workflow.
    pub definition: DefinitionId,
    /// What the tasks start from.
    pub input: Arc<Context>,
    /// Idempotency key.
    pub key: Option<String>,
    /// Claims go to higher ones first.
    pub priority: i16,
    /// Not to start before.
    pub start_at: Option<Timestamp>,
    /// Limit from the first start.
    pub timeout: Option<Micros>,
}

/// A stored record that cannot be one of the workflow's executions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("execution {execution} cannot be read: {reason}")]
pub struct Unreadable {
    execution: ExecutionId,
    reason: String,
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::new(ErrorCode::Database, unreadable.to_string()).with_hint(
            "something else than a runner wrote into the database, or a newer release did",
        )
    }
}

/// The largest plausible value of a task's counters.
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
            "it has {count} tasks, and its workflow '{}' has {expected}",
            workflow.name()
        ));
    }
    if !(1..i64::MAX).contains(&record.revision) {
        return refuse(format!("its revision is {}", record.revision));
    }
    let blamed = record.error.as_ref().and_then(|(task, _)| *task);
    if let Some(task) = blamed.filter(|task| *task as usize >= expected) {
        return refuse(format!("its error blames task {task} of {expected}"));
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
            "it is {status}, and {tasks} of its tasks have ended"
        ));
    }
    if status.is_terminal() != record.ended_at.is_some()
        || (status == ExecutionStatus::Paused) != record.paused_at.is_some()
    {
        return refuse(format!(
            "it is {status}, and its times are those of another state"
        ));
    }
    for (task, definition) in record.tasks.iter().zip(&workflow.definition().tasks) {
        let id = &definition.id;
        let is_running = task.status == TaskStatus::Running;
        if is_running != task.runner.is_some() || (is_running && task.attempt == 0) {
            return refuse(format!(
                "its task '{id}' is {}, with attempt {} and {} runner",
                task.status,
                task.attempt,
                if task.runner.is_some() { "a" } else { "no" }
            ));
        }
        let most = task.attempt.max(task.uncounted).max(task.rescues);
        if most > MAX_COUNT {
            return refuse(format!("its task '{id}' counts {most} attempts"));
        }
    }
    Ok(())
}

impl Execution {
    /// An execution from its stored record.
    ///
    /// # Errors
    /// When the record is not one that decisions about this workflow lead to: somebody else wrote into the database.
    pub fn restore(workflow: Arc<Workflow>, record: ExecutionRecord) -> Result<Self, Unreadable> {
        check_record(&workflow, &record)?;
        Ok(Self::load(workflow, record))
    }

    fn load(workflow: Arc<Workflow>, record: ExecutionRecord) -> Self {
        let mut execution = Self {
            workflow,
            record,
            open_dependencies: Vec::new(),
            open_tasks: 0,
            views: Views::default(),
        };
        execution.count_open();
        execution
    }

    /// A new execution: its roots ready, or skipped where their rule cannot hold (semantics C1, C6).
    #[must_use]
    pub fn submit(workflow: Arc<Workflow>, new: NewExecution, now: Timestamp) -> (Self, Changes) {
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
            tasks: vec![TaskRecord::pending(); workflow.len()],
        };
        let mut execution = Self::load(workflow, record);
        let mut changes = Changes::default();
        let roots: Vec<Ordinal> = execution.workflow.graph().roots().collect();
        execution.propagate(roots, now, &mut changes);
        (execution, changes)
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

    /// Takes the record out.
    #[must_use]
    pub fn into_record(self) -> ExecutionRecord {
        self.record
    }

    /// The state of a task.
    #[must_use]
    pub fn task(&self, ordinal: Ordinal) -> &TaskRecord {
        &self.record.tasks[ordinal as usize]
    }

    /// The priority that a task's claim has (semantics C6).
    #[must_use]
    pub fn priority(&self, ordinal: Ordinal) -> i16 {
        self.definition(ordinal)
            .priority
            .unwrap_or(self.record.priority)
    }

    /// The revision under which the changes will be written.
    pub fn set_revision(&mut self, revision: i64) {
        self.record.revision = revision;
    }

    /// The rows of these tasks exist now.
    pub fn written(&mut self, tasks: impl IntoIterator<Item = Ordinal>) {
        for task in tasks {
            let task = self.task_mut(task);
            task.stored |= task.status != TaskStatus::Pending || task.ready_at.is_some();
        }
    }

    /// Gives a ready task to a runner. `None` when it cannot start now: not ready, not due, or the execution is held.
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
            && task.ready_at.is_none_or(|at| at <= now)
            && matches!(status, ExecutionStatus::Pending | ExecutionStatus::Running);
        may_start.then(|| {
            changes.touch(ordinal);
            self.note_claim(ordinal, runner, now)
        })
    }

    /// Follows a claim that the store made.
    pub fn note_claim(&mut self, ordinal: Ordinal, runner: RunnerId, now: Timestamp) -> Claim {
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Running;
        task.attempt += 1;
        task.runner = Some(runner);
        task.ready_at = None;
        task.started_at = Some(now);
        let attempt = task.attempt;
        self.record.status = ExecutionStatus::Running;
        self.record.started_at.get_or_insert(now);
        Claim { runner, attempt }
    }

    /// Whether the claim is the one under which the task runs: every write about it asks first.
    #[must_use]
    pub fn holds(&self, ordinal: Ordinal, claim: Claim) -> bool {
        self.record
            .tasks
            .get(ordinal as usize)
            .and_then(TaskRecord::claim)
            == Some(claim)
    }

    /// Sets the deadline at the first real start of a task (semantics D5).
    pub fn start(&mut self, ordinal: Ordinal, claim: Claim, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        if let Some(timeout) = self.record.timeout
            && self.record.deadline.is_none()
            && self.holds(ordinal, claim)
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
