//! The starts of attempts, as a work queue knows them: before the database does.

use super::work_queue::WorkQueue;
use crate::runtime::assignment::WorkToken;
use crate::store::AttemptStart;
use crate::types::{Claim, ExecutionId, Micros, Monotonic, Ordinal, Timestamp};

impl WorkQueue {
    /// The start of an attempt; `None` if no worker has taken it.
    pub fn start_of(
        &self,
        execution: ExecutionId,
        task: Ordinal,
        claim: Claim,
    ) -> Option<Timestamp> {
        let state = self.state.lock();
        let key = (execution, task, claim);
        state.running.running_since(key).or_else(|| {
            // A snoozed task runs again under the same number of its attempt.
            let ended = state.running.ended_since(key);
            ended.filter(|_| !state.ready.holds(execution, task, claim))
        })
    }

    /// Whether a worker runs the attempt of a token.
    pub fn is_running(&self, token: WorkToken) -> bool {
        self.state.lock().running.contains(token)
    }

    /// The executions that workers run, and those of attempts that ended a short time ago.
    pub fn started(&self) -> Vec<ExecutionId> {
        let state = self.state.lock();
        state
            .running
            .starts()
            .map(|start| start.execution)
            .collect()
    }

    /// Whether workers may run attempts whose start is not stored.
    pub(in crate::runtime) fn watches_starts(&self) -> bool {
        self.state.lock().watches_starts
    }

    /// The attempts that have run for `span` and whose start is not stored.
    pub(in crate::runtime) fn unstored_starts(
        &self,
        now: Monotonic,
        span: Micros,
    ) -> Vec<(WorkToken, AttemptStart)> {
        let mut state = self.state.lock();
        let starts: Vec<_> = state.running.unstored(now, span).collect();
        state.watches_starts = !state.running.are_starts_stored();
        starts
    }

    /// Notes that the start of an attempt is stored.
    pub(in crate::runtime) fn set_start_stored(&self, token: WorkToken) {
        self.state.lock().running.set_start_stored(token);
    }
}
