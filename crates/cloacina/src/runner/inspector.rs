//! `Inspector`: reads a database and controls executions in it, without a runner.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::{Execution, history_of};
use crate::runtime::{Ended, Mailbox, Message, Subscriptions, WorkQueues, process};
use crate::store::{ListQuery, RunnerRow, Store, StoredDefinition};
use crate::types::sync::Mutex;
use crate::types::{
    Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    HistoryEvent, HistoryKind, Labels, LogChunk, Offer, Presence, Progress, StepKind, StepRecord,
    TaskRecord, TaskStatus, Timestamp, WaitKind,
};
use crate::workflow::{Workflow, WorkflowDefinition};

/// Reads a database for people and tools, and controls executions in it. It registers no runner and runs no tasks.
///
/// ```no_run
/// use cloacina::runner::{Access, Inspector};
///
/// let inspector = Inspector::open("sqlite:///etl.db", None, Access::Existing)?;
/// for runner in inspector.runners()? {
///     println!("{} {}", runner.id, runner.workflows.join(", "));
/// }
/// # Ok::<(), cloacina::types::Error>(())
/// ```
#[derive(Clone)]
pub struct Inspector {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// A cache of the definitions that were read.
    workflows: Arc<Mutex<FxHashMap<DefinitionId, Arc<Workflow>>>>,
    /// The work queues of the runner that the inspector belongs to. A queue knows the start of an attempt before the
    /// start is stored in the database. `None`: the inspector belongs to no runner.
    pub(super) queues: Option<WorkQueues>,
    /// The mailbox of the same runner.
    mailbox: Option<Arc<Mailbox>>,
    /// The subscriptions of the same runner. They also remember the ends of executions.
    subscriptions: Option<Arc<Subscriptions>>,
}

/// Maximum number of definitions in the inspector's cache.
const MAX_WORKFLOWS: usize = 1_000;

/// How an inspector opens a database: whether opening may change the database, and whether later writes are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Opening changes nothing, and the database refuses all later writes. The database must exist and have this program's
    /// schema version.
    ReadOnly,
    /// Opening changes nothing. The database must exist and have this program's schema version.
    Existing,
    /// The database is created if it does not exist, and migrated.
    Migrating,
}

/// A registered runner and the workflows for which it has handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// The runner and its liveness.
    pub presence: Presence,
    /// The names of the workflows for which the runner has handlers.
    pub workflows: Vec<String>,
}

impl std::ops::Deref for RunnerView {
    type Target = Presence;

    fn deref(&self) -> &Presence {
        &self.presence
    }
}

