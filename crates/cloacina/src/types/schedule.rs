//! The stored form of schedules and triggers, and of their history.
//!
//! See docs/explanation/decisions/050-schedule-rows.md

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Context, ExecutionId, ExecutionStatus, Json, Micros, ScheduleId, Timestamp};

/// Declares an enum. Each variant has a number, which the database stores, and a public name.
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

            /// Returns the number that is stored in the database.
            #[must_use]
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// Returns the variant that the database stores as `code`.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the public name.
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
        /// Calls a function that decides whether to start a workflow: at an interval, at the times of a cron expression, or
        /// after executions of another workflow.
        Trigger = 1 "trigger",
    }
}

words! {
    /// How a schedule handles ticks that were due while no runner was live (semantics F4).
    ///
    /// Since 1.0.
    Catchup {
        /// All these ticks are recorded as missed.
        Skip = 0 "skip",
        /// The latest of these ticks fires.
        Latest = 1 "latest",
        /// All these ticks fire, oldest first, up to a limit.
        All = 2 "all",
    }
}

words! {
    /// How a schedule handles a tick that is due before an earlier execution of the schedule has ended (semantics F4).
    ///
    /// Since 1.0.
    Overlap {
        /// The tick fires anyway.
        Allow = 0 "allow",
        /// The tick is recorded as overlapped.
        Skip = 1 "skip",
        /// The tick fires when the earlier execution has ended.
        Queue = 2 "queue",
    }
}

words! {
    /// The outcome of a tick, or of a trigger's poll.
    ///
    /// Since 1.0.
    TickOutcome {
        /// The tick started an execution.
        Fired = 0 "fired",
        /// No runner was live when the tick was due, and the catch-up rule did not fire it later.
        Missed = 1 "missed",
        /// The tick did not fire, because no program has stored a definition of the workflow. A trigger's poll also has this
        /// outcome if an execution already has the key that the trigger's function chose.
        Skipped = 2 "skipped",
        /// An earlier execution of the schedule had not ended, and the overlap rule skipped the tick.
        Overlapped = 3 "overlapped",
        /// The tick fires when the current execution of the schedule has ended.
        Queued = 4 "queued",
        /// The trigger's function raised an exception.
        Failed = 5 "failed",
    }
}

/// The ends of executions after which a trigger fires (semantics G4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The workflow of the executions.
    pub workflow: String,
    /// The final states after which the trigger fires, without duplicates.
    pub statuses: Vec<ExecutionStatus>,
}

/// The end of an execution. A trigger's function must still be called for this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingEnd {
    /// The execution.
    pub execution: ExecutionId,
    /// The time of the end. An execution that is retried can end several times.
    pub ended_at: Timestamp,
    /// The number of calls of the trigger's function that failed for this end.
    pub attempts: u32,
}

/// The settings of a schedule or a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// The cron expression. A trigger can have an interval instead.
    pub expression: Option<String>,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// Time between a trigger's polls, in microseconds.
    pub interval: Option<Micros>,
    /// A name that distinguishes schedules with the same workflow, expression and time zone; may be empty.
    pub instance: String,
    /// The input of the executions. Each tick adds keys that describe the tick.
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
    /// Maximum random delay of a tick, in microseconds. A new delay is chosen for each tick.
    pub jitter: Micros,
    /// The ends of executions after which a trigger fires. Such a trigger is not polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

/// The progress of a schedule that catches up on the ticks that were due while no runner was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchingUp {
    /// Ticks that were due before this time were missed.
    pub until: Timestamp,
    /// The number of missed ticks that have been processed.
    pub ticks: u32,
}

/// The last time that a person or program enabled or disabled a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The time.
    pub at: Timestamp,
    /// The name of the person or program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The state that a schedule keeps between its ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The executions of the schedule that may not have ended; stored only if the overlap rule needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<ExecutionId>,
    /// The due times of the ticks that wait for the end of an earlier execution, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<Timestamp>,
    /// The catch-up in progress, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catching_up: Option<CatchingUp>,
    /// Whether a runner is polling the trigger. If so, `wake_at` of the row is the end of the runner's lease on the poll.
    #[serde(default)]
    pub polled: bool,
    /// The time at which a tick or poll last fired.
    #[serde(default)]
    pub last_fired_at: Option<Timestamp>,
    /// The error that the trigger's function raised at the last poll.
    #[serde(default)]
    pub last_error: Option<String>,
    /// The state that the trigger's function keeps between its polls, such as a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Json>,
    /// When and by whom the schedule was last enabled or disabled, and why, if this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched: Option<Switch>,
}

/// A schedule or a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRecord {
    /// The id.
    pub id: ScheduleId,
    /// Whether it is a schedule or a trigger.
    pub kind: ScheduleKind,
    /// A string that is unique among rows of the same kind. For a trigger, it is the name. For a schedule, it consists
    /// of all values that distinguish the schedule from others (semantics F5).
    pub identity: String,
    /// The workflow that the schedule or trigger starts.
    pub workflow: String,
    /// Whether the schedule or trigger is enabled.
    pub enabled: bool,
    /// Increases with every change. A write is applied only if the revision has not changed.
    pub revision: i64,
    /// The settings.
    pub spec: ScheduleSpec,
    /// The state between ticks.
    pub state: ScheduleState,
    /// The time of the next tick, without jitter, or of the next poll.
    pub next_due: Option<Timestamp>,
    /// The time at which a runner must next process the row.
    pub wake_at: Option<Timestamp>,
    /// The time of the last tick that was processed, or of the last poll.
    pub last_due: Option<Timestamp>,
    /// The time at which the schedule or trigger was registered.
    pub created_at: Timestamp,
    /// The time at which the settings last changed, or at which the schedule or trigger was last enabled, disabled or
    /// deleted.
    pub updated_at: Timestamp,
    /// The time at which the schedule or trigger was deleted. Its history is kept.
    pub deleted_at: Option<Timestamp>,
}

/// One entry in the history of a schedule or a trigger. A schedule has an entry for each tick, but after a long
/// downtime, one entry can represent many missed ticks. A trigger has an entry for each poll that fired, could not fire, or
/// failed. If a poll requests several executions, each of them has its own entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickRecord {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The time at which the tick was due, or the time of the poll.
    pub due_at: Timestamp,
    /// The outcome.
    pub outcome: TickOutcome,
    /// The execution that the tick started, or the earlier execution with the same key.
    pub execution: Option<ExecutionId>,
    /// The time at which a runner first processed the tick.
    pub created_at: Timestamp,
    /// The time at which the tick got this outcome.
    pub updated_at: Timestamp,
    /// The reason why the tick was skipped, or the error that the function raised.
    pub detail: Option<String>,
}
