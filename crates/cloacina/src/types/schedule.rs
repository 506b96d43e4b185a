//! Schedules and triggers as rows hold them, and the history of what they did.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Context, ExecutionId, Micros, ScheduleId, Timestamp};

/// Declares an enumeration whose values have a stored number and a public name.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number that the databases keep.
            #[must_use]
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The value of a stored number.
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
    /// What a row of schedules is.
    ScheduleKind {
        /// Starts a workflow at the times of a cron expression.
        Cron = 0 "cron",
        /// Calls a function again and again, which says whether to start a workflow.
        Trigger = 1 "trigger",
    }
}

words! {
    /// What becomes of ticks that were due while nobody was there to fire them (semantics F4).
    Catchup {
        /// They are recorded as missed.
        Skip = 0 "skip",
        /// The latest one fires.
        Latest = 1 "latest",
        /// They fire, oldest first, up to a limit.
        All = 2 "all",
    }
}

words! {
    /// What becomes of a tick while an execution of its schedule is open (semantics F4).
    Overlap {
        /// It fires all the same.
        Allow = 0 "allow",
        /// It is recorded as overlapped.
        Skip = 1 "skip",
        /// It fires when that execution has ended.
        Queue = 2 "queue",
    }
}

words! {
    /// What became of a tick, or of a trigger's poll.
    TickOutcome {
        /// It started an execution.
        Fired = 0 "fired",
        /// Nobody was there when it was due, and the catch-up rule leaves it out.
        Missed = 1 "missed",
        /// It could not fire: no program has stored a definition of its workflow.
        Skipped = 2 "skipped",
        /// An execution of its schedule was open.
        Overlapped = 3 "overlapped",
        /// It waits for the end of an execution of its schedule.
        Queued = 4 "queued",
        /// The trigger's function raised.
        Failed = 5 "failed",
    }
}

/// What a schedule or a trigger is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// The cron expression; a trigger may have an interval instead.
    pub expression: Option<String>,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// Time between a trigger's polls.
    pub interval: Option<Micros>,
    /// Tells several schedules with the same workflow, expression and zone apart; empty for none.
    pub instance: String,
    /// What executions start from, beside what the tick says.
    pub input: Context,
    /// The catch-up rule.
    pub catchup: Catchup,
    /// How many missed ticks fire at most; the runner's setting where left out.
    pub max_catchup: Option<u32>,
    /// The overlap rule.
    pub overlap: Overlap,
    /// No tick before.
    pub start_at: Option<Timestamp>,
    /// No tick after.
    pub end_at: Option<Timestamp>,
    /// Ticks fire up to this much later, each by another amount.
    pub jitter: Micros,
}

/// How far a schedule has caught up with the ticks of a downtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchingUp {
    /// Ticks before this instant were missed.
    pub until: Timestamp,
    /// The number of them that were dealt with.
    pub ticks: u32,
}

/// What a schedule remembers between its ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Executions that may be open; kept only where the overlap rule asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<ExecutionId>,
    /// Ticks that wait for the end of an execution, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<Timestamp>,
    /// The catch-up that is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catching_up: Option<CatchingUp>,
    /// A runner polls the trigger: the row's `wake_at` is the end of its lease.
    #[serde(default)]
    pub polled: bool,
    /// When a tick or poll fired last.
    #[serde(default)]
    pub last_fired_at: Option<Timestamp>,
    /// What the trigger's function raised at its last poll.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// A schedule or a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRecord {
    /// Its id.
    pub id: ScheduleId,
    /// What it is.
    pub kind: ScheduleKind,
    /// What nothing else of its kind may have: a trigger's name, or all that tells a schedule from others (semantics F5).
    pub identity: String,
    /// The workflow that it starts.
    pub workflow: String,
    /// Whether it fires.
    pub enabled: bool,
    /// Counts changes; what optimistic writes compare.
    pub revision: i64,
    /// What it is to do.
    pub spec: ScheduleSpec,
    /// What it remembers.
    pub state: ScheduleState,
    /// The next tick, jitter not counted, or the next poll.
    pub next_due: Option<Timestamp>,
    /// When a runner has to look at it next.
    pub wake_at: Option<Timestamp>,
    /// The last tick that was dealt with, or the last poll.
    pub last_due: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When what it is to do changed last.
    pub updated_at: Timestamp,
    /// When it was deleted; its history stays.
    pub deleted_at: Option<Timestamp>,
}

/// One tick in the history of a schedule, or one poll that had consequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickRecord {
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it was due.
    pub due_at: Timestamp,
    /// What became of it.
    pub outcome: TickOutcome,
    /// The execution that it started.
    pub execution: Option<ExecutionId>,
    /// When a runner dealt with it first.
    pub created_at: Timestamp,
    /// When it got this outcome.
    pub updated_at: Timestamp,
    /// More: why it was skipped, what the function raised.
    pub detail: Option<String>,
}
