//! The conditions that tasks wait for, and the state of a wait that is stored with its task (semantics L).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Context, ExecutionId, FailedRuns, Json, Micros, NodeChild, RunnerId, Runs, TaskMap, Timestamp,
};

/// The rule for signals that were sent before a wait began: which of them the wait accepts (L4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// Signals that were sent since the execution was submitted.
    #[default]
    Submitted,
    /// All stored signals.
    Ever,
}

impl Since {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if requires a reference"
    )]
    const fn is_submitted(&self) -> bool {
        matches!(self, Self::Submitted)
    }
}

/// A condition that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wait", rename_all = "snake_case")]
pub enum Condition {
    /// A signal with this name.
    Signal {
        /// The signal's name.
        name: String,
        /// The path of a value in the context that the task sees. This value is the key of the signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The literal key of the signal, if a function waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_value: Option<String>,
        /// The earlier signals that the wait accepts.
        #[serde(default, skip_serializing_if = "Since::is_submitted")]
        since: Since,
    },
    /// A length of time after the beginning of the wait.
    Delay {
        /// The length of time in microseconds.
        duration: Micros,
    },
    /// A point in time. A pause of the execution does not shift it.
    Until {
        /// The point in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// The path of an ISO 8601 text with an offset, in the context that the task sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// At least one of several conditions.
    AnyOf {
        /// The conditions.
        conditions: Vec<Self>,
    },
    /// All of several conditions.
    AllOf {
        /// The conditions.
        conditions: Vec<Self>,
    },
}

impl Condition {
    /// Creates the condition that a signal with this name and this key was sent. The key is a literal, not a path. `None`:
    /// the signal has no key.
    #[must_use]
    pub fn signal(name: impl Into<String>, key: Option<&str>) -> Self {
        Self::Signal {
            name: name.into(),
            key: None,
            key_value: key.map(str::to_owned),
            since: Since::default(),
        }
    }

    /// Creates a condition without parts, for a function that waits for children.
    #[must_use]
    pub(crate) const fn none() -> Self {
        Self::AllOf {
            conditions: Vec::new(),
        }
    }

    /// Returns the leaves: the parts of the condition that contain no other conditions, in the order in which they were
    /// written.
    #[must_use]
    pub fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::AnyOf { conditions } | Self::AllOf { conditions } => {
                conditions.iter().flat_map(Self::leaves).collect()
            }
            leaf => vec![leaf],
        }
    }

    /// Returns whether the condition holds. The iterator `holds` says whether each leaf holds, in the order of
    /// [`Self::leaves`].
    pub fn holds(&self, holds: &mut impl Iterator<Item = bool>) -> bool {
        // The loops do not stop early, because every leaf must take its answer from the iterator.
        match self {
            Self::AnyOf { conditions } => {
                let mut any = false;
                for condition in conditions {
                    any |= condition.holds(holds);
                }
                any
            }
            Self::AllOf { conditions } => {
                let mut all = true;
                for condition in conditions {
                    all &= condition.holds(holds);
                }
                all
            }
            _ => holds.next().unwrap_or(false),
        }
    }
}

/// The action of a task after its wait has timed out or its approval has been rejected (L8, L11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEnd {
    /// The task fails and is not retried.
    #[default]
    Fail,
    /// The task is skipped, with the same effect as a skip by its trigger rule.
    Skip,
    /// The task continues. It receives the signals that have arrived; if none has arrived, it receives no value.
    Continue,
}

impl WaitEnd {
    /// Returns whether this is the default. The default is not stored.
    #[must_use]
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if requires a reference"
    )]
    pub const fn is_fail(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

/// The options of a node that waits until a person approves or rejects it (L11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// A question for the person who decides. Paths in braces are replaced with their values in the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The person or group who decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The JSON schema of the data that the person passes with an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// The action of the node after a rejection.
    #[serde(default, skip_serializing_if = "WaitEnd::is_fail")]
    pub on_reject: WaitEnd,
}

/// A topic: the stream of signals with the same name and the same key, or with the same name and addressed to the same
/// execution. Within a topic, the numbers of signals have the order of their commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Topic(pub String);

/// The character between the name and the rest of a topic. It cannot occur in a name.
const SEPARATOR: char = '\u{1f}';

impl Topic {
    /// Creates the topic of signals with this name, and with this key or without a key.
    #[must_use]
    pub fn keyed(name: &str, key: Option<&str>) -> Self {
        Self(key.map_or_else(
            || format!("{name}{SEPARATOR}"),
            |key| format!("{name}{SEPARATOR}={key}"),
        ))
    }

    /// Creates the topic of signals with this name that are addressed to one execution.
    #[must_use]
    pub fn mailbox(name: &str, execution: ExecutionId) -> Self {
        Self(format!("{name}{SEPARATOR}@{execution}"))
    }

    /// Returns the range of all topics with this name: the lowest string in the range, and the lowest string after the
    /// range.
    #[must_use]
    pub fn range(name: &str) -> (String, String) {
        (format!("{name}{SEPARATOR}"), format!("{name}\u{20}"))
    }

