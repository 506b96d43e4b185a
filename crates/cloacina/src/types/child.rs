//! Children: executions that nodes of other executions start and wait for (semantics M).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{ExecutionId, ExecutionStatus, Failure, Json, Micros, Ordinal, RunnerId, TaskWait};

/// Maximum depth of a tree of executions: the number of ancestors of its deepest child (M7).
pub const MAX_CHILD_DEPTH: u32 = 32;

/// The rule for an open child when its parent is cancelled, fails or times out (M4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentEnd {
    /// The child is cancelled.
    #[default]
    Cancel,
    /// The child continues to run. If the parent had paused the child, the child is resumed.
    Abandon,
}

impl ParentEnd {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if requires a reference"
    )]
    const fn is_cancel(&self) -> bool {
        matches!(self, Self::Cancel)
    }
}

/// The definition of a node that runs another workflow as a child. The result of the node is the output of the child
/// (M0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSpec {
    /// The name of the workflow.
    pub workflow: String,
    /// The names of the child's input fields, each with the path of its value in the context that the node sees. `None`: the
    /// child receives this whole context, or only the declared keys if its workflow declares an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<BTreeMap<String, String>>,
    /// The rule for the child when the parent ends before the child.
    #[serde(default, skip_serializing_if = "ParentEnd::is_cancel")]
    pub on_parent_end: ParentEnd,
}

/// The link from a child to its parent: the parent execution, and the task in it that started the child, either as a
/// node or by a call of its function. Also links an execution of final tasks to the execution to which they belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The parent execution.
    pub execution: ExecutionId,
    /// The task of the parent that started the child.
    pub task: Ordinal,
    /// For the child of a node: its number among the children of the node, or of the node's item, from 1. The node starts
    /// another child if its retry policy retries the node, or if a retry of the execution begins at the node. For the child
    /// of a function: [`Runs::generation`] of the call. For an execution of final tasks: its number among all such
    /// executions of the parent.
    pub generation: u32,
    /// The key of the call that started the child, if the function of a task started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// If the call starts several children: the number of this child among them. If the node starts one child per
    /// element of a list: the index of the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The number of ancestors of the child.
    pub depth: u32,
    /// Whether a pause of the parent has paused the child. If so, a resume of the parent also resumes the child.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The child's own timeout, if the parent had less time left when it started the child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<OwnTimeout>,
    /// Set if the execution runs the final tasks of another execution. Such an execution is not a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finale: Option<Box<Finale>>,
}

impl ParentLink {
    /// Returns the index of the item for which the node started the child. `None`: the node has only one child, or the
    /// function of a task started the child.
    #[must_use]
    pub fn map_item(&self) -> Option<u32> {
        self.item
            .filter(|_| self.key.is_none() && self.finale.is_none())
    }

    /// Returns the ordinal of the parent's task as stored in the database; -1 for an execution of final tasks.
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
    /// The timeout before the parent shortened it, in microseconds; `None`: no timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micros: Option<Micros>,
    /// Whether this timeout applies again. It does after a retry of the child, because the parent's deadline may have
    /// passed by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

/// The part of a [`ParentLink`] that belongs to an execution of final tasks (semantics Q). Below, "the first execution" means
/// the execution whose final tasks run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finale {
    /// The execution of the final tasks.
    pub id: ExecutionId,
    /// How often each task of the first execution has been compensated before, by task id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensated: Vec<(String, u32)>,
    /// The attempts of the first execution that may still run. No final task starts until they have ended or are lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldAttempt>,
}

impl Finale {
    /// Returns how often a task of the first execution has been compensated before.
    #[must_use]
    pub fn times(&self, task: &str) -> u32 {
        let mut counts = self.compensated.iter();
        counts
            .find(|(known, _)| known == task)
            .map_or(0, |(_, times)| *times)
    }
}

/// An attempt that was running when its execution ended.
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
    /// Whether this entry represents all items of a map that the runner may be running. Otherwise it represents one attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub items: bool,
}

/// The end of a child, as it is reported to the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The child.
    pub child: ExecutionId,
    /// The task of the parent that started the child.
    pub task: Ordinal,
    /// The index of the element, if the node starts one child per element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// If a call of the task's function started several children: the number of the child among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// The final state of the child: `Completed`, `Failed` or `Cancelled`.
    pub status: ExecutionStatus,
    /// The output of a completed child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// The error of a failed child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl ChildEnd {
    /// Returns the error message of a node whose child did not complete (M5).
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

