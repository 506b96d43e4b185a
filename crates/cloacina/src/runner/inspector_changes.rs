//! Changes to a database without a runner: submissions, control, pruning, and the check of its integrity.

use std::sync::Arc;

use super::Inspector;
use super::submission::Submission;
use crate::engine::origin;
use crate::runtime::{
    Control, Guarded, SubmitRequest, Submitted, control_directly, control_guarded,
    control_many_directly, submit_directly,
};
use crate::store::Health;
use crate::types::{
    Audit, Context, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionStatus, Labels,
    Timestamp, nearest,
};
use crate::workflow::Workflow;

/// Number of stored workflow versions above which `db check` gives advice. A year of daily deployments of a few workflows
/// stays below it.
const MANY_VERSIONS: u64 = 5_000;

/// The version of the workflow that a repeated execution runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RerunVersion {
    /// That of the earlier execution.
    #[default]
    Original,
    /// The latest stored one.
    Latest,
}

/// How an execution is repeated. By default: with the same input, version, labels, priority and timeout, and without a key.
#[derive(Clone, Debug, Default)]
pub struct Rerun {
    /// The input; `None`: that of the earlier execution.
    pub input: Option<Context>,
    /// The version of the workflow.
    pub version: RerunVersion,
    /// The labels; `None`: those of the earlier execution.
    pub labels: Option<Labels>,
    /// The person or program that repeats it, and the reason.
    pub audit: Audit,
}

impl Inspector {
    /// Submits an execution, without a runner, and returns it once it is durable. A program must have stored the workflow in
    /// this database. A live runner with handlers for its tasks runs it.
    ///
    /// A runner's default timeout of executions does not apply.
    ///
    /// # Errors
    /// `WorkflowNotFound` when no program has stored the workflow; `WorkflowInputInvalid` for an input that does not match the
    /// stored schema of `input=`; `Configuration` for an invalid option; `ContextInvalid` for an input of more than 16 MiB;
    /// `Database` or `Connection`.
    pub fn submit(&self, submission: Submission) -> Result<Submitted, Error> {
        self.submit_request(submission.into_request(self.now())?)
    }

