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

            /// Returns the number that is stored in the database.
            #[must_use]
            pub const fn code(self) -> i16 {
                self as i16
            }

            /// Returns the state that the database stores as `code`.
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
        /// The execution was submitted; no task has started yet.
        Pending = 0,
        /// At least one task has started.
        Running = 1,
        /// The execution was paused: running tasks can finish, but no more tasks start.
        Paused = 2,
        /// The execution has ended. No task failed, or every failure was handled.
        Completed = 3,
        /// The execution has ended with an unhandled failure or a timeout.
        Failed = 4,
        /// The execution was cancelled.
        Cancelled = 5,
    }
}

states! {
    /// The state of one task of an execution.
    ///
    /// Since 1.0.
    TaskStatus {
        /// The task waits for its dependencies, or for the end of a pause. A task that waits for its dependencies has no
        /// row in the database.
        Pending = 0,
        /// The task can be claimed from `ready_at` on.
        Ready = 1,
        /// A runner has claimed the task.
        Running = 2,
        /// The task ended successfully; its writes are part of the context.
        Completed = 3,
        /// The task ended with a failure that is not retried.
        Failed = 4,
        /// The task was skipped, usually because its trigger rule was not met.
        Skipped = 5,
        /// The task ended because its execution was cancelled or timed out.
        Cancelled = 6,
        /// The task waits for a signal, an approval, a timer or a child, and does not occupy a worker. This state is
        /// only shown: the database stores it as `Ready`.
        Waiting = 7,
    }
}

impl ExecutionStatus {
    /// Returns whether the execution has ended. Only a retry can change an ended execution.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl TaskStatus {
    /// Returns whether the task has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled
        )
    }
}
