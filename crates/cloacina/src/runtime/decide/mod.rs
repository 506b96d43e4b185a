//! The decision for each message: applies the engine to the ledger and adds the changes to the write batch.

mod child_ends;
mod children;
mod control;
mod finale;
mod item_children;
mod item_claims;
mod items;
mod map_results;
mod outcome;
mod registration;
mod starts;
mod steps;
mod submission;

pub(super) use control::{apply, unreadable_execution};
pub(super) use finale::hold_items;
pub(super) use submission::{check_size, new_execution, refuse_derived, trace_of};
