//! Tests of runners on real stores. They use `EngineHandle` and the coordinator, not the public API.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;
#[path = "../support/records.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod records;

mod callbacks;
mod children;
mod control;
mod definitions;
mod flow;
mod flow_races;
mod inline;
mod inputs;
mod isolation;
mod peers;
mod presence;
mod race_steps;
mod races;
mod reads;
mod recovery;
mod run_log;
mod schedule_faults;
mod schedules;
mod stepped;
mod stepped_children;
mod stepped_finals;
mod stepped_maps;
mod stepped_waits;
mod steps;
mod stepwise;
mod support;
#[path = "../support/time.rs"]
mod time;
mod waits;
