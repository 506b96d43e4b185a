//! The duties of a runner: periodic work, each with its own timer and error handling.
//!
//! A duty accesses a turn only through [`Step`]. Duties do not call each other. Instead, a duty wakes another duty with a
//! [`Signal`](super::step::Signal). A failing duty is logged once and retried later, while all other duties continue.
//! If an essential duty fails, the runner is in an outage instead.

mod announcer;
mod changes;
mod clock;
mod cron;
mod duty;
mod ends;
mod heartbeat;
mod progress;
mod pruner;
mod reconciler;
mod rescuer;
mod schedules;
mod stall;
mod starts;
mod triggers;
mod waits;

pub(super) use cron::run_now;
pub(super) use schedules::{by_hand, unknown_workflow};
pub(super) use starts::START_INTERVAL;

use announcer::Announcer;
use changes::ChangePoller;
use clock::ClockWatch;
use cron::CronDuty;
use duty::Supervised;
use heartbeat::Heartbeat;
use progress::ProgressWriter;
use pruner::Pruner;
use reconciler::Reconciler;
use rescuer::Rescuer;
use stall::StallDetector;
use starts::StartWriter;
use triggers::TriggerDuty;
use waits::WaitKeeper;

use super::batch::Purpose;
use super::commit::ScheduleResults;
use super::refused_batch::RefusedBatch;
use super::step::Step;
use crate::store::StoreError;
use crate::types::Monotonic;

/// The duties of a runner.
pub(super) struct Duties {
    clock: Supervised<ClockWatch>,
    pub(super) heartbeat: Supervised<Heartbeat>,
    pub(super) announcer: Supervised<Announcer>,
    reconciler: Supervised<Reconciler>,
    changes: Supervised<ChangePoller>,
    pruner: Supervised<Pruner>,
    progress: Supervised<ProgressWriter>,
    stall: Supervised<StallDetector>,
    starts: Supervised<StartWriter>,
    rescuer: Supervised<Rescuer>,
    waits: Supervised<WaitKeeper>,
    cron: Supervised<CronDuty>,
    pub(super) triggers: Supervised<TriggerDuty>,
}

impl Duties {
    pub(super) fn new(step: &Step) -> Self {
        Self {
            clock: Supervised::default(),
            heartbeat: Supervised::default(),
            announcer: Supervised::default(),
            reconciler: Supervised::default(),
            changes: Supervised::default(),
            pruner: Supervised::default(),
            progress: Supervised::default(),
            stall: Supervised::default(),
            starts: Supervised::default(),
            rescuer: Supervised::default(),
            waits: Supervised::default(),
            cron: Supervised::new(CronDuty::new(step.now)),
            triggers: Supervised::default(),
        }
    }

    /// Runs the duties that precede the decisions of a turn.
    ///
    /// # Errors
    /// Returns an error if an essential duty fails, or if the runner was declared dead.
    pub(super) fn prepare(&mut self, step: &mut Step, in_outage: bool) -> Result<(), StoreError> {
        self.clock.run(step)?;
        self.stall.run(step)?;
        if in_outage {
            // The heartbeat writes, so it shows whether the database accepts writes again.
            self.heartbeat.run_now(step)?;
        }
        self.heartbeat.run(step)?;
        self.announcer.run(step)?;
        self.reconciler.run(step)?;
        self.changes.run(step)?;
        self.pruner.run(step)?;
        self.starts.run(step)?;
        self.progress.run(step)
    }

    /// Runs the duties whose decisions become part of the turn's batch.
    ///
    /// # Errors
    /// Returns an error if the runner was declared dead.
    pub(super) fn decide(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if step.capacity.is_held() {
            // A runner that is held back claims nothing. But final tasks may wait until it answers messages of the inbox.
            return self.waits.run(step);
        }
        self.rescuer.run(step)?;
        self.waits.run(step)?;
        self.cron.run(step)?;
        self.triggers.run(step)
    }

    /// Passes the schedule changes of a written batch to the duties that decided them.
    pub(super) fn apply_results(&mut self, step: &mut Step, schedules: ScheduleResults) {
        for (change, applied) in schedules {
            match change.purpose {
                Purpose::Tick | Purpose::RunNow(..) => {
                    self.cron.duty.apply_result(step, change, applied);
                }
                Purpose::TakeLease | Purpose::ExtendLease(_) | Purpose::Polled(..) => {
                    self.triggers.duty.apply_result(step, change, applied);
                }
            }
        }
    }

    /// Tells the duties that a batch was refused, so that each of them adds less to the next batch.
    pub(super) fn note_refused(&mut self, step: &mut Step, refused: &RefusedBatch) {
        self.rescuer.duty.note_refused(step, refused);
        self.waits.duty.note_refused(step, refused);
        self.cron.duty.note_refused(step, refused);
        self.triggers.duty.note_refused(step, refused);
    }

    /// Resets the duties whose state belongs to the runner's previous id.
    pub(super) fn start_again(&mut self) {
        self.heartbeat = Supervised::default();
        self.announcer = Supervised::default();
        self.changes = Supervised::default();
        self.rescuer = Supervised::default();
        self.waits = Supervised::default();
    }

    pub(super) fn next_wake(&self, step: &Step) -> Monotonic {
        let deciding = if step.capacity.is_held() {
            self.waits.next_wake(step)
        } else {
            (self.rescuer.next_wake(step))
                .min(self.waits.next_wake(step))
                .min(self.cron.next_wake(step))
                .min(self.triggers.next_wake(step))
        };
        [
            self.heartbeat.next_wake(step),
            self.announcer.next_wake(step),
            self.reconciler.next_wake(step),
            self.changes.next_wake(step),
            self.pruner.next_wake(step),
            self.progress.next_wake(step),
            self.starts.next_wake(step),
            deciding,
        ]
        .into_iter()
        .fold(Monotonic::NEVER, Monotonic::min)
    }
}
