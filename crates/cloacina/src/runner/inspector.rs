//! Looking at a database, and controlling executions in it, without running anything.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::listing::{ListFilter, Page};
use super::open::{StoreOptions, open_store};
use crate::engine::{DiagnosisInput, Execution, Reason, explain, history_of};
use crate::runtime::{Control, Ended, control_directly, process};
use crate::store::{Health, ListQuery, RunnerRow, Store, StoredDefinition};
use crate::types::sync::Mutex;
use crate::types::{
    Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    HistoryEvent, HistoryKind, LogChunk, Offer, Presence, Progress, ScheduleId, SystemClock,
    Timestamp,
};
use crate::workflow::{Workflow, WorkflowDefinition};

/// A database as people and tools look at it. It registers no runner and starts no thread of work.
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
    /// Definitions that were read, by the executions that were shown.
    workflows: Arc<Mutex<FxHashMap<DefinitionId, Arc<Workflow>>>>,
}

/// The number of definitions that an inspector remembers.
const MAX_WORKFLOWS: usize = 1_000;

/// More versions of workflows than this are worth a word of `db check`: a year of daily deploys of a few workflows stays below.
const MANY_VERSIONS: u64 = 5_000;

/// What opening a database may do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must exist and have this program's schema.
    Existing,
    /// It is created where it does not exist, and migrated.
    Migrating,
}

/// A runner that is there, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// Who it is.
    pub presence: Presence,
    /// Names of the workflows that it has.
    pub workflows: Vec<String>,
}

impl std::ops::Deref for RunnerView {
    type Target = Presence;

    fn deref(&self) -> &Presence {
        &self.presence
    }
}

impl Inspector {
    /// Opens the database of a URL, in a schema of it where one is given.
    ///
    /// # Errors
    /// For a URL that cannot be read, or a database that does not exist, cannot be opened, or lacks the schema's version.
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

    /// Looks at a store that is open already.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            workflows: Arc::default(),
        }
    }

    /// Where the data is, without a password.
    #[must_use]
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The time by which sentences and ages are told.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The state of an execution.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn status(&self, id: ExecutionId) -> Result<ExecutionStatus, Error> {
        let states = self.store.statuses(&[id])?;
        states
            .first()
            .map(|(_, status)| *status)
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// An execution as it is now.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn execution(&self, id: ExecutionId) -> Result<Ended, Error> {
        self.executions(&[id])?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))
    }

    /// Executions, newest first, page by page: without inputs and without what their tasks wrote, which may be large.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn list(&self, filter: &ListFilter) -> Result<Page, Error> {
        // No workflow has such a name, and PostgreSQL takes no such text.
        if let Some(workflow) = &filter.workflow
            && workflow.contains('\0')
        {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        }
        let definitions = if filter.tags.is_empty() {
            None
        } else {
            Some(self.tagged(&filter.tags)?)
        };
        let query = ListQuery {
            workflow: filter.workflow.clone(),
            statuses: filter.statuses.clone(),
            definitions,
            since: filter.since,
            before: filter.before,
            limit: filter.limit.saturating_add(1),
        };
        let mut ids = self.store.list(&query)?;
        let more = ids.len() > filter.limit;
        ids.truncate(filter.limit);
        let next = ids.last().copied().filter(|_| more);
        Ok(Page {
            items: self.loaded(self.store.summaries(&ids)?)?,
            next,
        })
    }

    /// The history of an execution, oldest first.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn history(&self, id: ExecutionId) -> Result<(Ended, Vec<HistoryEvent>), Error> {
        let stored = self.store.history(id)?;
        let execution = self.execution(id)?;
        let events = history_of(&execution, stored);
        Ok((execution, events))
    }

    /// The trace context that an execution was submitted with, as JSON.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn trace(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        let history = self.store.history(id)?;
        let traced = HistoryKind::Traced.name();
        let event = history.into_iter().find(|event| event.kind == traced);
        Ok(event
            .and_then(|event| event.data)
            .map(|data| data.to_string()))
    }

    /// Why an execution is where it is: see [`explain`](crate::engine::explain).
    ///
    /// `own` are handlers of this process that the database may not have been told of yet.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
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

    /// [`explain`](Self::explain) in sentences, or the same of a schedule or a trigger, whichever has the id.
    ///
    /// # Errors
    /// For an id that neither has, or a database in trouble.
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

    /// The schedule that an execution comes from, if that fires no more.
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

    /// The runners that were not declared dead, in the order of their start.
    ///
    /// # Errors
    /// When the database is in trouble.
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

    /// The stored versions of workflows, oldest first; the last of a name is its latest.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn workflows(&self) -> Result<Vec<(StoredDefinition, Arc<Workflow>)>, Error> {
        let stored = self.store.definitions(DefinitionId(0))?;
        let read = |stored: StoredDefinition| {
            let workflow = self.workflow(stored.id, Some(&stored.body))?;
            Ok((stored, workflow))
        };
        stored.into_iter().map(read).collect()
    }

    /// How far the running tasks of an execution say they are.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn progress(&self, id: ExecutionId) -> Result<(Ended, Vec<Progress>), Error> {
        let execution = self.execution(id)?;
        let mut said = self.store.progress(id)?;
        // What an earlier attempt said does not count.
        said.retain(|said| {
            execution
                .record()
                .tasks
                .get(said.task as usize)
                .is_some_and(|task| task.attempt == said.attempt)
        });
        Ok((execution, said))
    }

    /// The captured log lines of an execution.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn logs(&self, id: ExecutionId) -> Result<(Ended, Vec<LogChunk>), Error> {
        let execution = self.execution(id)?;
        Ok((execution, self.store.logs(id)?))
    }

    /// Tasks that are ready and claimed by nobody, counted up to `limit`.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn backlog(&self, limit: usize) -> Result<usize, Error> {
        Ok(self.store.backlog(limit)?)
    }

    /// Asks something of an execution, without a runner; its state afterwards, durable.
    ///
    /// # Errors
    /// For an unknown id, a state that does not allow it, or a database in trouble.
    pub fn control(&self, id: ExecutionId, action: &Control) -> Result<ExecutionStatus, Error> {
        control_directly(&*self.store, &*self.clock, id, action, |record| {
            self.workflow_of(record)
        })
    }

    /// Deletes at most `limit` executions that ended before `before`, oldest first (semantics E8).
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        Ok(self.store.prune(before, limit)?)
    }

    /// Looks whether the database is sound.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn check(&self) -> Result<Health, Error> {
        let mut health = self.store.check()?;
        let versions = self.store.count_definitions()?;
        if versions > MANY_VERSIONS {
            health.advice.push(format!(
                "{versions} versions of workflows are stored: a program that makes a new one at each start, for example by a value \
                 that its functions enclose, should keep it in the context; versions that nothing needs go with `retention`"
            ));
        }
        Ok(health)
    }

    pub(super) fn executions(&self, ids: &[ExecutionId]) -> Result<Vec<Ended>, Error> {
        self.loaded(self.store.load(ids)?)
    }

    fn loaded(&self, records: Vec<ExecutionRecord>) -> Result<Vec<Ended>, Error> {
        let load = |record: ExecutionRecord| {
            let workflow = self.workflow_of(&record)?;
            Ok(Arc::new(Execution::restore(workflow, record)?))
        };
        records.into_iter().map(load).collect()
    }

    fn workflow_of(&self, record: &ExecutionRecord) -> Result<Arc<Workflow>, Error> {
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
                    format!("the workflow definition {} is gone", id.0),
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

    fn tagged(&self, tags: &[(String, String)]) -> Result<Vec<DefinitionId>, Error> {
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
