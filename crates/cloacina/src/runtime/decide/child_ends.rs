//! Applies the end of a child to its parent in the transaction that ends the child (semantics M3).
//!
//! The batch also contains a message to the parent's inbox. If another runner has changed the parent, the
//! store cannot write the parent's change, and adds this message instead.

use crate::engine::Changes;
use crate::runtime::step::Step;
use crate::types::{ChildEnd, ExecutionId, Note};

impl Step {
    /// Applies the ends of children in this batch to their parents. Returns whether a parent has changed. A changed
    /// parent may have ended, or may have to start further children.
    pub(in crate::runtime) fn tell_parents(&mut self) -> bool {
        let ends = self.untold_ends();
        if ends.is_empty() || std::mem::take(&mut self.skips_parents) {
            return false;
        }
        let mut missing: Vec<ExecutionId> = ends
            .iter()
            .map(|(parent, _)| *parent)
            .filter(|parent| !self.ledger.contains(*parent))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if let Err(error) = self.load(&missing) {
            tracing::debug!(%error, "cannot read parents now; the ends of their children are sent to their inboxes and applied later");
            return false;
        }
        for parent in missing {
            self.note_starts_of(parent);
        }
        let mut is_changed = false;
        for (parent, end) in ends {
            is_changed |= self.tell_parent(parent, end);
        }
        is_changed
    }

    /// Returns the ends of children in this batch that are not applied to their parents yet, each with its parent. Leaves
    /// out parents that this turn changes for another reason, and children of items, because the map handles their ends.
    fn untold_ends(&self) -> Vec<(ExecutionId, ChildEnd)> {
        let mut found = Vec::new();
        for change in self.batch.executions.values() {
            // A new child's change is written only with its parent's change, so the parent's change cannot require it.
            if change.expected.is_none() || change.applied_to.is_some() {
                continue;
            }
            for post in &change.changes.flow.posts {
                let Note::ChildEnded(end) = &post.note else {
                    continue;
                };
                let parent = self.batch.executions.get(&post.target);
                let may_change = parent.is_none_or(|change| change.is_wake);
                if end.item.is_none() && may_change && !self.ledger.is_unreadable(post.target) {
                    found.push((post.target, (**end).clone()));
                }
            }
        }
        found
    }

    fn tell_parent(&mut self, parent: ExecutionId, end: ChildEnd) -> bool {
        let (now, random, child) = (self.now, self.random(), end.child);
        let Some(execution) = self.ledger.get_mut(parent) else {
            return false;
        };
        let change = self.batch.change(execution);
        let changes = execution.child_ended(end, now, random);
        if changes == Changes::default() {
            // The cached parent may be outdated, so the parent is informed by a message.
            self.batch.drop_if_empty(parent);
            return false;
        }
        change.changes.merge(changes);
        change.is_wake = true;
        change.requires.push(child);
        if let Some(change) = self.batch.executions.get_mut(&child) {
            change.applied_to = Some(parent);
        }
        self.watch_deadline(parent);
        true
    }
}
