//! The executions that have ended recently, for callers that request them later.
//!
//! See docs/explanation/decisions/036-remembered-ends.md

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::ledger::weight;

use crate::engine::Execution;
use crate::types::ExecutionId;

/// An execution that has ended.
pub type Ended = Arc<Execution>;

/// Maximum number of ended executions that are remembered for callers that request them later.
const RECENT: usize = 4096;
/// Maximum total size, in bytes, of the remembered executions with their inputs and results.
const RECENT_BYTES: usize = 32 * 1024 * 1024;

/// Maximum number of remembered ids of open executions that were submitted through this runner. The ids take a few
/// megabytes. The oldest ids are forgotten first. Executions with forgotten ids are read from the database one by one.
const OPEN: usize = 65_536;
/// Maximum number of executions that are read together with the execution that a caller requests.
const MAX_READ_AHEAD: usize = 128;

/// Executions to read in one query, because a caller that requests one of them is likely to request the others.
pub struct ReadAhead {
    /// The execution that a caller requests, followed by executions that were submitted after it.
    pub ids: Vec<ExecutionId>,
    /// The value of [`RememberedEnds::forget_calls`] before the read. If the value has changed by the end of the read, the
    /// results are not remembered.
    forget_calls: u64,
}

/// An ended execution that is remembered.
struct RememberedEnd {
    ended: Ended,
    /// An estimate of the execution's size in bytes.
    size: usize,
    /// Whether the execution was read ahead, and no caller has requested it since.
    is_read_ahead: bool,
}

/// The ended executions that are remembered, and the ids to read ahead.
#[derive(Default)]
pub(super) struct RememberedEnds {
    recent: FxHashMap<ExecutionId, RememberedEnd>,
    bytes: usize,
    /// The remembered executions, in the order in which they were added. The list can also contain executions that
    /// were forgotten.
    order: VecDeque<ExecutionId>,
    /// The number of calls of [`forget`](Self::forget).
    forget_calls: u64,
    /// Executions that were submitted through this runner and may end in another process. Executions whose ends are
    /// remembered or were requested are left out.
    open: BTreeSet<ExecutionId>,
    /// The number of open executions to read together with the next execution that a caller requests.
    read_ahead: usize,
    /// The number of times that callers requested a remembered end since the last read.
    hits: usize,
}

impl RememberedEnds {
    /// Returns a requested execution as it was at its end. `None` if its end is not remembered.
    pub(super) fn request(&mut self, execution: ExecutionId) -> Option<Ended> {
        let remembered = self.recent.get_mut(&execution)?;
        remembered.is_read_ahead = false;
        self.hits += 1;
        Some(Arc::clone(&remembered.ended))
    }

    /// Whether the end of an execution is remembered.
    pub(super) fn contains(&self, execution: ExecutionId) -> bool {
        self.recent.contains_key(&execution)
    }

    /// Records executions that were submitted through this runner and may end in another process.
    pub(super) fn note_submitted(&mut self, executions: &[ExecutionId]) {
        self.open.extend(executions);
        while self.open.len() > OPEN {
            self.open.pop_first();
        }
    }

    /// Returns the executions to read together with the execution that a caller requests. The number of executions to read
    /// ahead adapts to the callers: it doubles if, since the last read, they requested at least as many remembered ends as
    /// were read ahead, and halves if they requested less than a quarter.
    pub(super) fn read_ahead(&mut self, execution: ExecutionId) -> ReadAhead {
        if self.hits >= self.read_ahead {
            self.read_ahead = (self.read_ahead * 2).clamp(1, MAX_READ_AHEAD);
        } else if self.hits < self.read_ahead / 4 {
            self.read_ahead /= 2;
        }
        self.hits = 0;
        let behind = (Bound::Excluded(execution), Bound::Unbounded);
        let following = self.open.range(behind).take(self.read_ahead).copied();
        ReadAhead {
            ids: std::iter::once(execution).chain(following).collect(),
            forget_calls: self.forget_calls,
        }
    }

    /// Remembers the ended executions that a read has returned.
    pub(super) fn note_read(&mut self, read: &ReadAhead, ended: &[Ended]) {
        if self.forget_calls != read.forget_calls {
            return;
        }
        for ended in ended {
            let is_requested = read.ids.first() == Some(&ended.record().id);
            self.remember(ended, !is_requested);
        }
    }

    /// Remembers an end until newer ends have taken its place. `is_read_ahead` means that no caller has requested it.
    pub(super) fn remember(&mut self, ended: &Ended, is_read_ahead: bool) {
        let record = ended.record();
        let size = weight(record);
        let remembered = RememberedEnd {
            ended: Arc::clone(ended),
            size,
            is_read_ahead,
        };
        let known = self.recent.insert(record.id, remembered);
        self.open.remove(&record.id);
        self.bytes += size;
        match known {
            Some(known) => self.bytes -= known.size,
            None => self.order.push_back(record.id),
        }
        while self.order.len() > RECENT || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.drop_end(oldest);
        }
    }

    /// Forgets the end of an execution that is retried. With `None`, forgets all ends, because other processes may have
    /// retried executions.
    pub(super) fn forget(&mut self, execution: Option<ExecutionId>) {
        self.forget_calls += 1;
        if let Some(execution) = execution {
            self.drop_end(execution);
        } else {
            for execution in std::mem::take(&mut self.order) {
                self.drop_end(execution);
            }
        }
    }

    fn drop_end(&mut self, execution: ExecutionId) {
        if let Some(known) = self.recent.remove(&execution) {
            self.bytes -= known.size;
            // A caller may still request this execution, so it is read ahead again.
            if known.is_read_ahead {
                self.open.insert(execution);
            }
        }
    }
}

/// Returns an execution that has ended.
#[cfg(test)]
pub(super) fn ended(id: ExecutionId) -> Ended {
    use crate::engine::NewExecution;
    use crate::types::{Context, DefinitionId, Timestamp};
    use crate::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
    let task = TaskDefinition {
        id: "a".into(),
        ..TaskDefinition::default()
    };
    let workflow = Workflow::new(WorkflowDefinition {
        name: "w".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task],
        ..WorkflowDefinition::default()
    });
    let new = NewExecution {
        id,
        definition: DefinitionId(1),
        input: Arc::new(Context::new()),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
    };
    let (mut execution, _) = Execution::submit(Arc::new(workflow.unwrap()), new, NOW);
    execution.cancel(NOW).unwrap();
    Arc::new(execution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_were_read_ahead_and_forgotten_are_read_ahead_again() {
        let mut ends = RememberedEnds::default();
        let ids: Vec<ExecutionId> = (0..4).map(|_| ExecutionId::generate()).collect();
        ends.note_submitted(&ids);
        let read = |ends: &mut RememberedEnds, expected: &[ExecutionId]| {
            let read = ends.read_ahead(expected[0]);
            assert_eq!(read.ids, expected);
            let ended: Vec<Ended> = read.ids.iter().map(|id| ended(*id)).collect();
            ends.note_read(&read, &ended);
        };
        read(&mut ends, &ids[..2]);
        assert!(ends.request(ids[1]).is_some());
        read(&mut ends, &ids[2..]);
        ends.forget(None);
        assert!(ends.request(ids[3]).is_none());
        // Callers have requested the other three executions, and are unlikely to request them again.
        assert_eq!(Vec::from_iter(ends.open), [ids[3]]);
    }
}
