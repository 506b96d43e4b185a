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
    /// The runner stops, and accepts no tenant any more.
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

    /// Stops all runners of the group; the answer comes when the last one has stopped.
    pub(super) fn begin_stop(&self, grace: Micros) -> Answer<()> {
        self.is_stopping.store(true, Ordering::SeqCst);
        let (answer, reply) = Answer::new();
        let last = Arc::new(Last(Mutex::new(Some(reply))));
        let mut runners = self.workers.runners();
        if !runners.iter().any(|slot| Arc::ptr_eq(slot, &self.slot)) {
            // Its queues are closed already; its own coordinator still answers, if it is there.
            runners.push(Arc::clone(&self.slot));
        }
        for slot in runners {
            let held = Arc::clone(&last);
            slot.report(Message::Stop {
                grace,
                reply: Box::new(move |_| drop(held)),
            });
        }
        answer
    }
}

/// Answers when the last one that held it has answered, or is gone.
struct Last(Mutex<Option<Reply<()>>>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(reply) = self.0.lock().take() {
            reply(Ok(()));
        }
    }
}
