//! The cached executions of this runner. Their true state is in the database, so each of them can be dropped at any time.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::engine::Execution;
use crate::types::{Delta, ExecutionId, ExecutionRecord, TaskRecord};

/// An estimate, in bytes, of the memory that an execution needs besides its tasks and its input.
const EXECUTION_BYTES: usize = 512;
/// An estimate, in bytes, of the memory that a task's record needs besides its delta.
const TASK_BYTES: usize = size_of::<TaskRecord>() + 64;

struct Cached {
    execution: Execution,
    /// An estimate of the execution's memory, in bytes.
    bytes: usize,
    /// The execution's key in `idle`, if the execution is idle.
    idle_since: Option<u64>,
}

/// A cache of executions. An execution is idle if it has no work in this process. The total size of idle executions is limited:
/// if they exceed the limit, the execution that has been idle longest is evicted.
pub(super) struct Cache {
    executions: FxHashMap<ExecutionId, Cached>,
    idle: BTreeMap<u64, ExecutionId>,
    idle_bytes: usize,
    /// Maximum value of `idle_bytes`.
    limit: usize,
    /// The key of the execution that was last added to `idle`.
    last_use: u64,
}

/// An estimate of the memory of an execution's record, in bytes.
pub(in crate::runtime) fn weight(record: &ExecutionRecord) -> usize {
    let deltas = record.tasks.iter().filter_map(|task| task.delta.as_deref());
    EXECUTION_BYTES
        + record.input.size()
        + record.tasks.len() * TASK_BYTES
        + deltas.map(Delta::size).sum::<usize>()
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            executions: FxHashMap::default(),
            idle: BTreeMap::new(),
            idle_bytes: 0,
            limit,
            last_use: 0,
        }
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<&Execution> {
        self.executions.get(&id).map(|cached| &cached.execution)
    }

    pub(super) fn get_mut(&mut self, id: ExecutionId) -> Option<&mut Execution> {
        self.executions
            .get_mut(&id)
            .map(|cached| &mut cached.execution)
    }

    pub(super) fn contains(&self, id: ExecutionId) -> bool {
        self.executions.contains_key(&id)
    }

    pub(super) fn bytes_of(&self, id: ExecutionId) -> usize {
        self.executions.get(&id).map_or(0, |cached| cached.bytes)
    }

    pub(super) fn insert(&mut self, execution: Execution) {
        let id = execution.record().id;
        self.remove(id);
        let bytes = weight(execution.record());
        self.executions.insert(
            id,
            Cached {
                execution,
                bytes,
                idle_since: None,
            },
        );
    }

    pub(super) fn remove(&mut self, id: ExecutionId) -> Option<Execution> {
        let cached = self.executions.remove(&id)?;
        if let Some(key) = cached.idle_since {
            self.idle.remove(&key);
            self.idle_bytes -= cached.bytes;
        }
        Some(cached.execution)
    }

    /// Adds bytes to the size of an execution.
    pub(super) fn grow(&mut self, id: ExecutionId, bytes: usize) {
        if let Some(cached) = self.executions.get_mut(&id) {
            cached.bytes += bytes;
            if cached.idle_since.is_some() {
                self.idle_bytes += bytes;
            }
        }
    }

    /// Notes whether an execution is idle. While the idle executions exceed the limit, evicts the execution that has been idle
    /// longest.
    pub(super) fn set_idle(&mut self, id: ExecutionId, idle: bool) {
        let Some(cached) = self.executions.get_mut(&id) else {
            return;
        };
        if let Some(key) = cached.idle_since.take() {
            self.idle.remove(&key);
            self.idle_bytes -= cached.bytes;
        }
        if idle {
            self.last_use += 1;
            cached.idle_since = Some(self.last_use);
            self.idle_bytes += cached.bytes;
            self.idle.insert(self.last_use, id);
            while self.idle_bytes > self.limit
                && let Some((_, oldest)) = self.idle.pop_first()
            {
                self.remove(oldest);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.executions.clear();
        self.idle.clear();
        self.idle_bytes = 0;
    }

    /// The total size of the idle executions, in bytes.
    pub(super) const fn idle_bytes(&self) -> usize {
        self.idle_bytes
    }
}
