//! Injects faults at the failpoints before and after each store request of a runner.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use cloacina::store::StoreError;
use cloacina::store::failpoint::{Failpoint, Failpoints, Moment, Verb};

use super::oracle::Coverage;
use super::scenario::{MILLISECOND, SECOND};
use super::world::World;

/// The maximum depth of nested steps. A step is nested if a runner runs it during another runner's store request.
const MAX_DEPTH: u8 = 2;

/// The failpoints of one runner's store.
pub struct Points {
    pub world: Weak<World>,
    pub runner: usize,
    pub alive: Arc<AtomicBool>,
}

impl Failpoints for Points {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        match self.world.upgrade() {
            Some(world) => world.reach(self.runner, &self.alive, point),
            None => Ok(()),
        }
    }
}

fn unavailable(what: &str) -> StoreError {
    StoreError::Unavailable(what.into())
}

impl World {
    fn reach(&self, runner: usize, alive: &AtomicBool, point: Failpoint) -> Result<(), StoreError> {
        if !alive.load(Ordering::Relaxed) {
            return Err(unavailable("the process is dead"));
        }
        let faults = &self.scenario.faults;
        let mut state = self.state.lock();
        let mut coverage = Vec::new();
        let verdict = if state.healed {
            Ok(())
        } else {
            let (fails, covered) = match point.moment {
                Moment::Before => (faults.fails_before, Coverage::FailedBefore),
                Moment::After => (faults.fails_after, Coverage::FailedAfter),
            };
            let outage = state.outage;
            match outage {
                Some(true) if point.verb == Verb::Commit && point.moment == Moment::Before => {
                    Err(StoreError::Failed("database or disk is full".into()))
                }
                Some(false) => Err(unavailable("the database is not available")),
                _ if state.rng.f64() < faults.crashes => {
                    state.crash(runner);
                    Err(unavailable("the process dies during this request"))
                }
                _ if state.rng.f64() < fails => {
                    coverage.push(covered);
                    Err(unavailable("the connection broke"))
                }
                _ => Ok(()),
            }
        };
        // The results of these requests can depend on concurrent changes by other runners.
        let delicate = matches!(
            point.verb,
            Verb::Commit | Verb::Load | Verb::ClaimsOf | Verb::DeclareDead
        );
        let nests = delicate && state.depth < MAX_DEPTH && state.rng.f64() < faults.interleaves;
        let is_suspended =
            nests && !state.healed && !faults.is_fault_free() && state.rng.u8(0..60) == 0;
        let other = state.rng.usize(0..self.scenario.runners.len());
        let span = state.rng.i64(1..30) * SECOND;
        drop(state);
        self.copy_oracle_log();
        let mut state = self.state.lock();
        if state.trace.is_some() {
            let line =
                format!("  {runner} {point} {verdict:?} nests={nests} suspended={is_suspended}");
            state.note(line);
        }
        state.depth += u8::from(nests);
        drop(state);
        for covered in coverage {
            self.oracle.lock().cover(covered);
        }
        if is_suspended {
            // The process is suspended during a request, and the rest of the simulation continues.
            self.oracle.lock().cover(Coverage::SuspendedDuringRequest);
            self.run_until(self.now() + span);
        } else if nests {
            if other != runner {
                self.oracle.lock().cover(Coverage::Interleaved);
                self.step(other);
            }
            self.run_until(self.now() + MILLISECOND);
        }
        self.state.lock().depth -= u8::from(nests);
        if verdict.is_ok() && !alive.load(Ordering::Relaxed) {
            return Err(unavailable("the process was killed meanwhile"));
        }
        verdict
    }
}
