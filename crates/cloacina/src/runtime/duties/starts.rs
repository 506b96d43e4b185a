//! Stores the starts of long attempts, so that other processes can see which tasks are running and which are waiting.
//!
//! The start of a short attempt is stored with its end, so it needs no write of its own.

use super::duty::Duty;
use crate::runtime::assignment::{Executor, WorkToken};
use crate::runtime::step::Step;
use crate::store::{AttemptStart, StoreError};
use crate::types::{Micros, Monotonic};

/// How long, in microseconds, an attempt runs before its start is stored. This is also the time between two such writes.
pub(in crate::runtime) const START_INTERVAL: Micros = 250_000;

/// The duty that stores the starts of attempts.
#[derive(Default)]
pub(in crate::runtime) struct StartWriter;

impl Duty for StartWriter {
    const ACTION: &'static str = "store the starts of running tasks";

    fn next_wake(&self, step: &Step) -> Monotonic {
        step.capacity.starts_due().unwrap_or(Monotonic::NEVER)
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        step.capacity.begin_start_check();
        store_starts(step, START_INTERVAL, |_| true)
    }
}

/// Stores the starts of attempts that have run for at least `span` and for which `is_wanted` holds.
pub(super) fn store_starts(
    step: &mut Step,
    span: Micros,
    is_wanted: impl Fn(&AttemptStart) -> bool,
) -> Result<(), StoreError> {
    let mut found: Vec<(Executor, WorkToken)> = Vec::new();
    let mut starts: Vec<AttemptStart> = Vec::new();
    for executor in Executor::ALL {
        let queue = step.capacity.queues().of(executor);
        let unstored = queue.unstored_starts(step.monotonic, span);
        for (token, start) in unstored.into_iter().filter(|(_, start)| is_wanted(start)) {
            found.push((executor, token));
            starts.push(start);
        }
    }
    if starts.is_empty() {
        return Ok(());
    }
    // The start of an item's attempt is stored with its end.
    let of_tasks: Vec<AttemptStart> = (starts.iter().copied())
        .filter(|start| start.claim.item.is_none())
        .collect();
    if !of_tasks.is_empty() {
        step.store.note_starts(&of_tasks)?;
    }
    for (executor, token) in found {
        step.capacity.queues().of(executor).set_start_stored(token);
    }
    for start in starts {
        step.note_running(start);
    }
    Ok(())
}
