//! Recorded steps of a task: the parts of its function whose results are durable (semantics T).

use super::{Json, Micros, Ordinal, Timestamp};

/// The kind of a recorded step: which call recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A function was called; the value is its result.
    Step,
    /// The task slept.
    Sleep,
    /// The task waited; the value is what it got.
    Wait,
    /// The task ran children; the value is the end of the only child, or the number of several children.
    Run,
    /// The end of one of several children of a call. It is part of the step that records the call.
    Child,
}

impl StepKind {
    /// The name in the database and in the public API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Sleep => "sleep",
            Self::Wait => "wait",
            Self::Run => "run",
            Self::Child => "child",
        }
    }

    /// The kind with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Step, Self::Sleep, Self::Wait, Self::Run, Self::Child]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// A recorded step of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// The key under which later attempts find it; unique in the task.
    pub key: String,
    /// Its place among the recorded steps of the task, counted from 0.
    pub position: u32,
    /// The kind of the call that recorded it.
    pub kind: StepKind,
    /// The number of the attempt that recorded it.
    pub attempt: u32,
    /// The time at which the step began.
    pub started_at: Timestamp,
    /// The time at which it ended.
    pub ended_at: Timestamp,
    /// Its result.
    pub value: Json,
}

impl StepRecord {
    /// An estimate of its bytes in the database.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_str().len()
    }

    /// The duration of the step.
    #[must_use]
    pub fn duration(&self) -> Micros {
        self.ended_at.since(self.started_at).max(0)
    }
}

/// Steps to delete: the steps of a task from a position on, or in a range of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDrop {
    /// The task.
    pub task: Ordinal,
    /// The position of the first step to forget.
    pub from: u32,
    /// The position of the last step to forget; [`StepDrop::ALL`] to forget all later steps.
    pub until: u32,
}

impl StepDrop {
    /// The `until` of a drop without an end.
    pub const ALL: u32 = u32::MAX;

    /// The drop of a task's steps from a position on.
    #[must_use]
    pub const fn from(task: Ordinal, from: u32) -> Self {
        Self {
            task,
            from,
            until: Self::ALL,
        }
    }

    /// The drop of one step.
    #[must_use]
    pub const fn one(task: Ordinal, position: u32) -> Self {
        Self {
            task,
            from: position,
            until: position,
        }
    }
}

/// The effect of a decision on the recorded steps of an execution. Drops apply before records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepChanges {
    /// Steps to record, each with its task.
    pub recorded: Vec<(Ordinal, StepRecord)>,
    /// Steps to forget.
    pub dropped: Vec<StepDrop>,
}

impl StepChanges {
    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.recorded.is_empty() && self.dropped.is_empty()
    }
}
