//! The recorded steps of a task. A step is a part of the task's function whose result is durable (semantics T).

use super::{Json, Micros, Ordinal, Timestamp};

/// The kind of call that recorded a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A call of a function; the value is the function's result.
    Step,
    /// A sleep.
    Sleep,
    /// A wait; the value is the data that the wait received.
    Wait,
    /// A call that ran children. The value is the end of the child, or the number of children if the call ran several.
    Run,
    /// The end of one of several children of a call. It belongs to the step of that call.
    Child,
}

impl StepKind {
    /// Returns the name that the database and the public API use.
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

    /// Returns the kind that has this name, or `None`.
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
    /// The key under which later attempts find the step; unique in the task.
    pub key: String,
    /// The position of the step among the recorded steps of the task, counted from 0.
    pub position: u32,
    /// The kind of call that recorded the step.
    pub kind: StepKind,
    /// The number of the attempt that recorded the step.
    pub attempt: u32,
    /// The time at which the step began.
    pub started_at: Timestamp,
    /// The time at which the step ended.
    pub ended_at: Timestamp,
    /// The result of the step.
    pub value: Json,
}

impl StepRecord {
    /// Returns an estimate of the size of the step in the database, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_str().len()
    }

    /// Returns the duration of the step.
    #[must_use]
    pub fn duration(&self) -> Micros {
        self.ended_at.since(self.started_at).max(0)
    }
}

/// A range of a task's recorded steps to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDrop {
    /// The task.
    pub task: Ordinal,
    /// The position of the first step to delete.
    pub from: u32,
    /// The position of the last step to delete; [`StepDrop::ALL`] deletes all later steps.
    pub until: u32,
}

impl StepDrop {
    /// The value of `until` with which all later steps are deleted.
    pub const ALL: u32 = u32::MAX;

    /// Returns the range of all steps of a task from the position `from` on.
    #[must_use]
    pub const fn from(task: Ordinal, from: u32) -> Self {
        Self {
            task,
            from,
            until: Self::ALL,
        }
    }

    /// Returns the range that contains only the step at `position`.
    #[must_use]
    pub const fn one(task: Ordinal, position: u32) -> Self {
        Self {
            task,
            from: position,
            until: position,
        }
    }
}

/// The changes that a decision makes to the recorded steps of an execution. Steps are deleted before steps are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepChanges {
    /// The steps to record, each with its task.
    pub recorded: Vec<(Ordinal, StepRecord)>,
    /// The steps to delete.
    pub dropped: Vec<StepDrop>,
}

impl StepChanges {
    /// Returns whether there are no changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.recorded.is_empty() && self.dropped.is_empty()
    }
}
