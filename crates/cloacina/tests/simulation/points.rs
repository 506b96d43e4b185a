//! What happens at the points before and after each verb of a runner's store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use cloacina::store::StoreError;
use cloacina::store::failpoint::{Failpoint, Failpoints, Moment, Verb};

use super::oracle::Sight;
use super::scenario::{MILLISECOND, SECOND};
use super::world::World;

/// How deep runners may work in the middle of each other's verbs.
const MOST_DEPTH: u8 = 2;

/// The points of one runner's store.
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

fn gone(what: &str) -> StoreError {
    StoreError::Unavailable(what.to_owned())
}

impl World {
    fn reach(&self, runner: usize, alive: &AtomicBool, point: Failpoint) -> Result<(), StoreError> {
        if !alive.load(Ordering::Relaxed) {
            return Err(gone("the process is dead"));
        }
        let troubles = &self.scenario.troubles;
        let mut inner = self.inner.lock();
        let mut sights = Vec::new();
        let verdict = if inner.healed {
            Ok(())
        } else {
            let (fails, sight) = match point.moment {
                Moment::Before => (troubles.fails_before, Sight::FailedBefore),
                Moment::After => (troubles.fails_after, Sight::FailedAfter),
            };
            let outage = inner.outage;
            match outage {
                Some(true) if point.verb == Verb::Commit && point.moment == Moment::Before => {
                    Err(StoreError::Failed("database or disk is full".to_owned()))
                }
                Some(false) => Err(gone("the database is gone")),
                _ if inner.rng.f64() < troubles.crashes => {
                    inner.crash(runner);
                    Err(gone("the process dies here"))
                }
                _ if inner.rng.f64() < fails => {
                    sights.push(sight);
                    Err(gone("the connection broke"))
                }
                _ => Ok(()),
            }
        };
        // Commits and loads are where others can come in between.
        let delicate = matches!(
            point.verb,
            Verb::Commit | Verb::Load | Verb::ClaimsOf | Verb::DeclareDead
        );
        let nests = delicate && inner.depth < MOST_DEPTH && inner.rng.f64() < troubles.interleaves;
        let stands_still =
            nests && !inner.healed && !troubles.is_calm() && inner.rng.u8(0..60) == 0;
        let other = inner.rng.usize(0..self.scenario.runners.len());
        let span = inner.rng.i64(1..30) * SECOND;
        drop(inner);
        self.copy_diary();
        let mut inner = self.inner.lock();
        if inner.trace.is_some() {
            let line = format!("  {runner} {point} {verdict:?} nests={nests} still={stands_still}");
            inner.note(line);
        }
        inner.depth += u8::from(nests);
        drop(inner);
        for sight in sights {
            self.oracle.lock().saw(sight);
        }
        if stands_still {
            // The process is stopped in the middle of a verb, and the world goes on without it.
            self.oracle.lock().saw(Sight::StoppedInTheMiddle);
            self.live_until(self.now() + span);
        } else if nests {
            if other != runner {
                self.oracle.lock().saw(Sight::Interleaved);
                self.step(other);
            }
            self.live_until(self.now() + MILLISECOND);
        }
        self.inner.lock().depth -= u8::from(nests);
        if verdict.is_ok() && !alive.load(Ordering::Relaxed) {
            return Err(gone("the process was killed meanwhile"));
        }
        verdict
    }
}
