//! `Inspector`: reads a database and controls executions in it, without a runner.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::open::{StoreOptions, open_store};
use crate::engine::{Execution, history_of};
use crate::runtime::{Ended, Mailbox, Message, WorkQueues, process};
use crate::store::{ListQuery, RunnerRow, Store, StoredDefinition};
use crate::types::sync::Mutex;
use crate::types::{
    Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    HistoryEvent, HistoryKind, Labels, LogChunk, Offer, Presence, Progress, StepKind, StepRecord,
    SystemClock, TaskRecord, TaskStatus, Timestamp, WaitKind,
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
    /// The work queues of a runner of this process, which know the starts of attempts before the database does.
    pub(super) queues: Option<WorkQueues>,
    /// The mailbox of that runner.
    mailbox: Option<Arc<Mailbox>>,
}

/// Maximum number of definitions in the inspector's cache.
const MAX_WORKFLOWS: usize = 1_000;

/// The changes that opening an inspector may make in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing, also later: the database itself refuses to write, and it must exist and have this program's schema version.
    ReadOnly,
    /// Nothing: the database must exist and have this program's schema version.
    Existing,
    /// The database is created if it does not exist, and migrated.
    Migrating,
}

/// A registered runner and the workflows that it has handlers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// The runner and its liveness.
    pub presence: Presence,
    /// Names of the workflows that it has handlers for.
    pub workflows: Vec<String>,
}

impl std::ops::Deref for RunnerView {
    type Target = Presence;

    fn deref(&self) -> &Presence {
        &self.presence
    }
}

impl Inspector {
    /// Opens a database, in a PostgreSQL schema if one is given.
    ///
    /// # Errors
    /// `UrlInvalid`; `Configuration` for an invalid schema; `Database`, `Connection` or `Migration` when the database does
    /// not exist, cannot be opened or has another schema version.
    pub fn open(url: &str, schema: Option<&str>, access: Access) -> Result<Self, Error> {
        let migrating = access == Access::Migrating;
        let how = StoreOptions {
            schema,
            auto_migrate: migrating,
            create: migrating,
            connections: None,
            busy_timeout: None,
            patience: None,
            read_only: access == Access::ReadOnly,
        };
        let opened = open_store(url, &how)?;
        Ok(Self::new(opened.store, Arc::new(SystemClock)))
    }

    /// Creates an inspector of an open store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            workflows: Arc::default(),
            queues: None,
            mailbox: None,
        }
    }

    /// Reads the starts of attempts from the work queues of a runner of this process too, and tells this runner of changes.
    pub(super) fn of_runner(self, queues: WorkQueues, mailbox: Arc<Mailbox>) -> Self {
        Self {
            queues: Some(queues),
            mailbox: Some(mailbox),
            ..self
        }
    }

    /// Tells the runners that there is something to claim. It is durable already, so a failure only delays them.
    pub(super) fn tell_runners(&self) {
        let _ = self.store.notify_peers();
        self.tell_own_runner();
    }

    /// Tells the runner that the inspector belongs to, if any, that there is something to claim.
    pub(super) fn tell_own_runner(&self) {
        if let Some(mailbox) = &self.mailbox {
            // A poll for changes does not see what its own process wrote.
            drop(mailbox.send(Message::Watch));
        }
    }

    /// The location of the database, without the password.
    #[must_use]
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The current time, to which the times in explanations are relative.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The state of an execution.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn status(&self, id: ExecutionId) -> Result<ExecutionStatus, Error> {
        let states = self.store.statuses(&[id])?;
        let status = states.first().map(|(_, status)| *status);
        match status.ok_or_else(|| Error::unknown_execution(id))? {
            // A worker of this process may have taken a task of it a moment ago.
            ExecutionStatus::Pending if self.queues.is_some() => {
                Ok(self.outline(id)?.record().status)
            }
            status => Ok(status),
        }
    }

    /// The current state of an execution with all its tasks. A task that a runner has claimed ahead of a free worker is
    /// `Ready`, with the runner that holds it, and an execution without a started task is `Pending`.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn execution(&self, id: ExecutionId) -> Result<Ended, Error> {
        self.executions(&[id])?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// The current state of an execution with all its tasks, without its input and the writes of its tasks, which may be large.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn outline(&self, id: ExecutionId) -> Result<Ended, Error> {
        self.restore(self.store.outlines(&[id])?)?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// Returns the execution of a workflow with a key; `None` if there is none.
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

    /// The history of an execution, oldest event first.
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

    /// The recorded steps of an execution's tasks, each with the task's id, by task in the order in which they were recorded.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn steps(&self, id: ExecutionId) -> Result<Vec<(String, StepRecord)>, Error> {
        let steps = self.store.steps(id, None)?;
        let execution = self.execution(id)?;
        let tasks = &execution.workflow().definition().tasks;
        // The ends of several children of one call are parts of the step of the call.
        let own = steps.into_iter();
        let own = own.filter(|(_, step)| step.kind != StepKind::Child);
        let named = own.filter_map(|(task, step)| {
            let task = tasks.get(task as usize)?;
            Some((task.id.clone(), step))
        });
        Ok(named.collect())
    }

    /// The trace context of an execution's submission, as JSON; `None` when it was submitted without one.
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

    /// The runners that have not been declared dead, in the order of their start.
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

    /// The handlers for tasks of a workflow that live runners have announced.
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

    /// All stored versions of workflows, oldest first. The last one of a name is its latest version. Derived workflows of final
    /// tasks are left out.
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

    /// The progress that the running tasks of an execution have reported.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn progress(&self, id: ExecutionId) -> Result<(Ended, Vec<Progress>), Error> {
        let execution = self.execution(id)?;
        let mut reports = self.store.progress(id)?;
        // Reports of earlier attempts are outdated, also if the next one is claimed and has not started.
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

    /// The captured log lines of an execution's tasks.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn logs(&self, id: ExecutionId) -> Result<(Ended, Vec<LogChunk>), Error> {
        let execution = self.execution(id)?;
        Ok((execution, self.store.logs(id)?))
    }

    /// The number of tasks that are ready and not claimed, counted up to `limit`.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn backlog(&self, limit: usize) -> Result<usize, Error> {
        Ok(self.store.backlog(limit)?)
    }

    /// The number of open waits of a kind, counted up to `limit`.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn count_waits(&self, kind: WaitKind, limit: usize) -> Result<usize, Error> {
        Ok(self.store.count_waits(kind, limit)?)
    }

    /// Returns a number that differs from an earlier one if another process may have changed the database in between. It
    /// costs a query at most, and nothing while it is not called.
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
        let waits = |task: &TaskRecord| task.claim().is_some() && task.started_at.is_none();
        let with_claim = records
            .iter()
            .filter(|record| record.tasks.iter().any(waits));
        let ids: FxHashSet<ExecutionId> = with_claim.map(|record| record.id).collect();
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

    /// The definition of an execution.
    pub(super) fn definition_of(
        &self,
        definition: DefinitionId,
        execution: ExecutionId,
    ) -> Result<Arc<Workflow>, Error> {
        self.workflow(definition, None).map_err(|error| {
            error.with_hint(format!("it is the definition of execution {execution}"))
        })
    }

    /// A definition from the cache, or from its stored text. `body`: the text, if the caller has read it.
    pub(super) fn workflow(
        &self,
        id: DefinitionId,
        body: Option<&str>,
    ) -> Result<Arc<Workflow>, Error> {
        if let Some(known) = self.workflows.lock().get(&id)
            // A program may have replaced what does not change the version, such as the schema of the input.
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
