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
    pub(super) is_parent: bool,
    /// Whether the runner is stopping, after which it accepts no new tenants.
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

    /// Whether this is the runner's slot.
    pub(super) fn has_slot(&self, slot: &Arc<RunnerSlot>) -> bool {
        Arc::ptr_eq(&self.slot, slot)
    }

    /// Begins to stop all runners of the group. The answer is sent when the last one has stopped.
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

/// A reply that the replies of all runners share. It is sent when the last of them has been sent or dropped.
struct StopReply(Mutex<Option<Reply<()>>>);

impl Drop for StopReply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.lock().take() {
            reply(Ok(()));
        }
    }
}
