//! The executions that this runner is busy with. The database holds the truth: anything here may be dropped at any time.

use rustc_hash::FxHashMap;

use crate::engine::Execution;
use crate::types::ExecutionId;

/// Executions without work in this process are kept up to this number of task records.
const SPARE_RECORDS: usize = 50_000;

#[derive(Default)]
pub(super) struct Cache {
    executions: FxHashMap<ExecutionId, Cached>,
    records: usize,
}

pub(super) struct Cached {
    pub(super) execution: Execution,
    /// Tasks of it that this process has claimed and not finished.
    pub(super) in_flight: u32,
}

impl Cache {
    pub(super) fn contains(&self, id: ExecutionId) -> bool {
        self.executions.contains_key(&id)
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<&Cached> {
        self.executions.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ExecutionId) -> Option<&mut Cached> {
        self.executions.get_mut(&id)
    }

    pub(super) fn insert(&mut self, execution: Execution, in_flight: u32) {
        self.records += execution.record().tasks.len();
        let id = execution.record().id;
        if let Some(old) = self.executions.insert(
            id,
            Cached {
                execution,
                in_flight,
            },
        ) {
            self.records -= old.execution.record().tasks.len();
        }
    }

    pub(super) fn remove(&mut self, id: ExecutionId) -> Option<Cached> {
        let cached = self.executions.remove(&id)?;
        self.records -= cached.execution.record().tasks.len();
        Some(cached)
    }

    /// Drops an idle execution when memory is short.
    pub(super) fn trim(&mut self, id: ExecutionId) {
        if self.records > SPARE_RECORDS
            && self
                .executions
                .get(&id)
                .is_some_and(|cached| cached.in_flight == 0)
        {
            self.remove(id);
        }
    }

    pub(super) fn clear(&mut self) {
        self.executions.clear();
        self.records = 0;
    }
}
