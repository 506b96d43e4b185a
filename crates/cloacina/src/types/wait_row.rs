//! The rows of the list of open waits.

use super::{Cursor, ExecutionId, Json, Ordinal, Timestamp};

/// The kind of an open wait in the list of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum WaitKind {
    /// A signal.
    Signal = 0,
    /// An approval.
    Approval = 1,
    /// A timer.
    Timer = 2,
    /// A signal that cancels the execution.
    Cancel = 3,
    /// A child.
    Child = 4,
}

impl WaitKind {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::Signal,
        Self::Approval,
        Self::Timer,
        Self::Cancel,
        Self::Child,
    ];

    /// Returns the number that is stored in the database.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Returns the kind that the database stores as `code`.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// Returns the public name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Approval => "approval",
            Self::Timer => "timer",
            Self::Cancel => "cancel",
            Self::Child => "child",
        }
    }
}

/// A row of the list of open waits. A waiting task has one row for each topic, approval or timer, and one row for its
/// children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitRow {
    /// The execution.
    pub execution: ExecutionId,
    /// The task; `None` for a wait that cancels the execution.
    pub task: Option<Ordinal>,
    /// The number of the row among the rows of the task.
    pub slot: u32,
    /// The kind of the wait.
    pub kind: WaitKind,
    /// The workflow's name.
    pub workflow: String,
    /// The task's id; empty for a wait that cancels the execution.
    pub task_id: String,
    /// The name of the signal, or of the workflow of a child. For an approval or a timer: the task's id.
    pub name: String,
    /// The key of the signal.
    pub key: Option<String>,
    /// The position in a topic after which the wait takes a signal.
    pub cursor: Option<Cursor>,
    /// The time at which the wait began.
    pub since: Timestamp,
    /// The time at which the wait times out or the timer is due.
    pub deadline: Option<Timestamp>,
    /// A JSON object with the title, addressee and schema of an approval.
    pub detail: Option<Json>,
}
