//! Announces in the database the workflows and tasks for which this runner has handlers. `explain` and the command line read
//! the announcements.
//!
//! See docs/explanation/decisions/082-offers.md

use super::duty::Duty;
use crate::runtime::process;
use crate::runtime::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{Micros, Monotonic, Offer};

/// Time between a registration and its announcement, in microseconds. Registrations during this time are announced together.
const DELAY: Micros = 50_000;
/// Maximum time between a registration and its announcement while the runner is busy, in microseconds.
const BUSY_DELAY: Micros = 1_000_000;

/// The duty that announces the workflows of this runner.
#[derive(Default)]
pub(in crate::runtime) struct Announcer {
    /// The time of the next announcement.
    at: Option<Monotonic>,
    /// The time by which the announcement is made even if the runner is busy.
    latest: Monotonic,
}

impl Announcer {
    fn announce(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let (host, (pid, _)) = (process::host(), process::current());
        let offers: Vec<Offer> = step
            .registry
            .unannounced()
            .into_iter()
            .map(|(workflow, tasks)| Offer {
                workflow,
                runner: step.runner,
                host: process::name_of(&host).to_owned(),
                pid,
                tasks,
                seen_at: step.now,
            })
            .collect();
        let workflows = step.registry.registered();
        step.store.announce(step.runner, &workflows, &offers)?;
        step.registry.note_announced();
        self.at = None;
        Ok(())
    }

    /// Records that this runner no longer has handlers for its workflows. Stores the current time as the last time at
    /// which it had them. `explain` shows this time.
    pub(in crate::runtime) fn withdraw(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if step.capacity.is_held_until_begin() {
            return Ok(());
        }
        if step.signals.take(Signal::Announce) || self.at.is_some() {
            self.announce(step)?;
        }
        if step.registry.registered().is_empty() {
            return Ok(());
        }
        step.store.withdraw(step.runner, Some(step.now))
    }
}

impl Duty for Announcer {
    const ACTION: &'static str = "announce the workflows of this runner";

    fn next_wake(&self, step: &Step) -> Monotonic {
        // A runner that has not begun runs nothing, so it must not be shown as a worker.
        if step.capacity.is_held_until_begin() {
            return Monotonic::NEVER;
        }
        if self.at.is_none() && step.signals.is_raised(Signal::Announce) {
            return step.monotonic;
        }
        self.at.unwrap_or(Monotonic::NEVER)
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if step.signals.take(Signal::Announce) && self.at.is_none() {
            self.at = Some(step.monotonic + DELAY);
            self.latest = step.monotonic + BUSY_DELAY;
            return Ok(());
        }
        if !step.capacity.is_idle() && step.monotonic < self.latest {
            // Writing the ends of running tasks is more urgent than the announcement.
            self.at = Some(step.monotonic + DELAY);
            return Ok(());
        }
        self.announce(step)
    }
}
