//! Changes to a database without a runner: submissions, control, pruning, and the check of its integrity.

use super::Inspector;
use super::submission::Submission;
use crate::runtime::{
    Control, RunnerConfig, SubmitRequest, Submitted, control_directly, submit_directly,
};
use crate::store::Health;
use crate::types::{
    DefinitionId, Error, ErrorCode, ExecutionId, ExecutionStatus, Timestamp, nearest,
};

/// Number of stored workflow versions above which `db check` gives advice. A year of daily deployments of a few workflows
/// stays below it.
const MANY_VERSIONS: u64 = 5_000;

impl Inspector {
    /// Submits an execution, without a runner, and returns it once it is durable. A program must have stored the workflow in
    /// this database. A live runner with handlers for its tasks runs it.
    ///
    /// A runner's default timeout of executions does not apply. The inspector must have been opened with [`open`](Self::open):
    /// a runner does not look for changes that are made through its own connection.
    ///
    /// # Errors
    /// `WorkflowNotFound` when no program has stored the workflow; `Configuration` for an invalid option; `ContextInvalid` for
    /// an input of more than 16 MiB; `Database` or `Connection`.
    pub fn submit(&self, submission: Submission) -> Result<Submitted, Error> {
        self.submit_request(submission.into_request(self.now())?)
    }

    /// Like [`submit`](Self::submit), for the engine's form of a submission.
    ///
    /// # Errors
    /// See [`submit`](Self::submit).
    pub fn submit_request(&self, request: SubmitRequest) -> Result<Submitted, Error> {
        let Some(stored) = self.latest(&request.workflow)? else {
            return Err(self.unknown_workflow(&request.workflow)?);
        };
        let (size, limit) = (
            request.input.size() as u64,
            RunnerConfig::default().max_context_bytes,
        );
        if size > limit {
            return Err(Error::new(
                ErrorCode::ContextInvalid,
                format!(
                    "the input of workflow '{}' takes {size} bytes, more than {limit}",
                    request.workflow
                ),
            )
            .with_hint("store large data outside and put a reference to it into the input"));
        }
        let workflow = self.workflow(stored.id, Some(&stored.body))?;
        submit_directly(&*self.store, &*self.clock, request, stored.id, workflow)
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
        control_directly(&*self.store, &*self.clock, id, action, |record| {
            self.workflow_of(record)
        })
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
