//! Changes a database without a runner: submits, controls, deletes and prunes executions. Also checks the integrity of
//! the database.

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

/// Number of stored workflow versions above which `db check` gives advice. A few workflows that are deployed daily for
/// a year stay below this number.
const MANY_VERSIONS: u64 = 5_000;

/// The version of the workflow that a rerun of an execution uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RerunVersion {
    /// The version of the earlier execution.
    #[default]
    Original,
    /// The latest stored version.
    Latest,
}

/// The options of a rerun, which submits a new execution like an earlier one. By default, the new execution has the same
/// input, version, labels, priority and timeout. It never has a key.
#[derive(Clone, Debug, Default)]
pub struct Rerun {
    /// The input; `None`: the input of the earlier execution.
    pub input: Option<Context>,
    /// The version of the workflow.
    pub version: RerunVersion,
    /// The labels; `None`: the labels of the earlier execution.
    pub labels: Option<Labels>,
    /// The person or program that requests the rerun, and the reason.
    pub audit: Audit,
}

impl Inspector {
    /// Submits an execution without a runner, and returns once it is durable. A program must have stored the workflow in this
    /// database. A live runner with handlers for the workflow's tasks runs the execution.
    ///
    /// The setting `workflow_timeout` of runners does not apply to the execution.
    ///
    /// # Errors
    /// `WorkflowNotFound` when no program has stored the workflow; `WorkflowInputInvalid` for an input that does not match
    /// the stored schema of `input=`; `WorkflowInvalid` for a workflow that this release cannot run, or that can only be
    /// started by the end of an execution; `Configuration` for an invalid option; `ContextInvalid` for an input of more than
    /// 16 MiB; `Database` or `Connection`.
    pub fn submit(&self, submission: Submission) -> Result<Submitted, Error> {
        self.submit_request(submission.into_request(self.now())?)
    }

