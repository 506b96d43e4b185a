//! The executions that this runner knows. The database holds the truth: anything here may be dropped at any time.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::engine::Execution;
use crate::types::{Delta, ExecutionId, ExecutionRecord, TaskRecord};

/// An estimate of the memory that an execution takes.
const EXECUTION_BYTES: usize = 512;
/// An estimate of the memory that the record of a task takes.
const TASK_BYTES: usize = size_of::<TaskRecord>() + 64;

struct Cached {
    execution: Execution,
    /// An estimate of its memory in bytes.
    bytes: usize,
    /// Its place among the idle ones.
    idle_since: Option<u64>,
}

/// A cache of executions, bounded by bytes. An idle one (without work in this process) goes when memory is short, the one
/// first that was idle longest.
pub(super) struct Cache {
    executions: FxHashMap<ExecutionId, Cached>,
    idle: BTreeMap<u64, ExecutionId>,
    idle_bytes: usize,
    /// The limit of `idle_bytes`.
    limit: usize,
    last_use: u64,
}

/// An estimate of the memory that an execution's record takes, in bytes.
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
        if let Some(place) = cached.idle_since {
            self.idle.remove(&place);
            self.idle_bytes -= cached.bytes;
        }
        Some(cached.execution)
    }

    /// Notes that an execution holds more bytes.
    pub(super) fn grow(&mut self, id: ExecutionId, bytes: usize) {
        if let Some(cached) = self.executions.get_mut(&id) {
            cached.bytes += bytes;
            if cached.idle_since.is_some() {
                self.idle_bytes += bytes;
            }
        }
    }

    /// Notes whether an execution is idle now, and drops those that were idle longest where they take too much memory.
    pub(super) fn set_idle(&mut self, id: ExecutionId, idle: bool) {
        let Some(cached) = self.executions.get_mut(&id) else {
            return;
        };
        if let Some(place) = cached.idle_since.take() {
            self.idle.remove(&place);
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

    /// The bytes of the idle executions.
    pub(super) const fn idle_bytes(&self) -> usize {
        self.idle_bytes
    }
}
