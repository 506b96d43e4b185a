//! Explanations and metrics of a runner.

use super::exposition::expose;
use super::{Begin, EngineHandle};
use crate::engine::Reason;
use crate::runtime::{Registration, Service, process};
use crate::types::{Error, ExecutionId, Offer};

impl EngineHandle {
    /// Returns the reasons why an execution waits or has ended, the most important first. [`Reason::sentence`] turns a reason
    /// into a sentence.
    ///
    /// # Errors
    /// The errors of [`Inspector::explain`](super::Inspector::explain).
    pub fn explain(&self, id: ExecutionId) -> Result<Vec<Reason>, Error> {
        self.inspector().explain(id, &self.own_offers())
    }

    /// Notes the handlers of a registration for [`own_offers`](Self::own_offers).
    pub(super) fn note_own_handlers(&self, registration: &Registration) {
        let tasks = registration.handlers.keys().cloned().collect();
        let name = registration.workflow.name().to_owned();
        self.own_handlers.lock().insert(name, tasks);
    }

    /// Notes the handlers of external tasks for [`own_offers`](Self::own_offers).
    pub(super) fn note_own_service(&self, service: &Service) {
        let mut own = self.own_handlers.lock();
        let known = own.entry(service.workflow.clone()).or_default();
        for (task, _) in &service.tasks {
            if !known.contains(&task.id) {
                known.push(task.id.clone());
            }
        }
    }

    /// Returns the handlers of this program, including handlers that are not announced in the database yet. If the runner
    /// does not claim tasks because it waits for [`begin`](Self::begin), returns an empty list.
    pub fn own_offers(&self) -> Vec<Offer> {
        if self.begin == Begin::OnRequest && !self.is_begun() {
            return Vec::new();
        }
        let (host, (pid, _)) = (process::host(), process::current());
        let now = self.now();
        let handlers = self.own_handlers.lock();
        handlers
            .iter()
            .map(|(workflow, tasks)| Offer {
                workflow: workflow.clone(),
                runner: self.runner_id(),
                host: process::name_of(&host).to_owned(),
                pid,
                tasks: tasks.clone(),
                seen_at: now,
            })
            .collect()
    }

    /// Returns the number of claimed tasks whose ends the coordinator has not processed yet.
    pub fn in_flight(&self) -> usize {
        self.metrics.in_flight()
    }

    /// Returns the runner's metrics in the Prometheus text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        expose(self, &self.metrics)
    }
}
