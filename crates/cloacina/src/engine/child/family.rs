//! The notes that a parent sends to its children, and their effects: pause, resume, cancel, retry (M4, M6).

use std::sync::Arc;

use crate::engine::{Changes, Execution};
use crate::types::{
    ExecutionStatus, MapChange, Micros, NodeChild, Note, Ordinal, ParentEnd, Post, TaskStatus,
    Timestamp,
};

impl Execution {
    /// M4: applies a parent's note `Pause`, `Resume` or `Retry` to this child. Other notes, which are applied elsewhere,
    /// change nothing here.
    pub fn hear_parent(&mut self, note: &Note, now: Timestamp) -> Changes {
        let is_open = !self.record.status.is_terminal();
        let is_paused = self.record.status == ExecutionStatus::Paused;
        let was_paused_by_parent = (self.record.parent.as_ref()).is_some_and(|link| link.paused);
        let decided = match note {
            Note::Pause if is_open && !is_paused => {
                let changes = self.pause(now);
                self.set_paused_by_parent(true);
                changes.map(|mut changes| {
                    changes.flow.link = true;
                    changes
                })
            }
            Note::Resume if is_open && was_paused_by_parent => self.resume(now),
            // An open child does not need a retry, because it will notify its parent when it ends.
            Note::Retry if !is_open => self.retry(None, now),
            _ => Ok(Changes::default()),
        };
        decided.unwrap_or_else(|_| {
            // M6: a child that cannot run again repeats the notification of its end.
            let mut changes = Changes::default();
            if matches!(note, Note::Retry) {
                self.tell_parent(&mut changes);
            }
            changes
        })
    }

    fn set_paused_by_parent(&mut self, paused: bool) {
        if let Some(link) = &mut self.record.parent {
            Arc::make_mut(link).paused = paused;
        }
    }

    /// M4: records that the parent no longer keeps this child paused, because a caller or the parent has resumed the child.
    pub(in crate::engine) fn forget_pause_of_parent(&mut self, changes: &mut Changes) {
        if self.record.parent.as_ref().is_some_and(|link| link.paused) {
            self.set_paused_by_parent(false);
            changes.flow.link = true;
        }
    }

    /// Sends a note to the open child of a waiting node, and to the children that the task's function started.
    pub(in crate::engine) fn post_to_child(
        &self,
        ordinal: Ordinal,
        note: Note,
        changes: &mut Changes,
    ) {
        self.post_to_runs(ordinal, &note, changes);
        let child = self.node_child(ordinal);
        if let Some(child) =
            child.filter(|child| self.task(ordinal).is_waiting() && child.end.is_none())
        {
            changes.flow.posts.push(Post {
                target: child.id,
                note,
            });
        }
    }

    /// D7, M4: resumes a node, and its open child, after a pause of `held` microseconds.
    pub(in crate::engine) fn resume_child(
        &mut self,
        ordinal: Ordinal,
        held: Micros,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        self.post_to_child(ordinal, Note::Resume, changes);
        let is_started = self.node_child(ordinal).is_some();
        let start_at = self.record.start_at;
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Ready;
        task.ready_at = match task.ready_at {
            Some(at) if !is_started && Some(at) != start_at => Some(at + held),
            Some(at) if !is_started => Some(at),
            _ => Some(now),
        };
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
    }

    /// M4: handles the open children of a waiting task when this execution is cancelled or times out. Cancels or abandons
    /// the child of a node, and cancels the children that the task's function started.
    pub(in crate::engine) fn leave_child(&mut self, ordinal: Ordinal, changes: &mut Changes) {
        self.post_to_runs(ordinal, &Note::Cancel, changes);
        let is_open = |child: &&NodeChild| child.status.is_none();
        let Some(child) = self.node_child(ordinal).filter(is_open) else {
            return;
        };
        let target = child.id;
        let spec = self.definition(ordinal).child.as_ref();
        if spec.is_some_and(|spec| spec.on_parent_end == ParentEnd::Cancel) {
            changes.flow.posts.push(Post {
                target,
                note: Note::Cancel,
            });
            self.change_child(ordinal, changes, |child| {
                child.status = Some(ExecutionStatus::Cancelled);
            });
        } else if self.record.status == ExecutionStatus::Paused {
            // The child is abandoned. It was paused with its parent, and nothing else resumes it.
            changes.flow.posts.push(Post {
                target,
                note: Note::Resume,
            });
        }
    }

    /// M6: cancels a node's earlier children, which may still be open: its child, or the children of its items. A retry
    /// that restarts the node from scratch starts new children.
    pub(in crate::engine) fn cancel_earlier_child(&self, ordinal: Ordinal, changes: &mut Changes) {
        if let Some(child) = self
            .node_child(ordinal)
            .filter(|child| child.status.is_none())
        {
            changes.flow.posts.push(Post {
                target: child.id,
                note: Note::Cancel,
            });
        }
        if self.starts_children(ordinal) {
            changes
                .flow
                .maps
                .push(MapChange::Tell(ordinal, Note::Cancel));
        }
    }
}
