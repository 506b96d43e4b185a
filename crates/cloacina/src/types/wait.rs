//! Conditions that tasks wait for, and the state of a wait as it is stored with the task (semantics L).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Context, ExecutionId, FailedRuns, Json, Micros, NodeChild, RunnerId, Runs, TaskMap, Timestamp,
};

/// The signals that a wait accepts although they were sent before it began (L4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// Signals sent since the execution was submitted.
    #[default]
    Submitted,
    /// All kept signals.
    Ever,
}

impl Since {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if wants a reference"
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
        /// A path into the task's view; the value there is the key of the signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The key itself, for a wait in code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_value: Option<String>,
        /// The earlier signals that count.
        #[serde(default, skip_serializing_if = "Since::is_submitted")]
        since: Since,
    },
    /// A time after the beginning of the wait.
    Delay {
        /// The time in microseconds.
        duration: Micros,
    },
    /// A point in time, which a pause does not shift.
    Until {
        /// The point in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// A path into the task's view to an ISO 8601 text with an offset.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// One of several conditions.
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
    /// The condition that a signal has come with this name and, if a key is given, this key. The key is a literal, not a path.
    #[must_use]
    pub fn signal(name: impl Into<String>, key: Option<&str>) -> Self {
        Self::Signal {
            name: name.into(),
            key: None,
            key_value: key.map(str::to_owned),
            since: Since::default(),
        }
    }

    /// The condition of a task that waits for something other than signals and times.
    #[must_use]
    pub(crate) const fn none() -> Self {
        Self::AllOf {
            conditions: Vec::new(),
        }
    }

    /// The conditions that contain no others, in the order in which they were written.
    #[must_use]
    pub fn leaves(&self) -> Vec<&Self> {
        match self {
            Self::AnyOf { conditions } | Self::AllOf { conditions } => {
                conditions.iter().flat_map(Self::leaves).collect()
            }
            leaf => vec![leaf],
        }
    }

    /// Whether the condition holds. `holds` gives the answer for each leaf, in the order of [`Self::leaves`].
    pub fn holds(&self, holds: &mut impl Iterator<Item = bool>) -> bool {
        // Every leaf takes its answer from the iterator, so none may be left out.
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

/// The consequence of a timeout or a rejection (L8, L11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEnd {
    /// The task fails and is not retried.
    #[default]
    Fail,
    /// The task is skipped, as by its own rule.
    Skip,
    /// The task runs without a value.
    Continue,
}

impl WaitEnd {
    /// Whether it is the default, which is not stored.
    #[must_use]
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if wants a reference"
    )]
    pub const fn is_fail(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

/// A task that waits until somebody approves or rejects it (L11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// A sentence for the person who decides. Paths in braces are replaced by their values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The person or group who decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The JSON schema of the data that comes with an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// The consequence of a rejection.
    #[serde(default, skip_serializing_if = "WaitEnd::is_fail")]
    pub on_reject: WaitEnd,
}

/// The stream of signals with one name and one key, or with one name in the mailbox of one execution. Within a topic, the
/// numbers of signals follow the order of their commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Topic(pub String);

/// Separates the name from the rest of a topic. It cannot occur in a name.
const SEPARATOR: char = '\u{1f}';

impl Topic {
    /// The topic of signals with a key, or without one.
    #[must_use]
    pub fn keyed(name: &str, key: Option<&str>) -> Self {
        Self(key.map_or_else(
            || format!("{name}{SEPARATOR}"),
            |key| format!("{name}{SEPARATOR}={key}"),
        ))
    }

    /// The topic of signals to one execution.
    #[must_use]
    pub fn mailbox(name: &str, execution: ExecutionId) -> Self {
        Self(format!("{name}{SEPARATOR}@{execution}"))
    }

    /// The range of all topics with a name: the first text in it, and the first after it.
    #[must_use]
    pub fn range(name: &str) -> (String, String) {
        (format!("{name}{SEPARATOR}"), format!("{name}\u{20}"))
    }

