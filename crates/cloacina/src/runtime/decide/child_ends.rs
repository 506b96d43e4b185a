//! Tells parents the ends of their children in the transaction of those ends (semantics M3).
//!
//! The message to the parent's inbox stays in the batch. The store adds it if the parent was changed meanwhile, so that its change is
//! not written.

use crate::engine::Changes;
use crate::runtime::step::Step;
use crate::types::{ChildEnd, ExecutionId, Note};

impl Step {
    /// Applies the ends of children in this batch to their parents. Returns whether any parent changed, whose own end or next
    /// children may follow.
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
            tracing::debug!(%error, "parents cannot be read; their inboxes tell them the ends of children");
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

    /// The ends of children that their parents have not learned in this turn. Those of the items of maps are counted by the map.
    fn untold_ends(&self) -> Vec<(ExecutionId, ChildEnd)> {
        let mut found = Vec::new();
        for change in self.batch.executions.values() {
            // The change of a new child depends on that of its parent.
            if change.expected.is_none() || change.told.is_some() {
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
            // What is known of the parent may be old, so the message is sent.
            self.batch.drop_if_empty(parent);
            return false;
        }
        change.changes.merge(changes);
        change.is_wake = true;
        change.requires.push(child);
        if let Some(change) = self.batch.executions.get_mut(&child) {
            change.told = Some(parent);
        }
        self.watch_deadline(parent);
        true
    }
}
