//! Tenant groups: the runners of one process that share workers and connections (semantics H4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::runtime::{Answer, Message, Reply, RunnerSlot, SharedWorkers};
use crate::types::Micros;
use crate::types::sync::Mutex;

/// A runner's membership in a tenant group.
pub(super) struct TenantGroup {
    pub(super) workers: Arc<SharedWorkers>,
    slot: Arc<RunnerSlot>,
    /// Whether this runner starts the tenants of the group.
    pub(super) is_parent: bool,
    /// Whether the runner is stopping. It then accepts no new tenants.
    is_stopping: AtomicBool,
}

impl TenantGroup {
    #[cfg(feature = "postgres")]
    pub(super) const fn new(
        workers: Arc<SharedWorkers>,
        slot: Arc<RunnerSlot>,
        is_parent: bool,
    ) -> Self {
        Self {
            workers,
            slot,
            is_parent,
            is_stopping: AtomicBool::new(false),
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Returns whether `slot` is the runner's slot.
    pub(super) fn has_slot(&self, slot: &Arc<RunnerSlot>) -> bool {
        Arc::ptr_eq(&self.slot, slot)
    }

    /// Begins to stop all runners of the group. The answer is sent when the last runner has stopped.
    pub(super) fn begin_stop(&self, grace: Micros) -> Answer<()> {
        self.is_stopping.store(true, Ordering::SeqCst);
        let (answer, reply) = Answer::new();
        let stop_reply = Arc::new(StopReply(Mutex::new(Some(reply))));
        let mut runners = self.workers.runners();
        if !runners.iter().any(|slot| Arc::ptr_eq(slot, &self.slot)) {
            // This runner has already left the group, but its coordinator may still be running.
            runners.push(Arc::clone(&self.slot));
        }
        for slot in runners {
            let held = Arc::clone(&stop_reply);
            slot.report(Message::Stop {
                grace,
                reply: Box::new(move |_| drop(held)),
            });
        }
        answer
    }
}

/// A reply to the caller that stops a group. The replies of all runners hold a reference to it, and it is sent when the last
/// reference is dropped.
struct StopReply(Mutex<Option<Reply<()>>>);

impl Drop for StopReply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.lock().take() {
            reply(Ok(()));
        }
    }
}
