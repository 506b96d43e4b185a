//! `Inspector`: reads a database and controls executions in it, without a runner.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::listing::{ListFilter, ListPage};
use super::open::{StoreOptions, open_store};
use crate::engine::{DiagnosisInput, Execution, Reason, explain, history_of};
use crate::runtime::{Ended, WorkQueues, process};
use crate::store::{ListQuery, RunnerRow, Store, StoredDefinition};
use crate::types::sync::Mutex;
use crate::types::{
    Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    HistoryEvent, HistoryKind, LogChunk, Offer, Presence, Progress, ScheduleId, SystemClock,
    TaskStatus, Timestamp,
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
    queues: Option<WorkQueues>,
}

/// Maximum number of definitions in the inspector's cache.
const MAX_WORKFLOWS: usize = 1_000;

/// The changes that opening an inspector may make in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
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
        }
    }

    /// Reads the starts of attempts from the work queues of a runner of this process too.
    pub(super) fn with_queues(self, queues: WorkQueues) -> Self {
        Self {
            queues: Some(queues),
            ..self
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
                Ok(self.execution(id)?.record().status)
            }
            status => Ok(status),
        }
    }

    /// The current state of an execution with all its tasks. A task that a runner has claimed ahead of a free worker is
    /// `Ready`, with the runner that holds it, and an execution of which nothing has started is `Pending`.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn execution(&self, id: ExecutionId) -> Result<Ended, Error> {
        self.executions(&[id])?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// Lists executions, newest first, page by page, without their inputs and the writes of their tasks, which may be large.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn list(&self, filter: &ListFilter) -> Result<ListPage, Error> {
        // No workflow has such a name, and PostgreSQL refuses text with a NUL character.
        if let Some(workflow) = &filter.workflow
            && workflow.contains('\0')
        {
            return Ok(ListPage {
                items: Vec::new(),
                next: None,
            });
        }
        let keys = filter.keys.as_ref().map(|keys| {
            // No key has a NUL character either.
            let mut keys: Vec<String> = (keys.iter())
                .filter(|key| !key.contains('\0'))
                .cloned()
                .collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        });
        let definitions = if filter.tags.is_empty() {
            None
        } else {
            Some(self.definitions_with_tags(&filter.tags)?)
        };
        let is_by_start = (filter.statuses.contains(&ExecutionStatus::Pending))
            != filter.statuses.contains(&ExecutionStatus::Running);
        let queues = self.queues.as_ref().filter(|_| is_by_start);
        let query = ListQuery {
            workflow: filter.workflow.clone(),
            statuses: filter.statuses.clone(),
            started: queues.map(WorkQueues::started).unwrap_or_default(),
            definitions,
            keys,
            since: filter.since,
            before: filter.before,
            limit: filter.limit.saturating_add(1),
        };
        let mut ids = self.store.list(&query)?;
        let more = ids.len() > filter.limit;
        ids.truncate(filter.limit);
        let next = ids.last().copied().filter(|_| more);
        Ok(ListPage {
            items: self.restore(self.store.summaries(&ids)?)?,
            next,
        })
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
        Ok(self.store.list(&query)?.pop())
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

    /// Lists executions like [`list`](Self::list), but with their inputs and the writes of their tasks.
    pub(super) fn list_with_contexts(&self, filter: &ListFilter) -> Result<ListPage, Error> {
        let page = self.list(filter)?;
        let ids: Vec<ExecutionId> = page.items.iter().map(|item| item.record().id).collect();
        Ok(ListPage {
            items: self.executions(&ids)?,
            next: page.next,
        })
    }

    /// The history of an execution, oldest event first.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn history(&self, id: ExecutionId) -> Result<(Ended, Vec<HistoryEvent>), Error> {
        let stored = self.store.history(id)?;
        let execution = self.execution(id)?;
        let events = history_of(&execution, stored);
        Ok((execution, events))
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

    /// Returns the reasons why an execution waits or has ended: see [`explain`](crate::engine::explain).
    ///
    /// `own`: the handlers of this process, which may not be stored in the database yet.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn explain(&self, id: ExecutionId, own: &[Offer]) -> Result<Vec<Reason>, Error> {
        let execution = self.execution(id)?;
        let runners = self.runners()?;
        let mut offers = self.store.offers(execution.workflow().name())?;
        offers.extend(
            own.iter()
                .filter(|offer| offer.workflow == execution.workflow().name())
                .cloned(),
        );
        let presences: Vec<Presence> = runners.into_iter().map(|view| view.presence).collect();
        let input = DiagnosisInput {
            runners: &presences,
            offers: &offers,
            now: self.now(),
        };
        let mut reasons = explain(&execution, &input);
        reasons.extend(self.schedule_off(&execution)?);
        Ok(reasons)
    }

    /// Explains the execution, schedule or trigger with an id, in sentences.
    ///
    /// # Errors
    /// `ExecutionNotFound` when nothing has the id; `Database` or `Connection`.
    pub fn explain_id(&self, id: ExecutionId, own: &[Offer]) -> Result<Vec<String>, Error> {
        let unknown = match self.explain(id, own) {
            Err(error) if error.code == ErrorCode::ExecutionNotFound => error,
            answer => {
                let now = self.now();
                return Ok(answer?.iter().map(|reason| reason.sentence(now)).collect());
            }
        };
        let workflows: Vec<String> = own.iter().map(|offer| offer.workflow.clone()).collect();
        let of_schedule = self.explain_schedule(ScheduleId::from(id.uuid()), &workflows)?;
        let now = self.now();
        let sentences =
            of_schedule.map(|reasons| reasons.iter().map(|reason| reason.sentence(now)).collect());
        sentences.ok_or(unknown)
    }

    /// The reason that the schedule which started an execution no longer fires, if so.
    fn schedule_off(&self, execution: &Execution) -> Result<Option<Reason>, Error> {
        let input = &execution.record().input;
        let Some(id) = input
            .get("schedule_id")
            .and_then(|id| serde_json::from_str::<String>(id.as_str()).ok())
            .and_then(|id| id.parse::<ScheduleId>().ok())
        else {
            return Ok(None);
        };
        let schedule = self
            .store
            .schedule(id)?
            .filter(|schedule| !schedule.enabled);
        Ok(schedule.map(|schedule| Reason::ScheduleOff {
            schedule: id,
            deleted: schedule.deleted_at.is_some(),
        }))
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

    /// All stored versions of workflows, oldest first. The last one of a name is its latest version.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn workflows(&self) -> Result<Vec<(StoredDefinition, Arc<Workflow>)>, Error> {
        let stored = self.store.definitions(DefinitionId(0))?;
        let read = |stored: StoredDefinition| {
            let workflow = self.workflow(stored.id, Some(&stored.body))?;
            Ok((stored, workflow))
        };
        stored.into_iter().map(read).collect()
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

    pub(super) fn executions(&self, ids: &[ExecutionId]) -> Result<Vec<Ended>, Error> {
        self.restore(self.store.load(ids)?)
    }

    fn restore(&self, records: Vec<ExecutionRecord>) -> Result<Vec<Ended>, Error> {
        let load = |record: ExecutionRecord| {
            let workflow = self.workflow_of(&record)?;
            let execution = Execution::restore(workflow, record)?;
            let id = execution.record().id;
            let started_at = |task, claim| self.queues.as_ref()?.start_of(id, task, claim);
            Ok(Arc::new(execution.present(started_at)))
        };
        records.into_iter().map(load).collect()
    }

    pub(super) fn workflow_of(&self, record: &ExecutionRecord) -> Result<Arc<Workflow>, Error> {
        self.workflow(record.definition, None).map_err(|error| {
            error.with_hint(format!("it is the definition of execution {}", record.id))
        })
    }

    pub(super) fn workflow(
        &self,
        id: DefinitionId,
        body: Option<&str>,
    ) -> Result<Arc<Workflow>, Error> {
        if let Some(known) = self.workflows.lock().get(&id) {
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

    fn definitions_with_tags(&self, tags: &[(String, String)]) -> Result<Vec<DefinitionId>, Error> {
        let mut ids = Vec::new();
        for stored in self.store.definitions(DefinitionId(0))? {
            let definition = parse(&stored.body)?;
            if tags
                .iter()
                .all(|(key, value)| definition.tags.get(key) == Some(value))
            {
                ids.push(stored.id);
            }
        }
        Ok(ids)
    }
}

fn parse(body: &str) -> Result<WorkflowDefinition, Error> {
    serde_json::from_str(body).map_err(|error| {
        Error::new(
            ErrorCode::Database,
            format!("a stored workflow definition cannot be read: {error}"),
        )
    })
}
