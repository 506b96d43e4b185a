//! Children: their start, their end, and the notes between parents and children (semantics M).
//!
//! A node that runs another workflow is a waiting task. Its child is started in the transaction that makes the node
//! ready. Executions inform each other by notes. A note is stored with the change that causes it, and any runner applies it. A
//! note that does not match the node's current wait changes nothing.
//!
//! `start` starts a child. `end` notifies its parent and completes or fails the node. `family` handles the notes in between.
//! `items` handles the children of a node that starts one per element of a list.

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

/// M6: the child that a node keeps when it runs again. A cancelled child cannot run again, and a retry from this node on starts
/// a new child.
pub(in crate::engine) fn kept_child(wait: &TaskWait, restarted: bool) -> Option<NodeChild> {
    let child = wait.child.as_ref()?;
    let can_run_again = !restarted && child.status != Some(ExecutionStatus::Cancelled);
    can_run_again.then(|| NodeChild {
        end: None,
        retry_delay: None,
        ..child.clone()
    })
}