    /// The name of its signals.
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

/// A position in a topic: a wait takes the first signal after it (L3, L4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The topic.
    pub topic: Topic,
    /// The number of the last signal that was taken; 0 if none was.
    pub after: i64,
    /// Signals sent before this time do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A stored signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    /// Its number, which grows within a topic.
    pub seq: i64,
    /// Its topic.
    pub topic: Topic,
    /// Its data.
    pub data: Json,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The name of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

/// A part of a condition that contains no others, as it was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaf {
    /// A signal.
    Signal {
        /// The name.
        name: String,
        /// The key; `None` for keyless signals and the mailbox.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The topics in which it may come.
        cursors: Vec<Cursor>,
        /// The signal that was taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        taken: Option<SignalRecord>,
    },
    /// A timer.
    Timer {
        /// When it is due.
        at: Timestamp,
        /// Whether a pause shifts it.
        #[serde(default)]
        shifts: bool,
        /// Whether it has fired.
        #[serde(default)]
        fired: bool,
    },
}

impl Leaf {
    /// The positions in topics from which it takes a signal.
    pub fn cursors(&self) -> impl Iterator<Item = &Cursor> {
        let cursors = match self {
            Self::Signal { cursors, .. } => cursors.as_slice(),
            Self::Timer { .. } => &[],
        };
        cursors.iter()
    }

    /// Whether this part of the condition holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        match self {
            Self::Signal { taken, .. } => taken.is_some(),
            Self::Timer { fired, .. } => *fired,
        }
    }
}

/// The call in a task's function that parks it. When the wait ends, a step records its result: `null` for a sleep, and for a
/// wait an object with the `value` that it got, or with `timed_out` if nothing came in time. The end of a child is an object
/// with its output as `value`, or with its error as `failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkKind {
    /// `sleep`.
    Sleep,
    /// `wait`.
    Wait,
    /// `run` and `run_many`: the end of children.
    Run,
    /// `start`: the workflow is not known yet.
    Start,
}

/// A request of a running function to wait (T5). The function starts again from its top when the wait ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Park {
    /// The call.
    pub kind: ParkKind,
    /// The key of the step that records how the wait ended.
    pub key: String,
    /// The position of that step among the recorded steps of the task.
    pub position: u32,
    /// The condition. Keys of its signals are literal. It has no parts if the task waits for children.
    pub condition: Condition,
    /// Maximum time to wait, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// The children that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Box<Runs>>,
}

/// A wait that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWait {
    /// When it began.
    pub since: Timestamp,
    /// When it times out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The parts of the condition. Empty for an approval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<Leaf>,
    /// The request of the function; `None` for a wait that the definition declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park: Option<Park>,
    /// The title of the approval, with its paths replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A decision about an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it was approved.
    pub approved: bool,
    /// The data that came with it.
    pub data: Json,
    /// The name of the person who decided.
    pub by: Option<String>,
    /// The time of the decision.
    pub at: Timestamp,
    /// The reason for a rejection.
    pub reason: Option<String>,
}

impl Decision {
    /// The result of the node: an object with `approved`, `data`, `by`, `at` and `reason`.
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

/// The open wait of a task, and the results of its waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskWait {
    /// The wait that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenWait>,
    /// Whether the wait that the definition declares has ended and lets the task run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed: bool,
    /// The highest number that was taken from each topic (L3).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<Topic, i64>,
    /// The payloads of the declared wait, by the names of the signals.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Json>,
    /// The decision about the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The child of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<NodeChild>,
    /// The map of the task, if it runs once per element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<TaskMap>,
    /// The number of times that the function of the task has asked for children.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// The calls of the function whose children did not all complete, by their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, FailedRuns>,
    /// Whether the function has run in attempts that do not count, because it waited or was released (Q3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
    /// How often the task has been compensated.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compensated: u32,
    /// In a workflow with final tasks: the last attempts that overran their timeouts, each with its runner. Their functions may
    /// still run (Q2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overran: Vec<(RunnerId, u32)>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if wants a reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
