//! The trait of duties, and the handling of failed duties.

use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Micros, Monotonic};

/// The pause after the first failure of a duty, in microseconds. It doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Micros = 100_000;
/// Maximum pause between two attempts of a failing duty, in microseconds.
const LONGEST_PAUSE: Micros = 30_000_000;

/// Work that a runner does periodically.
pub(in crate::runtime) trait Duty {
    /// The action of the duty, as an infinitive. Log messages contain it after "cannot" or "can".
    const ACTION: &'static str;

    /// Whether the runner is in an outage while this duty fails.
    const IS_ESSENTIAL: bool = false;

    /// The time at which the duty is due next.
    fn next_wake(&self, step: &Step) -> Monotonic;

    /// Does the work that is due. Adds its decisions to the batch of the step.
    ///
    /// # Errors
    /// Returns an error if the database fails. Decisions that were already added to the batch are committed nevertheless.
    fn run(&mut self, step: &mut Step) -> Result<(), StoreError>;
}

/// A duty, with the state that its failures cause.
#[derive(Default)]
pub(in crate::runtime) struct Supervised<D> {
    pub(in crate::runtime) duty: D,
    /// The time before which the duty does not run, because it failed.
    resumes_at: Option<Monotonic>,
    pause: Micros,
    /// Whether the current failure has been logged.
    is_logged: bool,
}

impl<D: Duty> Supervised<D> {
    pub(in crate::runtime) fn new(duty: D) -> Self {
        Self {
            duty,
            resumes_at: None,
            pause: 0,
            is_logged: false,
        }
    }

    pub(in crate::runtime) fn next_wake(&self, step: &Step) -> Monotonic {
        let wanted = self.duty.next_wake(step);
        self.resumes_at.map_or(wanted, |at| at.max(wanted))
    }

    /// Runs the duty if it is due.
    ///
    /// # Errors
    /// Returns an error if an essential duty fails, or if the runner was declared dead. Handles all other errors.
    pub(in crate::runtime) fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if self.next_wake(step) > step.monotonic {
            return Ok(());
        }
        self.run_now(step)
    }

    /// Runs the duty even if it is not due.
    ///
    /// # Errors
    /// Returns the same errors as [`run`](Self::run).
    pub(in crate::runtime) fn run_now(&mut self, step: &mut Step) -> Result<(), StoreError> {
        match self.duty.run(step) {
            Ok(()) => {
                self.resumes_at = None;
                if std::mem::take(&mut self.is_logged) {
                    tracing::info!("can {} again", D::ACTION);
                }
                self.pause = 0;
                Ok(())
            }
            Err(error) if D::IS_ESSENTIAL || error == StoreError::RunnerLost => Err(error),
            Err(error) => {
                // If the database does not answer, the runner is in an outage. The next poll for changes reports the outage, so
                // the first failure is not logged here.
                let may_be_outage = matches!(error, StoreError::Unavailable(_)) && self.pause == 0;
                if !may_be_outage && !self.is_logged {
                    tracing::warn!(%error, "cannot {}; this is tried again, and everything else continues", D::ACTION);
                    self.is_logged = true;
                }
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                self.resumes_at = Some(step.monotonic + self.pause);
                Ok(())
            }
        }
    }
}
