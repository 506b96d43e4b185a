//! The changes of a decision: the rows to write, the history to store, the attempts to stop.

use std::collections::BTreeSet;

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
    /// The meaning of the change for the maps of the execution.
    pub maps: Vec<MapChange>,
    /// Messages to other executions.
    pub posts: Vec<Post>,
    /// Whether the link to the parent changed.
    pub link: bool,
    /// Running attempts that must be stopped.
    pub interrupted: Vec<(Ordinal, Claim)>,
    /// Tasks that ended for good, for callbacks.
    pub ended_tasks: Vec<Ordinal>,
    /// Whether the execution ended.
    pub ended: bool,
    /// Whether an execution that had ended is retried.
    pub revived: bool,
}

impl Changes {
    /// Adds the changes of a later decision on the same execution.
    pub fn merge(&mut self, later: Self) {
        self.tasks.extend(later.tasks);
        self.ready.extend(later.ready);
        self.history.extend(later.history);
        self.steps.recorded.extend(later.steps.recorded);
        self.steps.dropped.extend(later.steps.dropped);
        self.waits.extend(later.waits);
        self.starts.extend(later.starts);
        self.expands.extend(later.expands);
        self.maps.extend(later.maps);
        if later.revived {
            // An execution that runs again has not ended.
            (self.posts).retain(|post| !matches!(post.note, Note::ChildEnded(_)));
            self.finale = None;
        }
        self.posts.extend(later.posts);
        self.finale = later.finale.or(self.finale.take());
        self.link |= later.link;
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
