//! A write batch that the database has refused, with the parts that must be decided again.

use super::Message;
use crate::store::StoreError;
use crate::types::{ExecutionId, ScheduleId};

/// A batch that was not written.
pub(super) struct RefusedBatch {
    pub(super) error: StoreError,
    /// The messages whose decisions it held.
    pub(super) messages: Vec<Message>,
    /// The executions whose claims it took back from a dead runner.
    pub(super) rescued: Vec<ExecutionId>,
    /// The executions that it changed because of their waits, or of messages of the inbox.
    pub(super) woken: Vec<ExecutionId>,
    /// The number of parents that it changed because of the ends of their children.
    pub(super) parents: usize,
    /// The schedules that it changed without a message.
    pub(super) schedules: Vec<ScheduleId>,
    /// Whether it also claimed tasks.
    pub(super) has_claim: bool,
}

impl RefusedBatch {
    const fn items(&self) -> usize {
        let messages = self.messages.len() + self.schedules.len();
        messages + self.rescued.len() + self.woken.len() + self.parents
    }

    /// Whether it held a single item, which is then the item that the database refuses.
    pub(super) const fn is_single(&self) -> bool {
        self.items() == 1 && !self.has_claim
    }

    /// Whether it held nothing but a claim.
    pub(super) const fn is_claim(&self) -> bool {
        self.items() == 0 && self.has_claim
    }
}