    /// Returns the name of the topic's signals.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split(SEPARATOR).next().unwrap_or_default()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A position in a topic. A wait takes the first signal after this position (L3, L4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The topic.
    pub topic: Topic,
    /// The number of the last signal that was taken; 0 if no signal was taken.
    pub after: i64,
    /// Signals that were sent before this time are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A stored signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    /// The number of the signal. Later signals of a topic have higher numbers.
    pub seq: i64,
    /// The topic of the signal.
    pub topic: Topic,
    /// The data of the signal.
    pub data: Json,
    /// The time at which the signal was sent.
    pub sent_at: Timestamp,
    /// The name of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

/// The stored state of a leaf: a part of a condition that contains no other conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaf {
    /// A signal.
    Signal {
        /// The name.
        name: String,
        /// The key; `None` for signals without a key, and for signals to the execution.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The topics that can contain the signal, each with a position.
        cursors: Vec<Cursor>,
        /// The signal that was taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        taken: Option<SignalRecord>,
    },
    /// A timer.
    Timer {
        /// The time at which the timer is due.
        at: Timestamp,
        /// Whether a pause of the execution shifts this time.
        #[serde(default)]
        shifts: bool,
        /// Whether the timer has fired.
        #[serde(default)]
        fired: bool,
    },
}

impl Leaf {
    /// Returns the positions in topics from which the leaf takes a signal; empty for a timer.
    pub fn cursors(&self) -> impl Iterator<Item = &Cursor> {
        let cursors = match self {
            Self::Signal { cursors, .. } => cursors.as_slice(),
            Self::Timer { .. } => &[],
        };
        cursors.iter()
    }

    /// Returns whether this part of the condition holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        match self {
            Self::Signal { taken, .. } => taken.is_some(),
            Self::Timer { fired, .. } => *fired,
        }
    }
}

/// The kind of call that makes a task's function stop and wait.
///
/// When the wait ends, a step records its result. The result of a sleep is `null`. The result of a wait is an object with the
/// received data as `value`, or with `timed_out` if the wait timed out. The result of a child is an object with its output as
/// `value`, or with its error as `failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkKind {
    /// `sleep`.
    Sleep,
    /// `wait`.
    Wait,
    /// `run` and `run_many`: the function waits for the end of children.
    Run,
    /// `start`: the function waits until the workflow is known.
    Start,
}

/// A running function's request to wait (T5). When the wait ends, the function starts again from the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Park {
    /// The kind of call.
    pub kind: ParkKind,
    /// The key of the step that records the result of the wait.
    pub key: String,
    /// The position of this step among the recorded steps of the task.
    pub position: u32,
    /// The condition. The keys of its signals are literal. It has no parts if the task waits for children.
    pub condition: Condition,
    /// Maximum time to wait, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// The children that the function waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Box<Runs>>,
}

/// A wait that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWait {
    /// The time at which the wait began.
    pub since: Timestamp,
    /// The time at which the wait times out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The leaves of the condition; empty if the task waits for an approval, a child or the items of a map.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<Leaf>,
    /// The request of the function; `None` for a wait that the task's definition declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park: Option<Park>,
    /// The title of the approval, in which paths are replaced with their values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A decision about an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the person approved.
    pub approved: bool,
    /// The data that the person passed with the decision.
    pub data: Json,
    /// The name of the person who decided.
    pub by: Option<String>,
    /// The time of the decision.
    pub at: Timestamp,
    /// The reason for the decision.
    pub reason: Option<String>,
}

impl Decision {
    /// Returns the result of the node: an object with `approved`, `data`, `by`, `at` and `reason`.
    #[must_use]
    pub fn result(&self) -> Json {
        let at = self.at.to_rfc3339();
        let value = (|| {
            let mut out = Context::new();
            out.set("approved", Json::encode(&self.approved)?);
            out.set("data", self.data.clone());
            out.set("by", Json::encode(&self.by)?);
            out.set("at", Json::encode(&at)?);
            out.set("reason", Json::encode(&self.reason)?);
            Ok::<_, super::JsonError>(Json::from_encoder(out.to_json()))
        })();
        value.unwrap_or_else(|_| Json::from_encoder("null"))
    }
}

/// The open wait of a task, the results of its earlier waits, and other state that only some tasks have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskWait {
    /// The wait that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenWait>,
    /// Whether the wait that the definition declares has ended, so that the task can run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed: bool,
    /// The number of the last signal that was taken from each topic (L3).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<Topic, i64>,
    /// The data of the signals that the declared wait received, by the names of the signals.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Json>,
    /// The decision about the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The child of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<NodeChild>,
    /// The state of the map, if the task runs once per element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<TaskMap>,
    /// The number of calls with which the function of the task has run children.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// The function's calls for which not all children completed, by the keys of the calls.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, FailedRuns>,
    /// Whether the function has run in attempts that do not count, because the task waited or was snoozed, or because the
    /// claim was returned (Q3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
    /// The attempt whose function last ended in order to wait, and the first start of the function in this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<(u32, Timestamp)>,
    /// How often the execution was retried after a compensation of the task had completed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compensated: u32,
    /// In a workflow with final tasks: the last attempts that exceeded their timeouts, each with its runner. Their functions
    /// may still be running (Q2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overran: Vec<(RunnerId, u32)>,
    /// Only in the first task of an execution that was retried: the generation of the last final tasks before the retry.
    /// These final tasks and all earlier ones do not belong to the next end of the execution (Q5).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub finals_before: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if requires a reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
