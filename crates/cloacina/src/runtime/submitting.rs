//! Submissions and registrations.

use std::sync::Arc;

use super::coordinator::Coordinator;
use super::draft::{Draft, Submission, Touched};
use super::{Registration, Reply, Service};
use crate::engine::{Execution, NewExecution};
use crate::store::StoreError;
use crate::types::{
    Context, Error, ErrorCode, ExecutionId, HistoryEvent, HistoryKind, Json, Micros, Timestamp,
    nearest,
};

/// One execution to start.
#[derive(Clone, Debug)]
pub struct SubmitRequest {
    /// A fresh id.
    pub id: ExecutionId,
    /// The workflow's name.
    pub workflow: String,
    /// What the tasks start from.
    pub input: Arc<Context>,
    /// Idempotency key (semantics C7).
    pub key: Option<String>,
    /// Claims go to higher ones first.
    pub priority: i16,
    /// Not to start before.
    pub start_at: Option<Timestamp>,
    /// Limit from the first start.
    pub timeout: Option<Micros>,
    /// The submitter's trace context as JSON, kept in the history for whoever runs the tasks.
    pub trace: Option<Arc<str>>,
}

impl Coordinator {
    pub(super) fn submit(
        &mut self,
        requests: Vec<SubmitRequest>,
        give_up: Timestamp,
        reply: Reply<Vec<ExecutionId>>,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        if self.stopping.is_some() {
            return reply(Err(closed()));
        }
        if let Some(unknown) = requests
            .iter()
            .find(|request| self.registry.latest(&request.workflow).is_none())
        {
            return reply(Err(self.unknown_workflow(&unknown.workflow)));
        }
        let mut ids = Vec::with_capacity(requests.len());
        for request in requests {
            ids.push(request.id);
            if self.cache.contains(request.id) {
                continue; // stored by an earlier try whose answer got lost
            }
            self.draft_execution(request, draft, now);
        }
        draft.submissions.push(Submission {
            ids,
            give_up,
            reply,
        });
    }

    /// Puts a new execution into the draft; `false`: its workflow is not known.
    pub(super) fn draft_execution(
        &mut self,
        request: SubmitRequest,
        draft: &mut Draft,
        now: Timestamp,
    ) -> bool {
        let default_timeout = self.config.workflow_timeout.map(micros);
        let Some((definition, workflow)) = self.registry.latest(&request.workflow) else {
            return false;
        };
        let new = NewExecution {
            id: request.id,
            definition,
            input: request.input,
            key: request.key,
            priority: request.priority,
            start_at: request.start_at.filter(|at| *at > now),
            timeout: request.timeout.or(default_timeout),
        };
        let (execution, mut changes) = Execution::submit(Arc::clone(workflow), new, now);
        changes
            .history
            .extend(request.trace.and_then(|trace| traced(&trace, now)));
        self.cache.insert(execution, 0);
        draft.touched.insert(
            request.id,
            Touched {
                changes,
                ..Touched::default()
            },
        );
        true
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

    pub(super) fn register(
        &mut self,
        registration: Registration,
        reply: Reply<()>,
        now: Timestamp,
    ) {
        match self.store.put_definition(&registration.workflow, now) {
            Ok(id) => {
                self.registry.register(id, registration);
                for backlog in &mut self.backlogs {
                    backlog.look_again();
                }
                self.liveness.announce(now);
                reply(Ok(()));
            }
            Err(error @ StoreError::Unavailable(_)) => {
                self.again.push(super::Message::Register {
                    registration,
                    reply,
                });
                self.trouble = Some(error);
            }
            Err(error) => reply(Err(error.into())),
        }
    }

    /// Takes handlers for external tasks, unless they contradict the definition that governs them.
    pub(super) fn serve(&mut self, service: Service, reply: Reply<()>, now: Timestamp) {
        match self.read_definitions() {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => {
                self.again.push(super::Message::Serve { service, reply });
                self.trouble = Some(error);
                return;
            }
            Err(error) => return reply(Err(error.into())),
        }
        let agreed = self.registry.serve(service);
        if agreed.is_ok() {
            for backlog in &mut self.backlogs {
                backlog.look_again();
            }
            self.liveness.announce(now);
        }
        reply(agreed);
    }

    /// Reads the definitions that other programs have stored.
    pub(super) fn read_definitions(&mut self) -> Result<(), StoreError> {
        for stored in self.store.definitions(self.registry.last_definition())? {
            if let Err(error) = self.registry.add_stored(stored.id, &stored.body) {
                tracing::warn!(workflow = %stored.workflow, %error, "a stored workflow definition is left alone");
            }
        }
        Ok(())
    }
}

/// The event that keeps a trace context. One that is no JSON is nobody's trace.
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

/// The trace context among an execution's history.
pub(super) fn trace_of(history: &[HistoryEvent]) -> Option<Arc<str>> {
    let traced = HistoryKind::Traced.name();
    let event = history.iter().find(|event| event.kind == traced)?;
    event.data.as_ref().map(|data| Arc::from(data.to_string()))
}

pub(super) fn closed() -> Error {
    Error::new(ErrorCode::RunnerClosed, "the runner is shut down")
        .with_hint("start a new DefaultRunner")
}

pub(super) fn micros(span: std::time::Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}
