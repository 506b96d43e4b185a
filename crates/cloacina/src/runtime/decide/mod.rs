//! The decision for each message: applies the engine to the ledger and adds the changes to the write batch.

mod control;
mod outcome;
mod registration;
mod submission;

pub(super) use control::{control_error, unknown_task, unreadable_execution};
pub(super) use submission::trace_of;
