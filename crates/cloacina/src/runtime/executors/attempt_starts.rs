//! The start times of attempts. A work queue knows them before they are stored in the database.

use rustc_hash::FxHashMap;

use super::work_queue::WorkQueue;
use crate::runtime::assignment::WorkToken;
use crate::store::{AttemptKey, AttemptStart};
use crate::types::{ExecutionId, Micros, Monotonic, Ordinal, Timestamp};

/// The start times of some attempts at one moment.
pub type AttemptStarts = FxHashMap<AttemptKey, Timestamp>;

impl WorkQueue {
    /// The start times of an execution's attempts that are running on workers or ended recently.
    pub fn starts_of(&self, execution: ExecutionId) -> AttemptStarts {
        self.starts_where(|id| id == execution)
    }

    /// The start times of attempts of executions for which `is_wanted` holds.
    pub(super) fn starts_where(&self, is_wanted: impl Fn(ExecutionId) -> bool) -> AttemptStarts {
        let state = self.state.lock();
        let starts = state.running.starts();
        let wanted = starts.filter(|start| is_wanted(start.execution));
        wanted.map(|start| (start.key(), start.at)).collect()
    }

    /// Forgets the start of an attempt that was not counted, because the next attempt will have the same number.
    pub(in crate::runtime) fn forget_start(&self, key: AttemptKey) {
        self.state.lock().running.forget_ended(key);
    }

    /// Whether a worker is still running the function of an attempt, even if the attempt was evicted.
    pub fn occupies(&self, key: AttemptKey) -> bool {
        self.state.lock().running.occupies(key)
    }

    /// Whether a worker is still running the function of any item of a map.
    pub fn occupies_items(&self, execution: ExecutionId, task: Ordinal) -> bool {
        self.state.lock().running.occupies_items(execution, task)
    }

    /// Whether a worker runs the attempt with this token.
    pub fn is_running(&self, token: WorkToken) -> bool {
        self.state.lock().running.contains(token)
    }

    /// The executions with attempts that are running on workers or ended recently.
    pub fn started(&self) -> Vec<ExecutionId> {
        let state = self.state.lock();
        state
            .running
            .starts()
            .map(|start| start.execution)
            .collect()
    }

    /// Whether workers may be running attempts whose start is not stored.
    pub(in crate::runtime) fn watches_starts(&self) -> bool {
        self.state.lock().watches_starts
    }

    /// The attempts that have run for at least `span` and whose start is not stored.
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
