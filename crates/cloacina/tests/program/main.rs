//! Programs in Rust, as users write them: the macros and `DefaultRunner`, on every database of the build.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod definition;
mod external;
mod running;
mod schedules;
mod stall;
mod support;
