//! The states of executions and tasks, with their stored numbers and public names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(i16)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $code,)*
        }

        impl $name {
            /// All states, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number that is stored in the database.
            #[must_use]
            pub const fn code(self) -> i16 {
                self as i16
            }

            /// The state of a stored number.
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
                    $(Self::$variant => stringify!($variant),)*
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
                    $(stringify!($variant) => Ok(Self::$variant),)*
                    _ => Err(()),
                }
            }
        }
    };
}

states! {
    /// The state of one execution of a workflow.
    ///
    /// Since 1.0.
    ExecutionStatus {
        /// Submitted; no task has started yet.
        Pending = 0,
        /// At least one task has started.
        Running = 1,
        /// Paused by `pause`: running tasks may finish, nothing new starts.
        Paused = 2,
        /// Ended; no task failed, or every failure was handled.
        Completed = 3,
        /// Ended with an unhandled failure or by its timeout.
        Failed = 4,
        /// Ended by `cancel`.
        Cancelled = 5,
    }
}

states! {
    /// The state of one task of an execution.
    ///
    /// Since 1.0.
    TaskStatus {
        /// Waits for its dependencies. Has no row in the database.
        Pending = 0,
        /// May be claimed from `ready_at` on.
        Ready = 1,
        /// Claimed by a runner.
        Running = 2,
        /// Ended successfully; its writes are part of the context.
        Completed = 3,
        /// Ended with a failure that is not retried.
        Failed = 4,
        /// Never ran, because its trigger rule was not met.
        Skipped = 5,
        /// Ended because its execution was cancelled or timed out.
        Cancelled = 6,
        /// Waits for a signal, an approval or a timer, and holds no worker. Only shown: the database stores it as `Ready`.
        Waiting = 7,
    }
}

impl ExecutionStatus {
    /// Whether the execution has ended. Only a retry changes it afterwards.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl TaskStatus {
    /// Whether the task has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled
        )
    }
}
