//! The changes of a decision: the rows to write, the history to store, the attempts to stop.

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
    /// Tasks that became ready and can be claimed in the same transaction.
    pub ready: Vec<Ordinal>,
    /// History events that do not follow from other rows.
    pub history: Vec<HistoryEvent>,
    /// The changes of waits, steps, children and maps.
    pub flow: Flow,
    /// Running attempts that must be stopped.
    pub interrupted: Vec<(Ordinal, Claim)>,
    /// Tasks that ended for good, for callbacks.
    pub ended_tasks: Vec<Ordinal>,
    /// Whether the execution ended.
    pub ended: bool,
    /// Whether an execution that had ended is retried.
    pub revived: bool,
}

/// The changes of waits, steps, children and maps. Most decisions have none, and do not allocate them.
#[derive(Clone, Debug, Default)]
pub struct Flow(Option<Box<FlowChanges>>);

/// The contents of [`Flow`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowChanges {
    /// Recorded steps to add and to forget.
    pub steps: StepChanges,
    /// Tasks whose wait changed.
    pub waits: BTreeSet<Ordinal>,
    /// Nodes whose child is to be started in the same transaction.
    pub starts: BTreeSet<Ordinal>,
    /// The execution has ended and asks for its final tasks in the same transaction.
    pub finale: Option<FinalDue>,
    /// Maps to expand in the same transaction.
    pub expands: BTreeSet<Ordinal>,
    /// The effects on the maps of the execution.
    pub maps: Vec<MapChange>,
    /// Messages to other executions.
    pub posts: Vec<Post>,
    /// Whether the link to the parent changed.
    pub link: bool,
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
};

impl Flow {
    /// The changes, if there are any. Unlike a mutable dereference of [`Flow`], this allocates nothing.
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
            // An execution that runs again has not ended.
            (flow.posts).retain(|post| !matches!(post.note, Note::ChildEnded(_)));
            flow.finale = None;
        }
        self.flow.merge(later.flow);
        self.interrupted.extend(later.interrupted);
        self.ended_tasks.extend(later.ended_tasks);
        // A later decision does not repeat the end that an earlier one caused.
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
