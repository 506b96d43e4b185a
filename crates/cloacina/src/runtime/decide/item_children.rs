//! Children of items of maps: the runner that has claimed an item starts its child, and the child's end ends the item
//! (semantics K, M).

use std::sync::Arc;

use super::children::fresh_id;
use crate::engine::{Execution, ItemStart, MapChildren};
use crate::runtime::batch::PendingChange;
use crate::runtime::message::Message;
use crate::runtime::notes::message_of;
use crate::runtime::step::{Signal, Step};
use crate::store::{ClaimedItems, InboxMessage, ItemFence, ItemQuery, ItemWrite, StoreError};
use crate::types::{
    ChildEnd, ExecutionId, ItemRecord, Labels, MapState, Micros, Note, Ordinal, Post, TaskStatus,
};

/// How long, in microseconds, an item whose child could not be started waits before it can be claimed again.
const START_AGAIN: Micros = 1_000_000;

/// Returns messages that start the children of claimed items.
pub(super) fn starts_of(map: &ClaimedItems) -> impl Iterator<Item = Message> + '_ {
    map.items.iter().map(|item| Message::StartItem {
        execution: map.row.execution,
        task: map.row.task,
        generation: map.row.generation,
        item: Box::new(item.clone()),
    })
}

impl Step {
    /// M7: whether the workflow of a map's children is known. Also returns `true` for a map whose items are run by
    /// workers.
    pub(super) fn knows_children(&mut self, id: ExecutionId, ordinal: Ordinal) -> bool {
        let name = self.ledger.get(id).and_then(|execution| {
            let spec = execution.workflow().task(ordinal).child.as_ref()?;
            Some(spec.workflow.clone())
        });
        name.is_none_or(|name| matches!(self.newest_of(&name), Ok(Some(_))))
    }

    /// M1, M2: starts the child of an item that this runner has claimed. The store writes the child only if the claim still
    /// holds and the map is still open.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The item stays claimed, and the reconciler takes it over.
    pub(in crate::runtime) fn start_item(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        generation: u32,
        item: &ItemRecord,
    ) -> Result<(), StoreError> {
        let key = (id, task);
        let Some(claim) = item.claim().filter(|claim| claim.runner == self.runner) else {
            return Ok(());
        };
        if self.maps.row(key).is_none() {
            for row in self.store.maps(&[id])? {
                self.maps.note_row(row);
            }
        }
        let is_open = (self.maps.row(key)).is_some_and(|row| row.generation == generation);
        let is_written = (self.batch.items.get(&key))
            .is_some_and(|pending| pending.written.contains(&item.item));
        if !is_open || is_written {
            return Ok(());
        }
        let workflow = self.ledger.get(id).and_then(|execution| {
            let spec = execution.workflow().task(task).child.as_ref()?;
            Some(spec.workflow.clone())
        });
        let found = match workflow {
            Some(name) => self.newest_of(&name)?,
            None => None,
        };
        let child = fresh_id(&mut self.fork_random(), self.now);
        let now = self.now;
        let row = self.maps.row(key).cloned();
        let view = row.and_then(|row| self.view_of_map(key, &row, [item.item]));
        let start = match (self.ledger.get(id), found.as_ref(), view) {
            (Some(execution), Some(found), Some(view)) => {
                let children = MapChildren {
                    found,
                    generation,
                    view: &view.context,
                };
                let elements = view.elements.item(item.item);
                Some(execution.start_item(task, item, elements, children, child, now))
            }
            _ => None,
        };
        let message = Message::StartItem {
            execution: id,
            task,
            generation,
            item: Box::new(item.clone()),
        };
        let fence = ItemFence::Claim(claim);
        match (start, found) {
            (Some(ItemStart::New(record, start)), Some(found)) => {
                let workflow = Arc::clone(&found.workflow);
                let (execution, changes) =
                    Execution::submit_child(workflow, start.new, Some(start.parent), now);
                self.ledger.insert(execution);
                let change = PendingChange::new(changes, Labels::default());
                self.batch.executions.insert(child, change);
                let write = ItemWrite {
                    fence,
                    record,
                    otherwise: Some(item.returned(now)),
                };
                self.write_item(key, write, Some(message));
            }
            (Some(ItemStart::Again(record, child)), _) => {
                let post = Post {
                    target: child,
                    note: Note::Retry,
                };
                let sender = Some((task, Some(item.item)));
                let revision = i64::from(item.attempt);
                let note = message_of(id, revision, (item.item, 0), &post, sender, now);
                let write = ItemWrite {
                    fence,
                    record,
                    otherwise: Some(item.returned(now)),
                };
                let pending = self.write_item(key, write, Some(message));
                pending.posts.push((child, note));
            }
            (Some(ItemStart::Failed(record)), _) => {
                self.end_item(key, claim, record, Some(message));
            }
            _ => {
                tracing::warn!(execution_id = %id, item = item.item, "cannot start the child of an item; the runner will try again");
                let record = item.returned(now + START_AGAIN);
                self.end_item(key, claim, record, Some(message));
            }
        }
        Ok(())
    }

    /// M3: applies the end of an item's child. Returns `false` if the message must be applied later.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(super) fn apply_item_end(
        &mut self,
        message: &InboxMessage,
        id: ExecutionId,
        item: u32,
        end: &ChildEnd,
    ) -> Result<bool, StoreError> {
        let key = (id, end.task);
        let is_written =
            (self.batch.items.get(&key)).is_some_and(|pending| pending.written.contains(&item));
        if is_written {
            // The item was changed in this turn. The next turn applies the message.
            self.signals.raise(Signal::Waits);
            return Ok(false);
        }
        if !self.ledger.contains(id) {
            self.load(&[id])?;
            self.note_starts_of(id);
        }
        if self.ledger.is_unreadable(id) {
            return Ok(false);
        }
        if self.maps.row(key).is_none() {
            for row in self.store.maps(&[id])? {
                self.maps.note_row(row);
            }
        }
        let query = ItemQuery {
            execution: id,
            task: end.task,
            status: Some(TaskStatus::Running),
            from: item,
            limit: 1,
        };
        let is_open = (self.maps.row(key)).is_some_and(|row| row.state != MapState::Ended);
        let found = if is_open {
            self.store.items(&query)?
        } else {
            Vec::new()
        };
        let holds = |found: &&ItemRecord| {
            found.item == item && found.runner.is_none() && found.child == Some(end.child)
        };
        let random = self.random();
        let Some((found, execution)) = found.iter().find(holds).zip(self.ledger.get(id)) else {
            // The item does not wait for the end of this child.
            self.store.note_inbox(message.id, None)?;
            return Ok(true);
        };
        let record = execution.item_child_ended(found, end, self.now, random);
        let write = ItemWrite {
            fence: ItemFence::Child(end.child),
            record,
            otherwise: None,
        };
        let pending = self.write_item(key, write, None);
        pending.settled.push((message.id, item));
        Ok(true)
    }
}
