//! The decisions: (state of an execution, event, now) → changes. They are pure: no IO, no clock, no randomness of their own.
//!
//! Each rule of the semantics is a function here: readiness and trigger rules (`readiness`, `rule`), contexts (`view`),
//! retries (`retry`), the end of an attempt (`finish`), control and timeouts (`control`), recovery (`recovery`), fire times
//! (`cron`), due ticks (`schedule`), polls of triggers (`trigger`), the history of an execution (`history`). `diagnosis` finds
//! the facts that keep an execution from making progress, and `schedule_diagnosis` those that keep a schedule from firing. The
//! facade puts them in words.

mod changes;
mod compare;
mod control;
pub mod cron;
mod diagnosis;
mod execution;
mod finish;
mod history;
mod path;
mod readiness;
mod recovery;
mod retry;
mod rule;
pub mod schedule;
mod schedule_diagnosis;
pub mod trigger;
mod view;

pub use changes::Changes;
pub use compare::compare;
pub use control::ControlError;
pub use diagnosis::{DiagnosisInput, Reason, SeenRunner, explain};
pub use execution::{Execution, NewExecution, Unreadable};
pub use finish::{ClaimLost, Finish, Outcome, TaskLimits};
pub use history::history_of;
pub use recovery::Recovery;
pub use retry::{retry_delay, should_retry};
pub use rule::{RuleInput, evaluate};
pub use schedule_diagnosis::{ScheduleDiagnosisInput, ScheduleReason, Subject, explain_schedule};
pub use view::{Views, overlay};
