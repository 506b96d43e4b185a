//! Callers that wait for the end of executions.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::ledger::weight;

use crate::engine::Execution;
use crate::types::sync::Mutex;
use crate::types::{Error, ExecutionId};

/// An execution that has ended.
pub type Ended = Arc<Execution>;

type Callback = Box<dyn FnOnce(Result<Ended, Error>) + Send>;

/// The subscriptions of callers to ends of executions. To miss no end, subscribe first and then check whether it has ended.
#[derive(Default)]
pub struct Waiters {
    inner: Mutex<Inner>,
}

/// The number of executions that are remembered after their end, for callers that ask a little later.
const RECENT: usize = 4096;
/// The number of bytes of remembered executions, inputs and results included, beyond which the oldest go sooner.
const RECENT_BYTES: usize = 32 * 1024 * 1024;

/// The number of executions that are known as submitted here and open (some megabytes of ids). The oldest are evicted first;
/// evicted ones are looked up one by one in the database.
const OPEN: usize = 65_536;
/// The largest number of them that are read together with one that a caller asks for.
const MAX_AHEAD: usize = 128;

/// Executions to read together: a caller that asks for the first is likely to ask for the others.
pub struct Look {
    /// The execution that a caller asks for, and some that were submitted here after it.
    pub ids: Vec<ExecutionId>,
    /// The count of evictions at the time of the read: results that were read before an eviction are not kept.
    forgotten: u64,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// With the bytes that its tasks wrote.
    recent: FxHashMap<ExecutionId, (Ended, usize)>,
    recent_bytes: usize,
    recent_order: VecDeque<ExecutionId>,
    /// The number of times that remembered ends were evicted.
    forgotten: u64,
    /// Executions that were submitted here and may end elsewhere, as long as no end is known.
    open: BTreeSet<ExecutionId>,
    /// The number of them to read together with the next one that a caller asks for.
    ahead: usize,
    /// The number of remembered ends that callers asked for since the last read.
    hits: usize,
    waiting: FxHashMap<ExecutionId, Vec<(u64, Callback)>>,
}

impl Inner {
    fn remember(&mut self, ended: &Ended) {
        let record = ended.record();
        let size = weight(record);
        let known = self.recent.insert(record.id, (Arc::clone(ended), size));
        self.recent_bytes += size;
        match known {
            Some((_, size)) => self.recent_bytes -= size,
            None => self.recent_order.push_back(record.id),
        }
        while self.recent_order.len() > RECENT || self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent_order.pop_front() else {
                break;
            };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, execution: ExecutionId) {
        if let Some((_, size)) = self.recent.remove(&execution) {
            self.recent_bytes -= size;
        }
    }
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

    /// Answers one subscription alone.
    pub fn resolve(&self, subscription: Subscription, ended: Ended) {
        let mut inner = self.inner.lock();
        let Some(list) = inner.waiting.get_mut(&subscription.execution) else {
            return;
        };
        let place = list
            .iter()
            .position(|(number, _)| *number == subscription.number);
        let callback = place.map(|place| list.swap_remove(place).1);
        if list.is_empty() {
            inner.waiting.remove(&subscription.execution);
        }
        drop(inner);
        if let Some(callback) = callback {
            callback(Ok(ended));
        }
    }

    /// All executions with a subscription.
    pub fn awaited(&self) -> Vec<ExecutionId> {
        self.inner.lock().waiting.keys().copied().collect()
    }

    /// An execution that ended a short while ago, as it was then.
    pub fn recent(&self, execution: ExecutionId) -> Option<Ended> {
        let mut inner = self.inner.lock();
        let ended = Arc::clone(&inner.recent.get(&execution)?.0);
        inner.hits += 1;
        Some(ended)
    }

    /// Notes executions that were submitted here and may end elsewhere.
    pub(super) fn expect(&self, executions: &[ExecutionId]) {
        let mut inner = self.inner.lock();
        inner.open.extend(executions);
        while inner.open.len() > OPEN {
            inner.open.pop_first();
        }
    }

    /// What to look at together with an execution that is asked for: the more, the more of the last look was asked for
    /// before it was forgotten.
    pub fn look(&self, execution: ExecutionId) -> Look {
        let mut inner = self.inner.lock();
        if inner.hits >= inner.ahead {
            inner.ahead = (inner.ahead * 2).clamp(1, MAX_AHEAD);
        } else if inner.hits < inner.ahead / 4 {
            inner.ahead /= 2;
        }
        inner.hits = 0;
        let behind = (Bound::Excluded(execution), Bound::Unbounded);
        let following = inner.open.range(behind).take(inner.ahead).copied();
        Look {
            ids: std::iter::once(execution).chain(following).collect(),
            forgotten: inner.forgotten,
        }
    }

    /// Remembers the ends that a read found.
    pub fn found(&self, look: &Look, ended: &[Ended]) {
        let mut inner = self.inner.lock();
        if inner.forgotten != look.forgotten {
            return;
        }
        for ended in ended {
            inner.open.remove(&ended.record().id);
            inner.remember(ended);
        }
    }

    /// Forgets the remembered ends: of one execution that goes on, or all when other processes may have changed some.
    pub fn forget_recent(&self, execution: Option<ExecutionId>) {
        let mut inner = self.inner.lock();
        inner.forgotten += 1;
        if let Some(execution) = execution {
            inner.forget(execution);
        } else {
            inner.recent.clear();
            inner.recent_order.clear();
            inner.recent_bytes = 0;
        }
    }

    /// Answers all subscriptions to this execution, and remembers its end for a while.
    pub fn notify(&self, ended: &Ended) {
        let mut inner = self.inner.lock();
        let id = ended.record().id;
        let callbacks = inner.waiting.remove(&id);
        inner.open.remove(&id);
        inner.remember(ended);
        drop(inner);
        for (_, callback) in callbacks.into_iter().flatten() {
            callback(Ok(Arc::clone(ended)));
        }
    }

    /// Answers all subscriptions to this execution with an error: it has ended and cannot be read.
    pub(super) fn fail(&self, execution: ExecutionId, error: &Error) {
        let callbacks = self.inner.lock().waiting.remove(&execution);
        for (_, callback) in callbacks.into_iter().flatten() {
            callback(Err(error.clone()));
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
