//! Tests of the public Rust API: the macros and `DefaultRunner`, on every database that this build supports.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod children;
mod definition;
mod external;
mod final_tasks;
mod maps;
mod nodes;
mod resources;
mod run_log;
mod running;
mod schedules;
mod stall;
mod steps;
mod support;
mod typed;
mod waiting;
mod warnings;
