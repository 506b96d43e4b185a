//! A write batch that the database has refused, and the parts of it that must be decided again.

use super::Message;
use crate::store::StoreError;
use crate::types::{ExecutionId, ScheduleId};

/// A batch that was not written. The fields list what the batch contained.
pub(super) struct RefusedBatch {
    pub(super) error: StoreError,
    /// The messages to decide again.
    pub(super) messages: Vec<Message>,
    /// The executions whose claims the batch took back from a dead runner.
    pub(super) rescued: Vec<ExecutionId>,
    /// The executions that were changed because of their waits or because of messages of the inbox.
    pub(super) woken: Vec<ExecutionId>,
    /// The number of parents that were changed because their children ended.
    pub(super) parents: usize,
    /// The schedules that were changed without a message.
    pub(super) schedules: Vec<ScheduleId>,
    /// Whether the batch also claimed tasks.
    pub(super) has_claim: bool,
}

impl RefusedBatch {
    const fn items(&self) -> usize {
        let messages = self.messages.len() + self.schedules.len();
        messages + self.rescued.len() + self.woken.len() + self.parents
    }

    /// Whether the batch contained a single item. The database then refuses this item.
    pub(super) const fn is_single(&self) -> bool {
        self.items() == 1 && !self.has_claim
    }

    /// Whether the batch contained only a claim.
    pub(super) const fn is_claim(&self) -> bool {
        self.items() == 0 && self.has_claim
    }
}
