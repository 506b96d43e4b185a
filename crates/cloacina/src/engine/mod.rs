//! The decisions: (state of an execution, event, now) → changes. Pure: no IO, no clock, no randomness of its own.
//!
//! Each rule of the semantics is a function here: readiness and trigger rules (`readiness`, `rule`), contexts (`view`),
//! retries (`retry`), what an attempt's end means (`finish`), control and timeouts (`control`), recovery (`recovery`), fire
//! times (`cron`), what becomes of due ticks (`schedule`), polls of triggers (`trigger`), the history of an
//! execution (`history`). Why an execution does not move is found by `diagnosis`, and why a schedule does not fire by
//! `schedule_diagnosis`: facts, which the facade puts in words.

mod changes;
mod compare;
mod control;
pub mod cron;
mod diagnosis;
mod execution;
mod finish;
mod history;
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
pub use finish::{Finish, Outcome, Refused, TaskLimits};
pub use history::history_of;
pub use recovery::Recovery;
pub use retry::{retry_delay, should_retry};
pub use rule::{RuleInput, evaluate};
pub use schedule_diagnosis::{ScheduleDiagnosisInput, ScheduleReason, Subject, explain_schedule};
pub use view::{Views, overlay};
