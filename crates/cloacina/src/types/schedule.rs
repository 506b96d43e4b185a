//! Schedules and triggers as they are stored, and their history.
//!
//! See docs/explanation/decisions/050-schedule-rows.md

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Context, ExecutionId, ExecutionStatus, Json, Micros, ScheduleId, Timestamp};

/// Declares an enum whose variants have a stored number and a public name.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number that is stored in the database.
            #[must_use]
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The variant of a stored number.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The public name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(()),
                }
            }
        }
    };
}

words! {
    /// The kind of a row in the table of schedules.
    ScheduleKind {
        /// Starts a workflow at the times of a cron expression.
        Cron = 0 "cron",
        /// Polls a function that decides whether to start a workflow.
        Trigger = 1 "trigger",
    }
}

words! {
    /// The treatment of ticks that were due while no runner was live (semantics F4).
    ///
    /// Since 1.0.
    Catchup {
        /// All are recorded as missed.
        Skip = 0 "skip",
        /// The latest one fires.
        Latest = 1 "latest",
        /// All fire, oldest first, up to a limit.
        All = 2 "all",
    }
}

words! {
    /// The treatment of a tick that is due while an earlier execution of its schedule has not ended (semantics F4).
    ///
    /// Since 1.0.
    Overlap {
        /// The tick fires anyway.
        Allow = 0 "allow",
        /// The tick is recorded as overlapped.
        Skip = 1 "skip",
        /// The tick fires when that execution has ended.
        Queue = 2 "queue",
    }
}

words! {
    /// The outcome of a tick, or of a trigger's poll.
    ///
    /// Since 1.0.
    TickOutcome {
        /// It started an execution.
        Fired = 0 "fired",
        /// No runner was live when it was due, and the catch-up rule does not make up for it.
        Missed = 1 "missed",
        /// It could not fire: no program has stored a definition of its workflow.
        Skipped = 2 "skipped",
        /// An earlier execution of its schedule had not ended, and the overlap rule skips the tick.
        Overlapped = 3 "overlapped",
        /// It fires when the current execution of its schedule has ended.
        Queued = 4 "queued",
        /// The trigger's function raised.
        Failed = 5 "failed",
    }
}

/// The ends of executions after which a trigger fires (semantics G4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The workflow of the executions.
    pub workflow: String,
    /// The final states that count, each once.
    pub statuses: Vec<ExecutionStatus>,
}

/// The end of an execution that a trigger has not dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingEnd {
    /// The execution.
    pub execution: ExecutionId,
    /// When it ended. An execution that is retried can end several times.
    pub ended_at: Timestamp,
    /// The number of calls of the trigger's function that failed for this end.
    pub attempts: u32,
}

/// The settings of a schedule or a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// The cron expression; a trigger may have an interval instead.
    pub expression: Option<String>,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// Time between a trigger's polls, in microseconds.
    pub interval: Option<Micros>,
    /// Distinguishes schedules with the same workflow, expression and time zone; empty for none.
    pub instance: String,
    /// The input context of the executions; the tick's own keys are added to it.
    pub input: Context,
    /// The catch-up rule.
    pub catchup: Catchup,
    /// Maximum number of missed ticks that fire; `None` means the runner's setting.
    pub max_catchup: Option<u32>,
    /// The overlap rule.
    pub overlap: Overlap,
    /// No tick is due before this time.
    pub start_at: Option<Timestamp>,
    /// No tick is due after this time.
    pub end_at: Option<Timestamp>,
    /// Maximum delay of a tick, in microseconds. Each tick gets its own random delay.
    pub jitter: Micros,
    /// The ends of executions after which a trigger is called, instead of being polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

/// The progress of a schedule in catching up with the ticks that were due while no runner was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchingUp {
    /// Ticks before this instant were missed.
    pub until: Timestamp,
    /// Number of missed ticks already processed.
    pub ticks: u32,
}

/// The state that a schedule keeps between its ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Executions that may not have ended; kept only if the overlap rule needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<ExecutionId>,
    /// Due times of ticks that wait for the end of an execution, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<Timestamp>,
    /// The catch-up in progress, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catching_up: Option<CatchingUp>,
    /// Whether a runner is polling the trigger. If so, the row's `wake_at` is the end of its lease on the poll.
    #[serde(default)]
    pub polled: bool,
    /// When a tick or poll last fired.
    #[serde(default)]
    pub last_fired_at: Option<Timestamp>,
    /// The error that the trigger's function raised at the last poll.
    #[serde(default)]
    pub last_error: Option<String>,
    /// The state that the trigger's function keeps between its polls, such as a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Json>,
}

/// A schedule or a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRecord {
    /// The id.
    pub id: ScheduleId,
    /// Whether it is a schedule or a trigger.
    pub kind: ScheduleKind,
    /// Unique among rows of its kind: a trigger's name, or all that distinguishes a schedule from others (semantics F5).
    pub identity: String,
    /// The workflow that it starts.
    pub workflow: String,
    /// Whether it fires.
    pub enabled: bool,
    /// Grows with every change. Optimistic writes compare it.
    pub revision: i64,
    /// The settings.
    pub spec: ScheduleSpec,
    /// The state between ticks.
    pub state: ScheduleState,
    /// The next tick, without jitter, or the next poll.
    pub next_due: Option<Timestamp>,
    /// When a runner must process it next.
    pub wake_at: Option<Timestamp>,
    /// The last tick that was processed, or the last poll.
    pub last_due: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When the settings last changed.
    pub updated_at: Timestamp,
    /// When it was deleted. The history is kept.
    pub deleted_at: Option<Timestamp>,
}

/// One tick in the history of a schedule, or one poll that started an execution or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickRecord {
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it was due.
    pub due_at: Timestamp,
    /// The outcome.
    pub outcome: TickOutcome,
    /// The execution that it started.
    pub execution: Option<ExecutionId>,
    /// When a runner first processed it.
    pub created_at: Timestamp,
    /// When it got this outcome.
    pub updated_at: Timestamp,
    /// The reason why it was skipped, or the error that the function raised.
    pub detail: Option<String>,
}
