//! What a runner does at its own times: each duty has its own timer and its own error path.
//!
//! A duty sees a turn through [`Step`] alone. Duties do not know each other: what one has found out reaches another as a
//! [`Signal`](super::step::Signal). A duty that fails is logged once and tried again later, and all others go on.

mod announcer;
mod changes;
mod clock;
mod cron;
mod duty;
mod heartbeat;
mod progress;
mod pruner;
mod reconciler;
mod rescuer;
mod schedules;
mod stall;
mod triggers;

pub(super) use cron::run_now;
pub(super) use schedules::{by_hand, unknown_workflow};

use announcer::Announcer;
use changes::Changes;
use clock::ClockWatch;
use cron::CronDuty;
use duty::OnDuty;
use heartbeat::Heartbeat;
use progress::Progress;
use pruner::Pruner;
use reconciler::Reconciler;
use rescuer::Rescuer;
use stall::Stall;
use triggers::Triggers;

use super::batch::Purpose;
use super::commit::{Refused, SettledSchedules};
use super::step::Step;
use crate::store::StoreError;
use crate::types::Monotonic;

/// The duties of a runner.
pub(super) struct Duties {
    clock: OnDuty<ClockWatch>,
    pub(super) heartbeat: OnDuty<Heartbeat>,
    pub(super) announcer: OnDuty<Announcer>,
    reconciler: OnDuty<Reconciler>,
    changes: OnDuty<Changes>,
    pruner: OnDuty<Pruner>,
    progress: OnDuty<Progress>,
    stall: OnDuty<Stall>,
    rescuer: OnDuty<Rescuer>,
    cron: OnDuty<CronDuty>,
    pub(super) triggers: OnDuty<Triggers>,
}

impl Duties {
    pub(super) fn new(step: &Step) -> Self {
        Self {
            clock: OnDuty::default(),
            heartbeat: OnDuty::default(),
            announcer: OnDuty::default(),
            reconciler: OnDuty::default(),
            changes: OnDuty::default(),
            pruner: OnDuty::default(),
            progress: OnDuty::default(),
            stall: OnDuty::default(),
            rescuer: OnDuty::default(),
            cron: OnDuty::new(CronDuty::new(step.now)),
            triggers: OnDuty::default(),
        }
    }

    /// Runs the duties that come before the decisions of a turn.
    ///
    /// # Errors
    /// Those of essential duties.
    pub(super) fn prepare(&mut self, step: &mut Step, in_outage: bool) -> Result<(), StoreError> {
        self.clock.run(step)?;
        self.stall.run(step)?;
        if in_outage {
            // A write that tells whether the database takes writes again.
            self.heartbeat.run_now(step)?;
        }
        self.heartbeat.run(step)?;
        self.announcer.run(step)?;
        self.reconciler.run(step)?;
        self.changes.run(step)?;
        self.pruner.run(step)?;
        self.progress.run(step)
    }

    /// Runs the duties whose decisions go into the batch of a turn.
    ///
    /// # Errors
    /// When the runner was declared dead.
    pub(super) fn decide(&mut self, step: &mut Step) -> Result<(), StoreError> {
        self.rescuer.run(step)?;
        self.cron.run(step)?;
        self.triggers.run(step)
    }

    /// Follows the changes of schedules in a batch that was written.
    pub(super) fn settle(&mut self, step: &mut Step, schedules: SettledSchedules) {
        for (change, applied) in schedules {
            match change.purpose {
                Purpose::Tick | Purpose::RunNow(..) => {
                    self.cron.duty.settle(step, change, applied);
                }
                Purpose::TakeLease | Purpose::ExtendLease(_) | Purpose::Polled(..) => {
                    self.triggers.duty.settle(step, change, applied);
                }
            }
        }
    }

    /// The database refused a batch. Smaller ones are tried until the item that it refuses is alone.
    pub(super) fn note_refused(&mut self, step: &mut Step, refused: &Refused) {
        self.rescuer.duty.note_refused(step, refused);
        self.cron.duty.note_refused(step, refused);
        self.triggers.duty.note_refused(step, refused);
    }

    /// The runner goes on under a new id: what the old one knew does not count.
    pub(super) fn start_again(&mut self) {
        self.heartbeat = OnDuty::default();
        self.announcer = OnDuty::default();
        self.changes = OnDuty::default();
        self.rescuer = OnDuty::default();
    }

    pub(super) fn next_wake(&self, step: &Step) -> Monotonic {
        [
            self.heartbeat.next_wake(step),
            self.announcer.next_wake(step),
            self.reconciler.next_wake(step),
            self.changes.next_wake(step),
            self.pruner.next_wake(step),
            self.progress.next_wake(step),
            self.rescuer.next_wake(step),
            self.cron.next_wake(step),
            self.triggers.next_wake(step),
        ]
        .into_iter()
        .fold(Monotonic::NEVER, Monotonic::min)
    }
}
