//! What a runner tells: explanations and metrics.

use super::EngineHandle;
use super::exposition::expose;
use crate::engine::Reason;
use crate::runtime::process;
use crate::types::{Error, ExecutionId, Offer};

impl EngineHandle {
    /// Why an execution is where it is, in the order in which people want to know; [`Reason::sentence`] puts it in words.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn explain(&self, id: ExecutionId) -> Result<Vec<Reason>, Error> {
        self.inspector().explain(id, &self.own_offers())
    }

    /// What this program has handlers for, also what the database has not been told of yet.
    pub fn own_offers(&self) -> Vec<Offer> {
        let (host, (pid, _)) = (process::host(), process::current());
        let now = self.now();
        let own = self.own.lock();
        own.iter()
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

    /// Claimed tasks whose end the coordinator has not heard of.
    pub fn in_flight(&self) -> usize {
        self.metrics.in_flight()
    }

    /// The runner's counters in the text format of Prometheus.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        expose(self, &self.metrics)
    }
}
