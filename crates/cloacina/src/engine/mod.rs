//! Decisions as pure functions: (state of an execution, event, now) → changes. The functions perform no I/O, and receive
//! the time and random values as arguments.
//!
//! Most rules of the semantics are functions here: readiness and trigger rules (`readiness`, `rule`), contexts (`view`),
//! retries (`retry`), the end of an attempt (`finish`), control and timeouts (`control`), recovery (`recovery`), fire times
//! (`cron`), due ticks (`schedule`), polls of triggers (`trigger`), triggers that follow another workflow (`after`), waits
//! and signals (`waiting`), recorded steps (`step`), children (`child`, `runs`), maps (`map`), final tasks (`finale`), the
//! history of an execution (`history`), and its output (`output`).
//!
//! `diagnosis` finds the facts that explain the state of an execution, and `schedule_diagnosis` finds those of a
//! schedule or trigger, for example what keeps it from firing. `runner/explain.rs` turns these facts into sentences.

pub mod after;
mod cause;
mod changes;
mod child;
mod compare;
mod control;
pub mod cron;
mod diagnosis;
mod execution;
mod finale;
mod finish;
mod history;
mod map;
mod map_alignment;
mod map_elements;
mod output;
mod path;
mod readiness;
mod recovery;
mod rerun;
mod retry;
mod rule;
mod runs;
pub mod schedule;
mod schedule_diagnosis;
mod step;
pub mod trigger;
mod view;
mod waiting;

pub use cause::cause_of;
pub use changes::Changes;
pub use child::{ChildFound, ChildStart, ItemStart, MapChildren};
pub use compare::compare;
pub use control::ControlError;
pub use diagnosis::{BusyTask, DiagnosisInput, Reason, RunningTask, SeenRunner, explain};
pub use execution::{Execution, NewExecution, Unreadable};
pub use finale::{FinalDue, FinalStart, FinalState};
pub use finish::{ClaimLost, Finish, Outcome, TaskLimits};
pub use history::{attribute, history_of, origin};
pub use map_elements::MapElements;
pub use output::{output, result};
pub use recovery::{Recovery, is_suspect};
pub use retry::{retry_delay, should_retry};
pub use rule::{RuleInput, evaluate};
pub use runs::{called_workflows, item_key, record_start, runs_text};
pub use schedule_diagnosis::{ScheduleDiagnosisInput, ScheduleReason, Subject, explain_schedule};
pub use step::{MAX_STEPS, StepTooMuch, StepTotals, first_of, step_key};
pub use view::{Views, overlay};
pub use waiting::{DecideError, MAX_SIGNAL_DATA, MAX_SIGNAL_KEY, MissingKey, NEVER, leaf_text};
