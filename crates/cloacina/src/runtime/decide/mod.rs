//! What each message means: the engine's decision over the ledger, put into the write batch.

mod control;
mod outcome;
mod registration;
mod submission;

pub(super) use control::{control_error, unknown_task, unreadable_execution};
pub(super) use submission::trace_of;
