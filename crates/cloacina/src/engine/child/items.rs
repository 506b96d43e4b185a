//! Nodes that run one child per element of a list: the start of a child for an item, and the end of the item (semantics M, K).
//!
//! Such a node is a map whose items are run by children instead of workers. An item is running while its child is open, and an
//! attempt of the item ends when the child ends.

use std::sync::Arc;

use super::{ChildFound, ChildStart};
use crate::engine::{Execution, NewExecution};
use crate::types::{
    ChildEnd, Context, ExecutionId, ExecutionStatus, Failure, FailureKind, ItemRecord, Json,
    MAX_CHILD_DEPTH, Note, Ordinal, ParentEnd, ParentLink, TaskStatus, Timestamp,
};

/// The values that all children of a map have in common when they start.
#[derive(Clone, Copy, Debug)]
pub struct MapChildren<'a> {
    /// The workflow of the children.
    pub found: &'a ChildFound,
    /// The number of times that the map's list was read.
    pub generation: u32,
    /// The context that the node sees.
    pub view: &'a Context,
}

/// The decision about an item whose child is to be started.
#[derive(Clone, Debug)]
pub enum ItemStart {
    /// A new child starts.
    New(ItemRecord, Box<ChildStart>),
    /// The item already has a child. This child runs again (M6).
    Again(ItemRecord, ExecutionId),
    /// The item fails because the input of its child cannot be built.
    Failed(ItemRecord),
}

impl Execution {
    /// Whether a task is a node that starts one child per element of a list.
    #[must_use]
    pub fn starts_children(&self, ordinal: Ordinal) -> bool {
        let definition = self.definition(ordinal);
        definition.child.is_some() && definition.over.is_some()
    }

    /// M7: the error text for a map whose children would exceed the maximum depth of nested children.
    pub(in crate::engine) fn depth_problem(&self, ordinal: Ordinal) -> Option<String> {
        let definition = self.definition(ordinal);
        let depth = self.child_depth();
        (self.starts_children(ordinal) && depth > MAX_CHILD_DEPTH).then(|| {
            let workflow = definition.child.as_ref().map_or("", |spec| &spec.workflow);
            format!(
                "task '{}' cannot start workflow '{workflow}': its children would be nested {depth} levels deep, and the maximum is {MAX_CHILD_DEPTH}",
                definition.id
            )
        })
    }

    fn child_depth(&self) -> u32 {
        self.record.parent.as_ref().map_or(0, |link| link.depth) + 1
    }

    /// M1, M2: starts a new child for a claimed item, or runs the item's earlier child again if it has one. `elements`:
    /// the values of the item by parameter; `id`: a fresh id for a new child.
    #[must_use]
    pub fn start_item(
        &self,
        ordinal: Ordinal,
        item: &ItemRecord,
        elements: Vec<(&str, Json)>,
        children: MapChildren<'_>,
        id: ExecutionId,
        now: Timestamp,
    ) -> ItemStart {
        let started = |child| ItemRecord {
            runner: None,
            child: Some(child),
            started_at: Some(now),
            ..item.clone()
        };
        if let Some(child) = item.child {
            return ItemStart::Again(started(child), child);
        }
        let MapChildren {
            found,
            generation,
            view,
        } = children;
        let mut view = view.clone();
        for (name, value) in elements {
            view.set(name, value);
        }
        let input = match self.child_input_from(ordinal, &view, Some(&found.workflow)) {
            Ok(input) => input,
            Err(problem) => {
                return ItemStart::Failed(ItemRecord {
                    status: TaskStatus::Failed,
                    runner: None,
                    started_at: Some(now),
                    ended_at: Some(now),
                    error: Some(Failure::engine(FailureKind::Rule, problem)),
                    ..item.clone()
                });
            }
        };
        // M4: the child inherits the priority. Its timeout is shortened to the time that its parent has left, except
        // with `ParentEnd::Abandon`.
        let timeout = self.definition(ordinal).timeout.or(found.default_timeout);
        let (timeout, own) = self.child_timeout(ordinal, timeout, now);
        let start = ChildStart {
            new: NewExecution {
                id,
                definition: found.definition,
                input: Arc::new(input),
                key: None,
                priority: self.priority(ordinal),
                start_at: None,
                timeout,
            },
            parent: Arc::new(ParentLink {
                execution: self.record.id,
                task: ordinal,
                generation: child_number(generation, item.attempt),
                key: None,
                item: Some(item.item),
                depth: self.child_depth(),
                paused: false,
                timeout: own,
                finale: None,
            }),
        };
        ItemStart::New(started(id), Box::new(start))
    }

    /// M3, M5: returns an item's state after the end of its child. `random` in 0..1 selects the delay of a retry within its
    /// jitter.
    #[must_use]
    pub fn item_child_ended(
        &self,
        item: &ItemRecord,
        end: &ChildEnd,
        now: Timestamp,
        random: f64,
    ) -> ItemRecord {
        let mut next = ItemRecord {
            runner: None,
            ready_at: None,
            ..item.clone()
        };
        if end.status == ExecutionStatus::Completed {
            next.status = TaskStatus::Completed;
            next.ended_at = Some(now);
            next.result = Some((end.output.clone()).unwrap_or_else(|| Json::from_encoder("null")));
            next.error = None;
            return next;
        }
        let failure = self.child_failure(end.task, end);
        let counted = item.attempt.saturating_sub(item.uncounted).max(1);
        if let Some(delay) = self.delay_after_child(end.task, end, counted, random) {
            // The next attempt of the item starts a new child.
            next.status = TaskStatus::Ready;
            next.ready_at = Some(self.timers_at(now) + delay);
            next.child = None;
        } else {
            next.status = TaskStatus::Failed;
            next.ended_at = Some(now);
            if end.status == ExecutionStatus::Cancelled {
                // A cancelled child cannot run again, so a retry starts a new child.
                next.child = None;
            }
        }
        next.error = Some(failure);
        next
    }

    /// M4: returns the note to send to the children of open items if the map ends before these items do.
    pub(in crate::engine) fn note_of_close(&self, ordinal: Ordinal) -> Option<Note> {
        let spec = self.definition(ordinal).child.as_ref()?;
        if !self.starts_children(ordinal) {
            return None;
        }
        match spec.on_parent_end {
            ParentEnd::Cancel => Some(Note::Cancel),
            // The children are abandoned. They were paused with their parent, and nothing else resumes them.
            ParentEnd::Abandon => {
                (self.record.status == ExecutionStatus::Paused).then_some(Note::Resume)
            }
        }
    }
}

/// The number of a child among the children of its item. Each reading of the list starts a new range of numbers, so that two
/// children of one item never have the same number (M2).
const fn child_number(generation: u32, attempt: u32) -> u32 {
    (generation.saturating_sub(1) << 16).saturating_add(attempt)
}