/// The information that a node stores about its child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChild {
    /// The execution of the child.
    pub id: ExecutionId,
    /// The number of the child among the children of the node.
    pub generation: u32,
    /// The final state of the child, if it has been reported to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExecutionStatus>,
    /// The end of the child, if the node has not processed it because the parent is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Box<ChildEnd>>,
    /// The delay in microseconds before the node starts another child, if the node's retry policy allows another child
    /// after this end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay: Option<Micros>,
}

/// A message from one execution to another. It is stored in the same transaction as the change that causes it. Any runner can
/// apply it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// To a child: the parent no longer waits for the child.
    Cancel,
    /// To a child: the parent was paused.
    Pause,
    /// To a child: the parent was resumed.
    Resume,
    /// To a child: the node that started the child runs again.
    Retry,
    /// To a parent: a child has ended.
    ChildEnded(Box<ChildEnd>),
    /// To an execution of final tasks: this attempt has ended or is lost. The note is stored while the attempt may
    /// still run, and stays in the inbox until the attempt has ended or is lost.
    AttemptEnded(HeldAttempt),
}

/// A note and the execution that receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The receiver of the note.
    pub target: ExecutionId,
    /// The note.
    pub note: Note,
}

/// A call with which the function of a task runs children (T5, T10), with the states of these children.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The name of the workflow.
    pub workflow: String,
    /// The children that have not been started, in the order in which they will start.
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
    /// Earlier children of the call, by their number. These children are retried, and no new children are started in
    /// their place (M6).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<u32, ExecutionId>,
    /// The open children, by their number among the children of the call.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "super::id_ranges"
    )]
    pub open: BTreeMap<u32, ExecutionId>,
    /// Other calls that the function has made at the same time, for example with `join!`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<RunsBeside>,
}

impl Runs {
    /// Returns whether a child of this call can be started now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let is_below = |limit: u32| self.open.len() < limit as usize;
        !self.inputs.is_empty() && self.parallel.is_none_or(is_below)
    }

    /// Returns whether all children of this call and of its simultaneous calls have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let calls = self.beside.iter().map(|call| &call.runs);
        calls
            .chain([self])
            .all(|runs| runs.inputs.is_empty() && runs.open.is_empty())
    }

    /// Returns the number of the child that has ended according to `end`. `None`: the child is not an open child of
    /// this call.
    #[must_use]
    pub fn number_of(&self, end: &ChildEnd) -> Option<u32> {
        let is_child = |(_, id): &(&u32, &ExecutionId)| **id == end.child;
        match end.number {
            Some(number) => self.open.get_key_value(&number).filter(is_child),
            None => self.open.iter().find(is_child),
        }
        .map(|(number, _)| *number)
    }

    /// Returns the open children of this call and of its simultaneous calls.
    pub fn all_open(&self) -> impl Iterator<Item = ExecutionId> {
        let beside = self.beside.iter().flat_map(|call| call.runs.open.values());
        self.open.values().chain(beside).copied()
    }
}

/// A call that runs children at the same time as another call of the same function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsBeside {
    /// The key of the step that records the end of the call.
    pub key: String,
    /// The position of this step.
    pub position: u32,
    /// The children of the call.
    pub runs: Runs,
}

/// A child to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInput {
    /// The number of the child among the children of the call, from 0.
    pub index: u32,
    /// The input of the child, a JSON object.
    pub input: Json,
}

/// The children of one call, except those that completed. A retry of the execution removes their recorded ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRuns {
    /// The position of the step that records the call.
    pub position: u32,
    /// Whether the call runs several children. The steps of these children follow the step of the call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
    /// The children, by their number. `None`: the child was cancelled, so a retry starts a new one.
    pub children: BTreeMap<u32, Option<ExecutionId>>,
}

impl TaskWait {
    /// Returns whether the task waits for this child. The task is a node that has started the child, or its function
    /// has started the child.
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

/// An execution that starts when a task completes (T10). It has no parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStart {
    /// The key of the call.
    pub key: String,
    /// The name of the workflow.
    pub workflow: String,
    /// The input, a JSON object.
    pub input: Json,
}
