//! Children: their start, their end, and the notes that parents and children exchange (semantics M).
//!
//! A node that runs another workflow is a waiting task. Its child is started in the transaction that makes the node
//! ready, or later if the execution has a start time or the workflow is not known yet.
//!
//! Parents and children inform each other by notes. A note is stored in the transaction of the change that causes it, and any
//! runner can apply it. A note about the end of a child changes nothing if it does not belong to the node's current wait.
//!
//! `start` starts a child. `end` notifies its parent and completes or fails the node. `family` handles the notes that a
//! parent sends to its children. `items` is for nodes that start one child per element of a list.

mod end;
mod family;
mod items;
mod start;

use super::{Changes, Execution};
use crate::types::{ExecutionStatus, NodeChild, Ordinal, TaskWait};

pub use items::{ItemStart, MapChildren};
pub use start::{ChildFound, ChildStart};

impl Execution {
    /// The most recently started child of a node.
    #[must_use]
    pub fn node_child(&self, ordinal: Ordinal) -> Option<&NodeChild> {
        self.task(ordinal).wait.as_ref()?.child.as_ref()
    }

    fn change_child(
        &mut self,
        ordinal: Ordinal,
        changes: &mut Changes,
        change: impl FnOnce(&mut NodeChild),
    ) {
        self.change_wait(
            ordinal,
            |wait| {
                if let Some(child) = &mut wait.child {
                    change(child);
                }
            },
            changes,
        );
    }
}

/// M6: returns the child that a node keeps when the node runs again. Returns `None` if a new child must start, because the old
/// child was cancelled and cannot run again, or because the retry restarts the node from scratch.
pub(in crate::engine) fn kept_child(wait: &TaskWait, restarted: bool) -> Option<NodeChild> {
    let child = wait.child.as_ref()?;
    let can_run_again = !restarted && child.status != Some(ExecutionStatus::Cancelled);
    can_run_again.then(|| NodeChild {
        end: None,
        retry_delay: None,
        ..child.clone()
    })
}