    /// Like [`submit`](Self::submit); the history tells who submitted the execution, and why.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn submit_for(&self, submission: Submission, audit: &Audit) -> Result<Submitted, Error> {
        self.submit_as(submission.into_request(self.now())?, audit)
    }

    /// Like [`submit`](Self::submit), for the engine's form of a submission.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn submit_request(&self, request: SubmitRequest) -> Result<Submitted, Error> {
        self.submit_as(request, &Audit::default())
    }

    /// Like [`submit_request`](Self::submit_request); the history tells who submitted the execution, and why.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn submit_as(&self, request: SubmitRequest, audit: &Audit) -> Result<Submitted, Error> {
        let (request, definition, workflow) = self.complete(request)?;
        let origin = origin(None, audit, self.now());
        let (store, clock) = (&*self.store, &*self.clock);
        let submitted = submit_directly(store, clock, request, definition, workflow, origin)?;
        self.tell_own_runner();
        Ok(submitted)
    }

    /// Checks a submission as [`submit`](Self::submit) does, and submits nothing.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn check_submission(&self, submission: Submission) -> Result<(), Error> {
        let (request, _, workflow) = self.complete(submission.into_request(self.now())?)?;
        request.check(&workflow)
    }

    /// A submission with the defaults of its input, and the latest stored version of its workflow.
    fn complete(
        &self,
        mut request: SubmitRequest,
    ) -> Result<(SubmitRequest, DefinitionId, Arc<Workflow>), Error> {
        let Some((definition, workflow)) = self.latest_workflow(&request.workflow)? else {
            return Err(self.unknown_workflow(&request.workflow)?);
        };
        request.input = workflow.complete_input(&request.input, true)?;
        Ok((request, definition, workflow))
    }

    /// Submits a new execution like an earlier one, whose history names the earlier one.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `WorkflowNotFound`; `WorkflowInputInvalid` for a new input that does not match the schema of `input=`
    /// in the chosen version; `ContextInvalid` for an input that is too large; `Database` or `Connection`.
    pub fn rerun(&self, id: ExecutionId, rerun: Rerun) -> Result<Submitted, Error> {
        let earlier = self.execution(id)?;
        let record = earlier.record();
        let name = earlier.workflow().name();
        let (definition, workflow) = match rerun.version {
            RerunVersion::Original => (record.definition, Arc::clone(earlier.workflow())),
            RerunVersion::Latest => match self.latest_workflow(name)? {
                Some(latest) => latest,
                None => return Err(self.unknown_workflow(name)?),
            },
        };
        workflow.check_needs()?;
        let request = SubmitRequest {
            id: ExecutionId::generate(),
            workflow: name.to_owned(),
            input: match rerun.input {
                // A client may keep earlier values that it may not see.
                Some(input) => self
                    .fresh(definition)?
                    .complete_input(&Arc::new(input), false)?,
                None => Arc::clone(&record.input),
            },
            key: None,
            priority: record.priority,
            start_at: None,
            timeout: record.timeout,
            labels: match rerun.labels {
                Some(labels) => labels,
                None => self.labels(id)?,
            },
            trace: None,
        };
        let origin = origin(Some(id), &rerun.audit, self.now());
        let (store, clock) = (&*self.store, &*self.clock);
        let submitted = submit_directly(store, clock, request, definition, workflow, origin)?;
        self.tell_own_runner();
        Ok(submitted)
    }

    /// A definition as it is stored now: what does not change the version may have been replaced, such as the schema of the input.
    fn fresh(&self, id: DefinitionId) -> Result<Arc<Workflow>, Error> {
        let stored = self.store.definition(id)?;
        self.workflow(id, stored.as_ref().map(|stored| &*stored.body))
    }

    fn unknown_workflow(&self, name: &str) -> Result<Error, Error> {
        let versions = self.store.versions(DefinitionId(0))?;
        let names = versions.iter().map(|version| version.workflow.as_str());
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean '{near}'?"),
            None => "run a program that defines it on this database".to_owned(),
        };
        Ok(Error::new(
            ErrorCode::WorkflowNotFound,
            format!(
                "workflow '{name}' is not known: no program has stored its definition in this database"
            ),
        )
        .with_hint(hint))
    }

    /// Applies a control action to an execution, without a runner, and returns its new state, which is durable.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `ExecutionState` when the state does not allow the action; `Database` or `Connection`.
    pub fn control(&self, id: ExecutionId, action: &Control) -> Result<ExecutionStatus, Error> {
        self.control_as(id, action, &Audit::default())
    }

    /// Like [`control`](Self::control); the history tells who asked for the action, and why.
    ///
    /// # Errors
    /// See [`control`](Self::control).
    pub fn control_as(
        &self,
        id: ExecutionId,
        action: &Control,
        audit: &Audit,
    ) -> Result<ExecutionStatus, Error> {
        control_directly(&*self.store, &*self.clock, id, action, audit, |record| {
            self.workflow_of(record)
        })
    }

    /// Like [`control_as`](Self::control_as), but only if the execution has this revision. The transaction that writes the
    /// change compares it.
    ///
    /// # Errors
    /// See [`control`](Self::control).
    pub fn control_if(
        &self,
        id: ExecutionId,
        revision: i64,
        action: &Control,
        audit: &Audit,
    ) -> Result<Guarded, Error> {
        let wanted = Some(revision);
        control_guarded(
            &*self.store,
            &*self.clock,
            id,
            action,
            audit,
            wanted,
            |record| self.workflow_of(record),
        )
    }

    /// Applies a control action to many executions, a hundred in each commit, and returns the outcome for each: its new state,
    /// which is durable, or the reason why nothing was changed.
    pub fn control_many(
        &self,
        ids: &[ExecutionId],
        action: &Control,
        audit: &Audit,
    ) -> Vec<(ExecutionId, Result<ExecutionStatus, Error>)> {
        control_many_directly(&*self.store, &*self.clock, ids, action, audit, |record| {
            self.workflow_of(record)
        })
    }

    /// Deletes an execution that has ended, with all its data. A child is deleted after its parent.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `ExecutionState` for an execution that has not ended, whose final tasks are open, or that is a child of a stored one; `Database` or
    /// `Connection`.
    pub fn delete(&self, id: ExecutionId) -> Result<(), Error> {
        if self.store.delete_execution(id)? {
            self.notify_runners();
            return Ok(());
        }
        let Some(known) = self.store.summaries(&[id])?.pop() else {
            return Err(Error::unknown_execution(id));
        };
        let (message, hint) = match &known.parent {
            Some(link) if known.status.is_terminal() => (
                format!(
                    "cannot delete execution {id}: it is a child of execution {}",
                    link.execution
                ),
                "delete its parent first",
            ),
            None if known.status.is_terminal() => (
                format!("cannot delete execution {id}: its final tasks are open"),
                "wait for their end, or cancel their execution",
            ),
            _ => (
                format!("cannot delete execution {id}: it is {}", known.status),
                "cancel it, or wait for its end",
            ),
        };
        Err(Error::new(ErrorCode::ExecutionState, message).with_hint(hint))
    }

    /// Deletes at most `limit` executions that ended before `before`, oldest first, and returns their number (semantics E8).
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        Ok(self.store.prune(before, limit)?)
    }

    /// Checks the integrity of the database.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database does not answer.
    pub fn check(&self) -> Result<Health, Error> {
        let mut health = self.store.check()?;
        let versions = self.store.count_definitions()?;
        if versions > MANY_VERSIONS {
            health.advice.push(format!(
                "{versions} versions of workflows are stored: if a program creates a new version at each start, for example because its \
                 functions capture a changing value, put that value into the context; unused versions are deleted with `retention`"
            ));
        }
        Ok(health)
    }
}
