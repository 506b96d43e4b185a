//! The trait of duties, and the handling of their failures.

use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Micros, Monotonic};

/// The pause after the first failure of a duty, in microseconds. It doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Micros = 100_000;
/// Maximum pause between two tries of a failing duty, in microseconds.
const LONGEST_PAUSE: Micros = 30_000_000;

/// A periodic piece of work of a runner.
pub(in crate::runtime) trait Duty {
    /// The action for a log line that begins with "cannot".
    const ACTION: &'static str;

    /// Whether the runner is in an outage while the duty fails.
    const IS_ESSENTIAL: bool = false;

    /// The time of its next run.
    fn next_wake(&self, step: &Step) -> Monotonic;

    /// Does the work that is due. Its decisions go into the batch of the step.
    ///
    /// # Errors
    /// When the database fails. The decisions that are in the batch by then are committed nevertheless.
    fn run(&mut self, step: &mut Step) -> Result<(), StoreError>;
}

/// A duty with the state of its failures.
#[derive(Default)]
pub(in crate::runtime) struct Supervised<D> {
    pub(in crate::runtime) duty: D,
    /// The time before which it does not run, because it failed.
    resumes_at: Option<Monotonic>,
    pause: Micros,
    /// Whether the failure was logged.
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
    /// An error of an essential duty, and the loss of the runner. Other errors are handled here.
    pub(in crate::runtime) fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if self.next_wake(step) > step.monotonic {
            return Ok(());
        }
        self.run_now(step)
    }

    /// Runs the duty whether it is due or not.
    ///
    /// # Errors
    /// As [`run`](Self::run).
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
                // A database that does not answer is an outage, which the next poll for changes reports.
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
