//! Submission of new executions.

use std::sync::Arc;

use crate::engine::{Execution, NewExecution};
use crate::runtime::batch::{PendingChange, Submission};
use crate::runtime::message::{Message, Reply, SubmitRequest};
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{
    DefinitionId, Error, ErrorCode, ExecutionId, HistoryEvent, HistoryKind, Json, Micros,
    Monotonic, NO_TIMEOUT, Timestamp, micros, nearest,
};
use crate::workflow::Workflow;

impl Step {
    /// Decides a call of `submit`: either all of its executions are stored, or none of them.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn submit(
        &mut self,
        requests: Vec<SubmitRequest>,
        give_up: Monotonic,
        reply: Reply<Vec<ExecutionId>>,
    ) -> Result<(), StoreError> {
        let refusal = match self.refusal(&requests) {
            Ok(refusal) => refusal,
            Err(error @ StoreError::Unavailable(_)) => {
                self.retry.push(Message::Submit {
                    requests,
                    give_up,
                    reply,
                });
                return Err(error);
            }
            Err(error) => Some(error.into()),
        };
        if let Some(error) = refusal {
            reply(Err(error));
            return Ok(());
        }
        let mut ids = Vec::with_capacity(requests.len());
        for request in requests {
            ids.push(request.id);
            if self.ledger.contains(request.id) {
                continue; // an earlier commit stored this execution, but its reply was lost
            }
            self.start(request);
        }
        self.batch.submissions.push(Submission {
            ids,
            give_up,
            reply,
        });
        Ok(())
    }

    /// Returns the reason to refuse a call of `submit`, or `None`. Also reads the definitions that the call needs.
    fn refusal(&mut self, requests: &[SubmitRequest]) -> Result<Option<Error>, StoreError> {
        if self.is_stopping {
            return Ok(Some(Error::runner_closed()));
        }
        for request in requests {
            let Some(id) = self.latest_definition(&request.workflow)? else {
                return Ok(Some(self.unknown_workflow(&request.workflow)));
            };
            if let Some(error) =
                (self.registry.definition(id)).and_then(|known| refuse_derived(known))
            {
                return Ok(Some(error));
            }
        }
        let limit = self.config.max_context_bytes;
        let mut checked = requests.iter().map(|request| check_size(request, limit));
        Ok(checked.find_map(Result::err))
    }

    /// Adds a new execution to the batch. Returns `false` if its workflow is not known.
    pub(in crate::runtime) fn start(&mut self, request: SubmitRequest) -> bool {
        let default_timeout = self.config.workflow_timeout.map(micros);
        let latest = self.registry.latest(&request.workflow);
        let Some((definition, workflow)) =
            latest.and_then(|id| Some((id, self.registry.definition(id)?)))
        else {
            return false;
        };
        let (id, workflow) = (request.id, Arc::clone(workflow));
        let (execution, change) =
            new_execution(request, definition, workflow, default_timeout, self.now);
        self.ledger.insert(execution);
        self.batch.executions.insert(id, change);
        true
    }

    fn unknown_workflow(&self, name: &str) -> Error {
        if let Some(refusal) = self.registry.refusal(name) {
            return refusal;
        }
        let error = Error::new(
            ErrorCode::WorkflowNotFound,
            format!("workflow '{name}' is not known"),
        );
        if let Some(near) = nearest(name, self.registry.names()) {
            return error.with_hint(format!("did you mean '{near}'?"));
        }
        let mut names: Vec<&str> = self.registry.names().collect();
        names.sort_unstable();
        names.truncate(10);
        error.with_hint(if names.is_empty() {
            "no workflow is defined in this process; define the workflow with WorkflowBuilder before you run it".to_owned()
        } else {
            format!("known workflows: {}", names.join(", "))
        })
    }
}

/// Q1: returns an error if `workflow` is a derived workflow. A derived workflow runs the final tasks of another
/// workflow, so only the end of an execution can start it.
pub(in crate::runtime) fn refuse_derived(workflow: &Workflow) -> Option<Error> {
    let first = workflow.definition().final_of.as_ref()?;
    let message = format!(
        "workflow '{}' has the final tasks of '{first}' and cannot be submitted",
        workflow.name()
    );
    let error = Error::new(ErrorCode::WorkflowInvalid, message);
    Some(error.with_hint("the end of an execution starts this workflow; to run the final tasks again, retry their execution"))
}

/// Returns the execution of a submission, and the change that stores it. The change includes the submitter's trace context.
///
/// `default_timeout`: the timeout of an execution that is submitted without one.
pub(in crate::runtime) fn new_execution(
    request: SubmitRequest,
    definition: DefinitionId,
    workflow: Arc<Workflow>,
    default_timeout: Option<Micros>,
    now: Timestamp,
) -> (Execution, PendingChange) {
    let new = NewExecution {
        id: request.id,
        definition,
        input: request.input,
        key: request.key,
        priority: request.priority,
        start_at: request.start_at.filter(|at| *at > now),
        timeout: request
            .timeout
            .or(default_timeout)
            .filter(|timeout| *timeout < NO_TIMEOUT),
    };
    let (execution, mut changes) = Execution::submit(workflow, new, now);
    let traced = request.trace.and_then(|trace| traced(&trace, now));
    changes.history.extend(traced);
    (execution, PendingChange::new(changes, request.labels))
}

/// B6: refuses an input that is larger than `limit` bytes, the maximum that a task can write.
///
/// # Errors
/// Returns `ContextInvalid` if the input is too large.
pub(in crate::runtime) fn check_size(request: &SubmitRequest, limit: u64) -> Result<(), Error> {
    let size = request.input.size() as u64;
    if size <= limit {
        return Ok(());
    }
    let error = Error::new(
        ErrorCode::ContextInvalid,
        format!(
            "the input of workflow '{}' takes {size} bytes, more than max_context_bytes {limit}",
            request.workflow
        ),
    );
    Err(error.with_hint(
        "store large data in a file or a table, and put a reference to it into the input",
    ))
}

/// Returns the event that stores a trace context, or `None` if the text is not JSON.
fn traced(trace: &str, now: Timestamp) -> Option<HistoryEvent> {
    Some(HistoryEvent {
        time: now,
        kind: HistoryKind::Traced.name().to_owned(),
        task: None,
        attempt: None,
        runner: None,
        data: Some(Json::parse(trace).ok()?),
    })
}

/// Returns the trace context in an execution's history.
pub(in crate::runtime) fn trace_of(history: &[HistoryEvent]) -> Option<Arc<str>> {
    let traced = HistoryKind::Traced.name();
    let event = history.iter().find(|event| event.kind == traced)?;
    event.data.as_ref().map(|data| Arc::from(data.to_string()))
}
