//! Callers that wait for the end of executions.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::engine::Execution;
use crate::types::{Error, ExecutionId};

/// An execution that has ended.
pub type Ended = Arc<Execution>;

type Callback = Box<dyn FnOnce(Result<Ended, Error>) + Send>;

/// Who waits for what. To lose no wake-up: subscribe first, then look whether it has ended already.
#[derive(Default)]
pub struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: FxHashMap<ExecutionId, Vec<(u64, Callback)>>,
}

/// Names a subscription, to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    execution: ExecutionId,
    number: u64,
}

impl Waiters {
    /// Calls `callback` once, on the coordinator's thread, when the execution has ended or the runner is gone.
    pub fn subscribe(
        &self,
        execution: ExecutionId,
        callback: impl FnOnce(Result<Ended, Error>) + Send + 'static,
    ) -> Subscription {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let number = inner.next;
        inner
            .waiting
            .entry(execution)
            .or_default()
            .push((number, Box::new(callback)));
        Subscription { execution, number }
    }

    /// Takes a subscription back.
    pub fn unsubscribe(&self, subscription: Subscription) {
        let mut inner = self.inner.lock();
        if let Some(list) = inner.waiting.get_mut(&subscription.execution) {
            list.retain(|(number, _)| *number != subscription.number);
            if list.is_empty() {
                inner.waiting.remove(&subscription.execution);
            }
        }
    }

    /// Whether anybody waits for an execution.
    pub fn is_awaited(&self, execution: ExecutionId) -> bool {
        self.inner.lock().waiting.contains_key(&execution)
    }

    /// All executions that somebody waits for.
    pub fn awaited(&self) -> Vec<ExecutionId> {
        self.inner.lock().waiting.keys().copied().collect()
    }

    /// Wakes everybody who waits for this execution.
    pub fn notify(&self, ended: &Ended) {
        let callbacks = self.inner.lock().waiting.remove(&ended.record().id);
        for (_, callback) in callbacks.into_iter().flatten() {
            callback(Ok(Arc::clone(ended)));
        }
    }

    /// Tells everybody that the runner is gone and will not say more.
    pub fn give_up(&self, error: &Error) {
        let waiting = std::mem::take(&mut self.inner.lock().waiting);
        for (_, callback) in waiting.into_values().flatten() {
            callback(Err(error.clone()));
        }
    }
}
