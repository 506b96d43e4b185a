//! Children: executions that nodes of other executions start and wait for (semantics M).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{ExecutionId, ExecutionStatus, Failure, Json, Micros, Ordinal, RunnerId, TaskWait};

/// Maximum depth of a tree of executions: the number of ancestors of its deepest child (M7).
pub const MAX_CHILD_DEPTH: u32 = 32;

/// The fate of an open child when its parent is cancelled, fails or times out (M4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentEnd {
    /// The child is cancelled.
    #[default]
    Cancel,
    /// The child runs on. If its parent had paused it, it is resumed.
    Abandon,
}

impl ParentEnd {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if wants a reference"
    )]
    const fn is_cancel(&self) -> bool {
        matches!(self, Self::Cancel)
    }
}

/// A node that runs another workflow, and whose value is that execution's output (M0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSpec {
    /// The name of the workflow.
    pub workflow: String,
    /// The input by name, each value given by a path into the view of the node. `None`: the whole view, or, if the child's
    /// workflow declares an input, only the declared keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<BTreeMap<String, String>>,
    /// The fate of the child when the parent ends before it.
    #[serde(default, skip_serializing_if = "ParentEnd::is_cancel")]
    pub on_parent_end: ParentEnd,
}

/// The parent of an execution: the node that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The execution of the node.
    pub execution: ExecutionId,
    /// The node.
    pub task: Ordinal,
    /// The number of this child among the children of the node, from 1. The next child starts when the node is retried by its
    /// own policy, or when a retry of the execution begins at the node.
    pub generation: u32,
    /// The key of the call that started it, if the parent is the function of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its number among the children of that call, if the call starts several, or its item, if the node starts one child per
    /// element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The number of ancestors of the child.
    pub depth: u32,
    /// The parent has paused the child, so the parent also resumes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The child's own timeout, if the parent had less time left when it started the child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<OwnTimeout>,
    /// Set if the execution runs the final tasks of its parent, and is not the child of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finale: Option<Box<Finale>>,
}

impl ParentLink {
    /// The item of the node that the child belongs to. `None`: the node has one child, or the parent is the function of a task.
    #[must_use]
    pub fn map_item(&self) -> Option<u32> {
        self.item
            .filter(|_| self.key.is_none() && self.finale.is_none())
    }

    /// The ordinal of the node in the database; -1 for the final tasks of the execution itself.
    #[must_use]
    pub fn owner(&self) -> i64 {
        if self.finale.is_some() {
            -1
        } else {
            self.task.into()
        }
    }
}

/// A child's own timeout, which its parent shortened when it started the child (M4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnTimeout {
    /// The timeout without the parent, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micros: Option<Micros>,
    /// Whether it applies again, because the child was retried. The parent's old deadline may then have passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

/// The facts about the first execution in the link of an execution of final tasks (semantics Q).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finale {
    /// The execution of the final tasks.
    pub id: ExecutionId,
    /// The number of earlier compensations of tasks of the first execution, by task id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensated: Vec<(String, u32)>,
    /// The attempts of the first execution that may still run. No final task starts before they have ended or are lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldAttempt>,
}

impl Finale {
    /// The number of earlier compensations of a task of the first execution.
    #[must_use]
    pub fn times(&self, task: &str) -> u32 {
        let mut counts = self.compensated.iter();
        counts
            .find(|(known, _)| known == task)
            .map_or(0, |(_, times)| *times)
    }
}

/// An attempt that ran when its execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAttempt {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The runner whose worker runs the attempt.
    pub runner: RunnerId,
    /// The number of the attempt.
    pub attempt: u32,
    /// Stands for all items of a map that the runner may run, instead of one attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub items: bool,
}

/// The end of a child, as its parent learns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The child.
    pub child: ExecutionId,
    /// The node of the parent.
    pub task: Ordinal,
    /// Its item, if the node starts one child per element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// Its number among the children of a call of the node's function, if the call started several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Its final state: `Completed`, `Failed` or `Cancelled`.
    pub status: ExecutionStatus,
    /// The output of a completed child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// The error of a failed child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl ChildEnd {
    /// The message of the error of a parent whose child did not complete (M5).
    #[must_use]
    pub fn message(&self, workflow: &str) -> String {
        let what = match (&self.error, self.status) {
            (Some(error), _) => format!("failed with {}: {}", error.short_type(), error.message),
            (None, ExecutionStatus::Cancelled) => "was cancelled".to_owned(),
            (None, _) => "failed".to_owned(),
        };
        format!("child {} of workflow '{workflow}' {what}", self.child)
    }
}

