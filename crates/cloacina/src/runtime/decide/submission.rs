//! Submission of new executions.

use std::sync::Arc;

use crate::engine::{Execution, NewExecution};
use crate::runtime::batch::{PendingChange, Submission};
use crate::runtime::message::{Message, Reply, SubmitRequest};
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{
    Error, ErrorCode, ExecutionId, HistoryEvent, HistoryKind, Json, Monotonic, NO_TIMEOUT,
    Timestamp, micros, nearest,
};

impl Step {
    /// Decides a call of `submit`: all of its executions are stored, or none.
    ///
    /// # Errors
    /// When the database does not answer. The message goes to the retry queue.
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
                continue; // an earlier commit stored it, although its answer got lost
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

    /// Returns the error of a call of `submit` that is refused. Otherwise the versions that it runs are in memory afterwards.
    fn refusal(&mut self, requests: &[SubmitRequest]) -> Result<Option<Error>, StoreError> {
        if self.is_stopping {
            return Ok(Some(Error::runner_closed()));
        }
        for request in requests {
            if self.latest_definition(&request.workflow)?.is_none() {
                return Ok(Some(self.unknown_workflow(&request.workflow)));
            }
        }
        Ok(requests.iter().find_map(|request| self.too_large(request)))
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
        let new = NewExecution {
            id: request.id,
            definition,
            input: request.input,
            key: request.key,
            priority: request.priority,
            start_at: request.start_at.filter(|at| *at > self.now),
            timeout: request
                .timeout
                .or(default_timeout)
                .filter(|timeout| *timeout < NO_TIMEOUT),
        };
        let (execution, mut changes) = Execution::submit(Arc::clone(workflow), new, self.now);
        changes
            .history
            .extend(request.trace.and_then(|trace| traced(&trace, self.now)));
        self.ledger.insert(execution);
        self.batch
            .executions
            .insert(request.id, PendingChange::new(changes));
        true
    }

    /// B6: returns an error if the input is larger than what a task may write.
    fn too_large(&self, request: &SubmitRequest) -> Option<Error> {
        let (size, limit) = (request.input.size() as u64, self.config.max_context_bytes);
        (size > limit).then(|| {
            Error::new(
                ErrorCode::ContextInvalid,
                format!(
                    "the input of workflow '{}' takes {size} bytes, more than max_context_bytes {limit}",
                    request.workflow
                ),
            )
            .with_hint("store large data outside and put a reference to it into the input")
        })
    }

    fn unknown_workflow(&self, name: &str) -> Error {
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
            "no workflow is defined in this process; define it with WorkflowBuilder before running it".to_owned()
        } else {
            format!("known workflows: {}", names.join(", "))
        })
    }
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
