//! What a duty is, and what happens when one fails.

use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Micros, Monotonic};

/// The pause after the first failure of a duty in microseconds. It doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Micros = 100_000;
/// The longest pause between two tries of a duty that fails, in microseconds.
const LONGEST_PAUSE: Micros = 30_000_000;

/// A duty of a runner.
pub(in crate::runtime) trait Duty {
    /// The duty in a log line: "cannot …".
    const ACTION: &'static str;

    /// Whether the runner can do nothing while the duty fails.
    const IS_ESSENTIAL: bool = false;

    /// When it wants to run next.
    fn next_wake(&self, step: &Step) -> Monotonic;

    /// Does what is due. Decisions go into the batch of the step.
    ///
    /// # Errors
    /// When the database fails. What it has put into the batch so far counts.
    fn run(&mut self, step: &mut Step) -> Result<(), StoreError>;
}

/// A duty with what is known of its failures.
#[derive(Default)]
pub(in crate::runtime) struct Supervised<D> {
    pub(in crate::runtime) duty: D,
    /// Not before, because it failed.
    resumes_at: Option<Monotonic>,
    pause: Micros,
}

impl<D: Duty> Supervised<D> {
    pub(in crate::runtime) fn new(duty: D) -> Self {
        Self {
            duty,
            resumes_at: None,
            pause: 0,
        }
    }

    pub(in crate::runtime) fn next_wake(&self, step: &Step) -> Monotonic {
        let wanted = self.duty.next_wake(step);
        self.resumes_at.map_or(wanted, |at| at.max(wanted))
    }

    /// Runs the duty if it is due.
    ///
    /// # Errors
    /// Those of an essential duty, and the loss of the runner. Others are handled here.
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
                if self.resumes_at.take().is_some() {
                    tracing::info!("can {} again", D::ACTION);
                }
                self.pause = 0;
                Ok(())
            }
            Err(error) if D::IS_ESSENTIAL || error == StoreError::RunnerLost => Err(error),
            Err(error) => {
                if self.pause == 0 {
                    tracing::warn!(%error, "cannot {}; it is tried again, and everything else goes on", D::ACTION);
                }
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                self.resumes_at = Some(step.monotonic + self.pause);
                Ok(())
            }
        }
    }
}