/// The child of a node, as the node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChild {
    /// The execution.
    pub id: ExecutionId,
    /// Its number among the children of the node.
    pub generation: u32,
    /// Its final state, if the node knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExecutionStatus>,
    /// An end that the node has not acted on, because its execution is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Box<ChildEnd>>,
    /// The delay before the next child, if the policy of the node allows one after that end, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay: Option<Micros>,
}

/// A message from one execution to another. It is stored with the change that causes it and applied by any runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// To a child: its parent no longer waits for it.
    Cancel,
    /// To a child: its parent was paused.
    Pause,
    /// To a child: its parent was resumed.
    Resume,
    /// To a child: its node runs again.
    Retry,
    /// To a parent: a child has ended.
    ChildEnded(Box<ChildEnd>),
    /// To an execution of final tasks: an attempt may still run. The note stays in the inbox until the attempt has ended or is lost.
    AttemptEnded(HeldAttempt),
}

/// A note with its addressee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The execution that it is for.
    pub target: ExecutionId,
    /// The note.
    pub note: Note,
}

/// The children that the function of a task asks for with one call (T5, T10), and what the task knows of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The name of the workflow.
    pub workflow: String,
    /// The children that are not started, in the order in which they start.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub inputs: VecDeque<RunInput>,
    /// The number of children of the call, including those that have ended. `None`: the call runs one child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Maximum number of open children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Maximum run time of a child, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// The priority of the children. `None`: the priority of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// The number of this call among all the calls with which the task has started children.
    #[serde(default)]
    pub generation: u32,
    /// Earlier children of the call that are retried in place instead of starting new ones (M6).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<u32, ExecutionId>,
    /// The open children, each with its number among the children of the call.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "super::id_ranges"
    )]
    pub open: BTreeMap<u32, ExecutionId>,
    /// Other calls that the function makes at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<RunsBeside>,
}

impl Runs {
    /// Whether a child of this call can be started now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let is_below = |limit: u32| self.open.len() < limit as usize;
        !self.inputs.is_empty() && self.parallel.is_none_or(is_below)
    }

    /// Whether all children of this call and of the calls beside it have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let calls = self.beside.iter().map(|call| &call.runs);
        calls
            .chain([self])
            .all(|runs| runs.inputs.is_empty() && runs.open.is_empty())
    }

    /// The number of the open child to which an end belongs. `None`: it is not an open child of this call.
    #[must_use]
    pub fn number_of(&self, end: &ChildEnd) -> Option<u32> {
        let is_child = |(_, id): &(&u32, &ExecutionId)| **id == end.child;
        match end.number {
            Some(number) => self.open.get_key_value(&number).filter(is_child),
            None => self.open.iter().find(is_child),
        }
        .map(|(number, _)| *number)
    }

    /// The open children of this call and of the calls beside it.
    pub fn all_open(&self) -> impl Iterator<Item = ExecutionId> {
        let beside = self.beside.iter().flat_map(|call| call.runs.open.values());
        self.open.values().chain(beside).copied()
    }
}

/// A call that runs children at the same time as another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsBeside {
    /// The key of the step that records how it ended.
    pub key: String,
    /// The position of that step.
    pub position: u32,
    /// Its children.
    pub runs: Runs,
}

/// A child to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInput {
    /// Its number among the children of the call, from 0.
    pub index: u32,
    /// Its input, a JSON object.
    pub input: Json,
}

/// The children of a call that did not complete. A retry of the execution forgets their recorded ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRuns {
    /// The position of the step that records the call.
    pub position: u32,
    /// Whether the call runs several children. Their steps follow the step of the call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// The children, by their number. `None`: the child was cancelled, so a retry starts a new one.
    pub children: BTreeMap<u32, Option<ExecutionId>>,
}

impl TaskWait {
    /// Whether the task waits for this child of its node, or of its function.
    #[must_use]
    pub fn awaits_child(&self, child: ExecutionId) -> bool {
        let runs = self
            .open
            .as_ref()
            .and_then(|open| open.park.as_ref()?.runs.as_ref());
        let is_of_function = runs.is_some_and(|runs| runs.all_open().any(|id| id == child));
        let is_of_node = self.child.as_ref().is_some_and(|known| known.id == child);
        self.open.is_some() && (is_of_function || is_of_node)
    }
}

/// An execution that a task starts with its completion (T10). It has no parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStart {
    /// The key of the call.
    pub key: String,
    /// The name of the workflow.
    pub workflow: String,
    /// The input, a JSON object.
    pub input: Json,
}
