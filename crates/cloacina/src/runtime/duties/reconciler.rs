//! Reconciles claims after an outage: takes over claims that this runner has in the database but that this process does not
//! hold.

use super::duty::Duty;
use crate::runtime::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{ExecutionId, Monotonic};

/// The duty that reconciles claims.
#[derive(Default)]
pub(in crate::runtime) struct Reconciler;

impl Duty for Reconciler {
    const ACTION: &'static str = "compare the claims of this process with the database";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.signals.is_raised(Signal::Reconcile) {
            step.monotonic
        } else {
            Monotonic::NEVER
        }
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let mut ids: Vec<ExecutionId> = step.store.claims_of(step.runner)?;
        ids.retain(|id| !step.ledger.is_unreadable(*id));
        for id in &ids {
            step.ledger.remove(*id);
        }
        step.load(&ids)?;
        for id in ids {
            step.adopt(id);
        }
        step.reconcile_items()?;
        step.follow_ends()?;
        step.signals.take(Signal::Reconcile);
        Ok(())
    }
}