impl Inspector {
    /// Creates an inspector of an open store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            workflows: Arc::default(),
            queues: None,
            mailbox: None,
            subscriptions: None,
        }
    }

    /// Attaches the inspector to a runner of this process. The inspector then also reads the starts of attempts from
    /// the runner's work queues, and notifies the runner of changes.
    pub(super) fn of_runner(
        self,
        queues: WorkQueues,
        mailbox: Arc<Mailbox>,
        subscriptions: Arc<Subscriptions>,
    ) -> Self {
        Self {
            queues: Some(queues),
            mailbox: Some(mailbox),
            subscriptions: Some(subscriptions),
            ..self
        }
    }

    /// Notes the state of an execution that was just read. If the execution is open but the runner remembers an end
    /// of it, the execution has been retried since then, so the runner must forget this end.
    fn note_state(&self, id: ExecutionId, status: ExecutionStatus) {
        if let Some(subscriptions) = &self.subscriptions
            && !status.is_terminal()
        {
            subscriptions.note_open(id);
        }
    }

    /// Notifies all runners of a change that is already durable.
    pub(super) fn notify_runners(&self) {
        // If the notification fails, the other runners find the change at their next poll.
        if let Err(error) = self.store.notify_peers() {
            tracing::debug!(%error, "cannot notify the other runners of a change; they find it at their next poll");
        }
        self.notify_own_runner();
    }

    /// Notifies the runner that the inspector belongs to, if any, of a change that is already durable.
    pub(super) fn notify_own_runner(&self) {
        if let Some(mailbox) = &self.mailbox {
            // The runner's poll for changes does not detect writes of its own process.
            drop(mailbox.send(Message::Watch));
        }
    }

    /// The location of the database, without the password.
    #[must_use]
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// Returns the current time. Times in explanations are relative to it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the state of an execution.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn status(&self, id: ExecutionId) -> Result<ExecutionStatus, Error> {
        let states = self.store.statuses(&[id])?;
        let status = states.first().map(|(_, status)| *status);
        let status = status.ok_or_else(|| Error::unknown_execution(id))?;
        self.note_state(id, status);
        match status {
            // A worker of this process may have just started a task of the execution. The database does not know about this
            // start yet.
            ExecutionStatus::Pending if self.queues.is_some() => {
                Ok(self.outline(id)?.record().status)
            }
            status => Ok(status),
        }
    }

    /// Returns the current state of an execution with all its tasks. A task that a runner has prefetched is `Ready`, and
    /// names the runner that holds it. An execution is `Pending` until one of its tasks has started.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn execution(&self, id: ExecutionId) -> Result<Ended, Error> {
        let found = self.executions(&[id])?.pop();
        let found = found.ok_or_else(|| Error::unknown_execution(id))?;
        self.note_state(id, found.record().status);
        Ok(found)
    }

    /// Returns the current state of an execution with all its tasks, but without its input and without the writes of its
    /// tasks, which can be large.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn outline(&self, id: ExecutionId) -> Result<Ended, Error> {
        self.restore(self.store.outlines(&[id])?)?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// Returns the execution that was submitted for a workflow with this key; `None` if there is none.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn find(&self, workflow: &str, key: &str) -> Result<Option<ExecutionId>, Error> {
        if workflow.contains('\0') || key.contains('\0') {
            return Ok(None);
        }
        let query = ListQuery {
            workflow: Some(workflow.to_owned()),
            keys: Some(vec![key.to_owned()]),
            limit: 1,
            ..ListQuery::default()
        };
        Ok(self.store.list(&query)?.ids.pop())
    }

    /// Returns the key that an execution was submitted with; `None` if it has none.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn key(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        let summary = self.store.summaries(&[id])?.pop();
        summary
            .map(|record| record.key)
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// Returns the labels of an execution.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn labels(&self, id: ExecutionId) -> Result<Labels, Error> {
        let summary = self.store.summaries(&[id])?.pop();
        summary
            .map(|summary| summary.labels)
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// Returns an execution and its history, oldest event first.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn history(&self, id: ExecutionId) -> Result<(Ended, Vec<HistoryEvent>), Error> {
        let stored = self.store.history(id)?;
        let execution = self.execution(id)?;
        let steps = self.store.steps(id, None)?;
        let events = history_of(&execution, &self.labels(id)?, stored, &steps);
        Ok((execution, events))
    }

    /// Returns the recorded steps of an execution's tasks, each with the id of its task. The steps of a task are in the order
    /// in which they were recorded.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn steps(&self, id: ExecutionId) -> Result<Vec<(String, StepRecord)>, Error> {
        let steps = self.store.steps(id, None)?;
        let execution = self.execution(id)?;
        let tasks = &execution.workflow().definition().tasks;
        // If a call runs several children, the end of each child is also recorded as a step. Leave these steps out,
        // because they are part of the call's step.
        let own = steps.into_iter();
        let own = own.filter(|(_, step)| step.kind != StepKind::Child);
        let named = own.filter_map(|(task, step)| {
            let task = tasks.get(task as usize)?;
            Some((task.id.clone(), step))
        });
        Ok(named.collect())
    }

    /// Returns the trace context with which an execution was submitted, as JSON; `None` if it was submitted without one.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn trace(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        let history = self.store.history(id)?;
        let traced = HistoryKind::Traced.name();
        let event = history.into_iter().find(|event| event.kind == traced);
        Ok(event
            .and_then(|event| event.data)
            .map(|data| data.to_string()))
    }

    /// Returns the runners that have not been declared dead, in the order in which they started.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn runners(&self) -> Result<Vec<RunnerView>, Error> {
        let here = process::host();
        let view = |row: RunnerRow| RunnerView {
            presence: Presence {
                id: row.id,
                vanished: row.host == here && process::is_dead(row.pid, row.pid_started),
                host: process::name_of(&row.host).to_owned(),
                pid: row.pid,
                started_at: row.started_at,
                heartbeat_at: row.heartbeat_at,
                lease_until: row.lease_until,
            },
            workflows: row.workflows,
        };
        Ok(self.store.runners()?.into_iter().map(view).collect())
    }

    /// Returns the handlers that live runners have announced for tasks of a workflow.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn live_offers(&self, workflow: &str) -> Result<Vec<Offer>, Error> {
        let runners = self.runners()?;
        let now = self.now();
        let is_live = |offer: &Offer| {
            let mut own = runners.iter().filter(|runner| runner.id == offer.runner);
            own.any(|runner| runner.is_alive(now))
        };
        let mut offers = self.store.offers(workflow)?;
        offers.retain(is_live);
        Ok(offers)
    }

    /// Returns all stored versions of workflows, oldest first. Of the entries with the same name, the last is the latest
    /// version of the workflow. The workflows that the engine derives for final tasks are left out.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn workflows(&self) -> Result<Vec<(StoredDefinition, Arc<Workflow>)>, Error> {
        let stored = self.store.definitions(DefinitionId(0))?;
        let read = |stored: StoredDefinition| {
            let workflow = self.workflow(stored.id, Some(&stored.body))?;
            Ok((stored, workflow))
        };
        let all = stored.into_iter().map(read);
        let is_own = |read: &Result<(StoredDefinition, Arc<Workflow>), Error>| !matches!(read, Ok((_, workflow)) if workflow.definition().final_of.is_some());
        all.filter(is_own).collect()
    }

    /// Returns an execution, and the progress that its running tasks have reported.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn progress(&self, id: ExecutionId) -> Result<(Ended, Vec<Progress>), Error> {
        let execution = self.execution(id)?;
        let mut reports = self.store.progress(id)?;
        // Leaves out reports of earlier attempts. They are outdated even if the next attempt is claimed but has not started.
        reports.retain(|report| {
            let task = execution.record().tasks.get(report.task as usize);
            task.is_some_and(|task| {
                let is_claimed_only = task.status == TaskStatus::Ready && task.runner.is_some();
                task.attempt == report.attempt && !is_claimed_only
            })
        });
        // K12: the progress of a map is the number of its items that have ended.
        for row in self.maps_of(&execution)? {
            let Some(task) = execution.record().tasks.get(row.task as usize) else {
                continue;
            };
            reports.retain(|report| report.task != row.task);
            reports.push(Progress {
                execution: id,
                task: row.task,
                attempt: task.attempt,
                done: f64::from(row.done + row.failed + row.skipped),
                total: f64::from(row.width),
                message: Some(row.counts_text()),
                time: self.now(),
            });
        }
        Ok((execution, reports))
    }

    /// Returns an execution, and the captured log lines of its tasks.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn logs(&self, id: ExecutionId) -> Result<(Ended, Vec<LogChunk>), Error> {
        let execution = self.execution(id)?;
        Ok((execution, self.store.logs(id)?))
    }

    /// Returns the number of tasks that are ready and not claimed, counted up to `limit`. Tasks that wait for a retry, a
    /// timer, a signal or a child are not counted.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn backlog(&self, limit: usize) -> Result<usize, Error> {
        Ok(self.store.backlog(limit)?)
    }

    /// Returns the number of open waits of a kind, counted up to `limit`.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn count_waits(&self, kind: WaitKind, limit: usize) -> Result<usize, Error> {
        Ok(self.store.count_waits(kind, limit)?)
    }

    /// Returns a number that changes when another process changes the database. The number can also change for other
    /// reasons. A call costs at most one query.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn change_marker(&self) -> Result<i64, Error> {
        Ok(self.store.marker()?)
    }

    pub(super) fn executions(&self, ids: &[ExecutionId]) -> Result<Vec<Ended>, Error> {
        self.restore(self.store.load(ids)?)
    }

    pub(super) fn restore(&self, records: Vec<ExecutionRecord>) -> Result<Vec<Ended>, Error> {
        let is_unstarted = |task: &TaskRecord| task.claim().is_some() && task.started_at.is_none();
        let with_unstarted = records
            .iter()
            .filter(|record| record.tasks.iter().any(is_unstarted));
        let ids: FxHashSet<ExecutionId> = with_unstarted.map(|record| record.id).collect();
        let queues = self.queues.as_ref().filter(|_| !ids.is_empty());
        let starts = queues
            .map(|queues| queues.starts_of(&ids))
            .unwrap_or_default();
        let load = |record: ExecutionRecord| {
            let workflow = self.workflow_of(&record)?;
            let execution = Execution::restore(workflow, record)?;
            let id = execution.record().id;
            let started_at = |task, claim| starts.get(&(id, task, claim)).copied();
            Ok(Arc::new(execution.present(started_at)))
        };
        records.into_iter().map(load).collect()
    }

    pub(super) fn workflow_of(&self, record: &ExecutionRecord) -> Result<Arc<Workflow>, Error> {
        self.definition_of(record.definition, record.id)
    }

    /// Returns the definition of an execution.
    pub(super) fn definition_of(
        &self,
        definition: DefinitionId,
        execution: ExecutionId,
    ) -> Result<Arc<Workflow>, Error> {
        self.workflow(definition, None).map_err(|error| {
            error.with_hint(format!(
                "execution {execution} needs this definition; check whether another program changed the database"
            ))
        })
    }

    /// Returns a definition, from the cache or from its stored text. `body`: the stored text, if the caller has read it.
    pub(super) fn workflow(
        &self,
        id: DefinitionId,
        body: Option<&str>,
    ) -> Result<Arc<Workflow>, Error> {
        if let Some(known) = self.workflows.lock().get(&id)
            // A program may have replaced parts that do not affect the version, such as the schema of the input.
            && body.is_none_or(|body| body == known.stored().as_str())
        {
            return Ok(Arc::clone(known));
        }
        let workflow = if let Some(body) = body {
            Workflow::new(parse(body)?)?
        } else {
            let stored = self.store.definition(id)?.ok_or_else(|| {
                Error::new(
                    ErrorCode::Database,
                    format!("the workflow definition {} is not in the database", id.0),
                )
            })?;
            Workflow::new(parse(&stored.body)?)?
        };
        let workflow = Arc::new(workflow);
        let mut workflows = self.workflows.lock();
        if workflows.len() >= MAX_WORKFLOWS {
            workflows.clear();
        }
        workflows.insert(id, Arc::clone(&workflow));
        Ok(workflow)
    }
}

pub(super) fn parse(body: &str) -> Result<WorkflowDefinition, Error> {
    serde_json::from_str(body).map_err(|error| {
        Error::new(
            ErrorCode::Database,
            format!("a stored workflow definition cannot be read: {error}"),
        )
    })
}
