//! Whole runners on real stores, with tasks in Rust.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod control;
mod flow;
mod leading;
mod recovery;
mod schedules;
mod support;
