//! Explanations and metrics of a runner.

use super::EngineHandle;
use super::exposition::expose;
use crate::engine::Reason;
use crate::runtime::process;
use crate::types::{Error, ExecutionId, Offer};

impl EngineHandle {
    /// Returns the reasons why an execution waits or has ended, the most important first. [`Reason::sentence`] puts a reason
    /// into words.
    ///
    /// # Errors
    /// As for [`Inspector::explain`](super::Inspector::explain).
    pub fn explain(&self, id: ExecutionId) -> Result<Vec<Reason>, Error> {
        self.inspector().explain(id, &self.own_offers())
    }

    /// The handlers of this program, including those that are not stored in the database yet.
    pub fn own_offers(&self) -> Vec<Offer> {
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

    /// The number of claimed tasks whose results have not reached the coordinator.
    pub fn in_flight(&self) -> usize {
        self.metrics.in_flight()
    }

    /// The runner's metrics in the Prometheus text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        expose(self, &self.metrics)
    }
}
