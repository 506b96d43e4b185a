//! The coordinator's books of deferred tasks that released their slots (semantics G2).

use super::assignment::Executor;
use super::coordinator::Coordinator;
use crate::types::{Claim, ExecutionId, Ordinal};

impl Coordinator {
    /// A task lends its slot, or has it back.
    pub(super) fn note_deferral(
        &mut self,
        execution: ExecutionId,
        task: Ordinal,
        claim: Claim,
        lent: bool,
    ) {
        let key = (execution, task);
        let Some((held, executor)) = self.in_flight.get(&key).copied() else {
            return;
        };
        if held != claim {
            return;
        }
        if lent {
            if self.lent.insert(key) {
                self.backlogs[executor.index()].freed();
            }
        } else if self.lent.remove(&key) {
            self.backlogs[executor.index()].taken();
        }
    }

    /// A claim ends: its slot is free, unless it was lent.
    pub(super) fn free_slot(&mut self, execution: ExecutionId, task: Ordinal, executor: Executor) {
        if !self.lent.remove(&(execution, task)) {
            self.backlogs[executor.index()].freed();
        }
    }
}
