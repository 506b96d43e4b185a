//! The changes that a decision causes: rows to write, history to store, and attempts to stop.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use super::FinalDue;
use crate::types::{
    Claim, HistoryEvent, HistoryKind, Json, MapChange, Note, Ordinal, Post, StepChanges, Timestamp,
};

/// The effect of one or more decisions on one execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Tasks whose record changed.
    pub tasks: BTreeSet<Ordinal>,
    /// Tasks that became ready. A task that is already due can be claimed in the transaction that writes these changes.
    pub ready: Vec<Ordinal>,
    /// History events to store, because they cannot be derived from other rows.
    pub history: Vec<HistoryEvent>,
    /// The changes of waits, steps, children and maps.
    pub flow: Flow,
    /// Running attempts that must be stopped.
    pub interrupted: Vec<(Ordinal, Claim)>,
    /// Tasks that reached a final status, for callbacks.
    pub ended_tasks: Vec<Ordinal>,
    /// Whether the execution ended.
    pub ended: bool,
    /// Whether a retry made an ended execution run again.
    pub revived: bool,
}

/// The changes of waits, steps, children and maps. Most decisions have no such changes, and allocate nothing for them.
#[derive(Clone, Debug, Default)]
pub struct Flow(Option<Box<FlowChanges>>);

/// The contents of [`Flow`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowChanges {
    /// Recorded steps to add, and recorded steps to delete.
    pub steps: StepChanges,
    /// Tasks whose wait changed.
    pub waits: BTreeSet<Ordinal>,
    /// Nodes and tasks whose children are started in the transaction that writes these changes. Also contains tasks whose
    /// function called `start` for a workflow that was not known. Once it is known, the function runs again.
    pub starts: BTreeSet<Ordinal>,
    /// The request for final tasks, if the execution has ended and at least one final task applies to its final status.
    /// The transaction that writes these changes submits the execution that runs the final tasks.
    pub finale: Option<FinalDue>,
    /// Maps to expand in the transaction that writes these changes.
    pub expands: BTreeSet<Ordinal>,
    /// The changes of the rows of the execution's maps.
    pub maps: Vec<MapChange>,
    /// Messages to other executions.
    pub posts: Vec<Post>,
    /// Whether the link to the parent changed.
    pub link: bool,
    /// Whether a task that began to wait started the execution.
    pub started: bool,
}

static NONE: FlowChanges = FlowChanges {
    steps: StepChanges {
        recorded: Vec::new(),
        dropped: Vec::new(),
    },
    waits: BTreeSet::new(),
    starts: BTreeSet::new(),
    finale: None,
    expands: BTreeSet::new(),
    maps: Vec::new(),
    posts: Vec::new(),
    link: false,
    started: false,
};

impl Flow {
    /// Returns the changes, or `None` if there are none. Unlike a mutable dereference of [`Flow`], this does not allocate.
    pub fn get_mut(&mut self) -> Option<&mut FlowChanges> {
        self.0.as_deref_mut()
    }

    fn merge(&mut self, later: Self) {
        let Some(later) = later.0 else {
            return;
        };
        let Some(known) = &mut self.0 else {
            self.0 = Some(later);
            return;
        };
        known.steps.recorded.extend(later.steps.recorded);
        known.steps.dropped.extend(later.steps.dropped);
        known.waits.extend(later.waits);
        known.starts.extend(later.starts);
        known.expands.extend(later.expands);
        known.maps.extend(later.maps);
        known.posts.extend(later.posts);
        known.finale = later.finale.or(known.finale.take());
        known.link |= later.link;
        known.started |= later.started;
    }
}

impl Deref for Flow {
    type Target = FlowChanges;

    fn deref(&self) -> &FlowChanges {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Flow {
    fn deref_mut(&mut self) -> &mut FlowChanges {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Flow {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Changes {
    /// Adds the changes of a later decision on the same execution.
    pub fn merge(&mut self, later: Self) {
        self.tasks.extend(later.tasks);
        self.ready.extend(later.ready);
        self.history.extend(later.history);
        if later.revived
            && let Some(flow) = self.flow.get_mut()
        {
            // The execution runs again, so its parent gets no note about the earlier end, and no final tasks are requested.
            (flow.posts).retain(|post| !matches!(post.note, Note::ChildEnded(_)));
            flow.finale = None;
        }
        self.flow.merge(later.flow);
        self.interrupted.extend(later.interrupted);
        self.ended_tasks.extend(later.ended_tasks);
        // `later.ended` covers only the later decision. An execution that an earlier decision ended stays ended, unless the
        // later decision makes it run again.
        self.ended = later.ended || (self.ended && !later.revived);
        self.revived |= later.revived;
    }

    pub(super) fn touch(&mut self, task: Ordinal) {
        self.tasks.insert(task);
    }

    pub(super) fn record(
        &mut self,
        time: Timestamp,
        kind: HistoryKind,
        task: Option<(Ordinal, Claim)>,
        data: Option<Json>,
    ) {
        self.history.push(HistoryEvent {
            time,
            kind: kind.name().to_owned(),
            task: task.map(|(ordinal, _)| ordinal),
            attempt: task.map(|(_, claim)| claim.attempt),
            runner: task.map(|(_, claim)| claim.runner),
            data,
        });
    }
}
