//! Evicts attempts and frees the slots of their workers.

use std::sync::atomic::Ordering;

use super::work_queue::{QueueState, WorkQueue};
use super::worker_slots::SlotEvent;
use crate::runtime::assignment::{Notice, Running, WorkToken, WorkerId};
use crate::store::AttemptKey;
use crate::types::Monotonic;
use crate::types::sync::MutexGuard;

impl WorkQueue {
    /// Evicts overdue attempts, and notifies their workers.
    pub fn take_overdue(&self, now: Monotonic) -> Vec<Running> {
        let mut state = self.state.lock();
        let overdue = state.running.evict_overdue(now);
        if overdue.is_empty() {
            return Vec::new();
        }
        self.vacate(state, overdue, |worker, token| Notice::Overrun {
            worker,
            token,
        })
    }

    /// D5: evicts an attempt because its execution timed out, and notifies its worker. Returns whether the attempt was
    /// running.
    pub(in crate::runtime) fn take_away(&self, key: AttemptKey) -> bool {
        let mut state = self.state.lock();
        let Some((token, _)) = state.running.cancel(key) else {
            return false;
        };
        let evicted = state.running.evict(&[token]);
        self.vacate(state, evicted, |worker, token| Notice::Overrun {
            worker,
            token,
        });
        true
    }

    /// Evicts all running attempts. The results of these attempts will be dropped.
    pub fn abandon(&self) -> Vec<Running> {
        let mut state = self.state.lock();
        // From now on no coordinator checks the deadlines of these attempts, so the slot of a worker that hangs is freed now.
        let all = state.running.evict_all();
        for (_, running) in &all {
            running.cancelled.store(true, Ordering::Release);
        }
        self.vacate(state, all, |worker, token| Notice::Cancelled {
            worker,
            token,
            replaced: true,
        })
    }

    /// Frees the slots of evicted attempts, and notifies the workers of these attempts.
    fn vacate(
        &self,
        mut state: MutexGuard<'_, QueueState>,
        evicted: Vec<(WorkToken, Running)>,
        notice: impl Fn(WorkerId, WorkToken) -> Notice,
    ) -> Vec<Running> {
        for (token, running) in &evicted {
            state.notices.push(notice(running.worker, *token));
            if !running.deferred {
                state.slots.transition(SlotEvent::Leaves);
            }
        }
        self.call_worker(&mut state);
        drop(state);
        self.slot_free.notify_all();
        self.noticed.notify_all();
        self.call_hook();
        evicted.into_iter().map(|(_, running)| running).collect()
    }
}