    /// Submits like [`submit`](Self::submit), but takes the engine's type of a submission.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn submit_request(&self, request: SubmitRequest) -> Result<Submitted, Error> {
        self.submit_as(request, &Audit::default())
    }

    /// Submits like [`submit_request`](Self::submit_request), and records in the history who submitted the execution, and
    /// why.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn submit_as(&self, request: SubmitRequest, audit: &Audit) -> Result<Submitted, Error> {
        self.submit_with(request, None, audit)
    }

    /// Submits like [`submit`](Self::submit), and records in the history who submitted the execution, and why. `version`: the
    /// version of the workflow; `None` means the latest stored version.
    ///
    /// # Errors
    /// See [`submit`](Self::submit); also `WorkflowNotFound` when the version is not stored.
    pub fn submit_version(
        &self,
        submission: Submission,
        version: Option<&str>,
        audit: &Audit,
    ) -> Result<Submitted, Error> {
        self.submit_with(submission.into_request(self.now())?, version, audit)
    }

    fn submit_with(
        &self,
        request: SubmitRequest,
        version: Option<&str>,
        audit: &Audit,
    ) -> Result<Submitted, Error> {
        let (request, definition, workflow) = self.complete(request, version)?;
        let origin = origin(None, audit, self.now());
        let (store, clock) = (&*self.store, &*self.clock);
        let submitted = submit_directly(store, clock, request, definition, workflow, origin)?;
        self.notify_own_runner();
        Ok(submitted)
    }

    /// Checks a submission as [`submit_version`](Self::submit_version) does, but submits nothing.
    ///
    /// # Errors
    /// See [`submit_version`](Self::submit_version).
    pub fn check_submission(
        &self,
        submission: Submission,
        version: Option<&str>,
    ) -> Result<(), Error> {
        let (request, _, workflow) =
            self.complete(submission.into_request(self.now())?, version)?;
        request.check(&workflow)
    }

    /// Validates a submission's input, and adds the defaults of absent fields. Returns the submission, and the
    /// version of its workflow.
    fn complete(
        &self,
        mut request: SubmitRequest,
        version: Option<&str>,
    ) -> Result<(SubmitRequest, DefinitionId, Arc<Workflow>), Error> {
        let (definition, workflow) = self.stored_workflow(&request.workflow, version)?;
        request.input = workflow.complete_input(&request.input, true)?;
        Ok((request, definition, workflow))
    }

    /// Submits a new execution like an earlier one. The history of the new execution names the earlier execution.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `WorkflowNotFound`; `WorkflowInvalid` for a workflow that this release cannot run;
    /// `WorkflowInputInvalid` for a new input that does not match the schema of `input=` in the chosen version;
    /// `ContextInvalid` for an input that is too large; `Database` or `Connection`.
    pub fn rerun(&self, id: ExecutionId, rerun: Rerun) -> Result<Submitted, Error> {
        let earlier = self.execution(id)?;
        let record = earlier.record();
        let name = earlier.workflow().name();
        let (definition, workflow) = match rerun.version {
            RerunVersion::Original => (record.definition, Arc::clone(earlier.workflow())),
            RerunVersion::Latest => self.stored_workflow(name, None)?,
        };
        workflow.check_needs()?;
        let request = SubmitRequest {
            id: ExecutionId::generate(),
            workflow: name.to_owned(),
            input: match rerun.input {
                // `false`: errors quote no values. The HTTP API has replaced each `$keep` in the given input with a value
                // of the earlier execution, which the caller may not be allowed to read.
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
        self.notify_own_runner();
        Ok(submitted)
    }

    /// Returns a definition as it is stored now. Parts that do not affect the version, such as the schema of the input, may
    /// have been replaced since the definition was cached.
    fn fresh(&self, id: DefinitionId) -> Result<Arc<Workflow>, Error> {
        let stored = self.store.definition(id)?;
        self.workflow(id, stored.as_ref().map(|stored| &*stored.body))
    }

    /// Returns a version of a workflow. `None`: the latest stored version.
    fn stored_workflow(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(DefinitionId, Arc<Workflow>), Error> {
        let latest = self.latest_workflow(name)?;
        let Some((id, latest)) = latest else {
            return Err(self.unknown_workflow(name)?);
        };
        let Some(version) = version.filter(|version| *version != latest.version()) else {
            return Ok((id, latest));
        };
        let versions = self.store.versions(DefinitionId(0))?;
        for known in versions.iter().filter(|known| known.workflow == name) {
            let stored = self.store.definition(known.id)?;
            // Skips a definition that this release cannot read, because its version string is then unknown.
            let workflow = self.workflow(known.id, stored.as_ref().map(|stored| &*stored.body));
            if let Ok(workflow) = workflow
                && workflow.version() == version
            {
                return Ok((known.id, workflow));
            }
        }
        let text = format!("workflow '{name}' has no stored version '{version}'");
        let hint = format!("its latest version is '{}'", latest.version());
        Err(Error::new(ErrorCode::WorkflowNotFound, text).with_hint(hint))
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

    /// Applies a control action to an execution without a runner. Returns the new state of the execution once it is durable.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `ExecutionState` when the state does not allow the action; `WorkflowInvalid` for an unknown
    /// task, or a workflow that this release cannot run; for a decision also the errors of
    /// [`DefaultRunner::approve`](super::DefaultRunner::approve); `Database` or `Connection`.
    pub fn control(&self, id: ExecutionId, action: &Control) -> Result<ExecutionStatus, Error> {
        self.control_as(id, action, &Audit::default())
    }

    /// Applies an action like [`control`](Self::control), and records in the history who requested the action, and why.
    ///
    /// # Errors
    /// See [`control`](Self::control).
    pub fn control_as(
        &self,
        id: ExecutionId,
        action: &Control,
        audit: &Audit,
    ) -> Result<ExecutionStatus, Error> {
        let (store, clock) = (&*self.store, &*self.clock);
        let workflow_of = |record: &_| self.workflow_of(record);
        let status = control_directly(store, clock, id, action, audit, workflow_of)?;
        self.notify_own_runner();
        Ok(status)
    }

    /// Applies an action like [`control_as`](Self::control_as), but only if the execution has the given revision. Otherwise
    /// changes nothing, and returns the current revision. The transaction that writes the change compares the revision.
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
        let (store, clock) = (&*self.store, &*self.clock);
        let workflow_of = |record: &_| self.workflow_of(record);
        let wanted = Some(revision);
        let guarded = control_guarded(store, clock, id, action, audit, wanted, workflow_of)?;
        self.notify_own_runner();
        Ok(guarded)
    }

    /// Applies a control action to many executions, 100 per commit. Returns the outcome for each execution: its new, durable
    /// state, or the reason why nothing was changed.
    pub fn control_many(
        &self,
        ids: &[ExecutionId],
        action: &Control,
        audit: &Audit,
    ) -> Vec<(ExecutionId, Result<ExecutionStatus, Error>)> {
        let (store, clock) = (&*self.store, &*self.clock);
        let workflow_of = |record: &_| self.workflow_of(record);
        let outcomes = control_many_directly(store, clock, ids, action, audit, workflow_of);
        self.notify_own_runner();
        outcomes
    }

    /// Deletes an execution that has ended, with all its data. A child can be deleted only after its parent, and a parent
    /// only after all its children have ended (M8).
    ///
    /// # Errors
    /// `ExecutionNotFound`; `ExecutionState` for an execution that has not ended, that has an open child, whose final tasks
    /// have not ended, or whose parent is still stored; `Database` or `Connection`.
    pub fn delete(&self, id: ExecutionId) -> Result<(), Error> {
        if self.store.delete_execution(id)? {
            self.notify_runners();
            return Ok(());
        }
        let Some(known) = self.store.summaries(&[id])?.pop() else {
            return Err(Error::unknown_execution(id));
        };
        // The link to a parent outlives the parent.
        let parent = known
            .parent
            .map(|link| self.store.summaries(&[link.execution]));
        let parent = parent.transpose()?.and_then(|mut parents| parents.pop());
        let (message, hint) = match parent {
            Some(parent) if known.status.is_terminal() => (
                format!(
                    "cannot delete execution {id}: it is a child of execution {}",
                    parent.id
                ),
                "delete its parent first",
            ),
            None if known.status.is_terminal() => (
                format!("cannot delete execution {id}: a child or its final tasks are open"),
                "wait for their end, or cancel them",
            ),
            _ => (
                format!("cannot delete execution {id}: it is {}", known.status),
                "cancel it, or wait for its end",
            ),
        };
        Err(Error::new(ErrorCode::ExecutionState, message).with_hint(hint))
    }

    /// Deletes at most `limit` executions that ended before `before`, oldest first, and other old rows (see `Store::prune`).
    /// Returns the number of deleted executions, including children.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        let mut total = 0;
        // M8: a transaction deletes an execution without its children. The next transaction deletes the children.
        while total < limit {
            let pruned = self.store.prune(before, limit - total)?;
            if pruned.is_empty() {
                break;
            }
            total += pruned.executions;
        }
        Ok(total)
    }

    /// Returns the number of executions that [`prune`](Self::prune) with the same arguments would delete, without their
    /// children.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn count_prunable(&self, before: Timestamp, limit: usize) -> Result<usize, Error> {
        Ok(self.store.count_prunable(before, limit)?)
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
                 functions capture a changing value, put that value into the context; the setting `retention` deletes unused versions"
            ));
        }
        Ok(health)
    }
}
