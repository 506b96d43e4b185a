//! Subscriptions: callers waiting for ends of executions.
//!
//! See docs/explanation/decisions/036-remembered-ends.md

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHashMap;

use super::ledger::weight;
use super::open_callback::OpenCallback;

use crate::engine::Execution;
use crate::types::sync::Mutex;
use crate::types::{Error, ExecutionId, Micros, Monotonic};

/// An execution that has ended.
pub type Ended = Arc<Execution>;

type Callback = Box<dyn FnOnce(Result<Ended, Error>) + Send>;

/// The subscriptions of callers, and the executions that ended recently. To miss no end, a caller subscribes first and then
/// checks whether the execution has ended.
#[derive(Default)]
pub struct Subscriptions {
    state: Mutex<SubscriptionState>,
    /// The number of ends that wait for callbacks.
    held: AtomicUsize,
}

/// Maximum time from an execution's end to the answers to its callers, while callbacks of its tasks run, in microseconds.
const CALLBACK_PATIENCE: Micros = 30_000_000;

/// The callbacks of an execution's tasks that have not returned, and the end of the execution, which waits for them.
#[derive(Default)]
struct OpenCallbacks {
    count: usize,
    end: Option<Ended>,
    /// The time at which the callers are answered without waiting any longer.
    give_up: Option<Monotonic>,
    /// Whether the wait timed out, so that the callers were answered before the callbacks returned.
    is_overdue: bool,
}

/// Maximum number of ended executions that are remembered, for callers that ask for them later.
const RECENT: usize = 4096;
/// Maximum number of bytes of remembered executions, including inputs and results.
const RECENT_BYTES: usize = 32 * 1024 * 1024;

/// Maximum number of ids of open executions submitted here (some megabytes). The oldest are evicted first. Evicted ids are
/// looked up individually in the database.
const OPEN: usize = 65_536;
/// Maximum number of executions that are read together with the one that a caller asks for.
const MAX_READ_AHEAD: usize = 128;

/// Executions to read in one query, because a caller that asks for the first is likely to ask for the others.
pub struct ReadAhead {
    /// The execution that a caller asks for, and some that were submitted here after it.
    pub ids: Vec<ExecutionId>,
    /// The number of evictions before the read. If it has changed after the read, the results are not remembered.
    evictions: u64,
}

#[derive(Default)]
struct SubscriptionState {
    next: u64,
    /// Ended executions with an estimate of their bytes.
    recent: FxHashMap<ExecutionId, (Ended, usize)>,
    recent_bytes: usize,
    recent_order: VecDeque<ExecutionId>,
    /// The number of calls of `forget_recent`.
    evictions: u64,
    /// Executions that were submitted here, may end elsewhere, and have not ended as far as is known.
    open: BTreeSet<ExecutionId>,
    /// The number of open executions to read together with the next one that a caller asks for.
    read_ahead: usize,
    /// The number of remembered ends that callers asked for since the last read.
    hits: usize,
    waiting: FxHashMap<ExecutionId, Vec<(u64, Callback)>>,
    /// The callbacks that have not returned, by execution.
    open_callbacks: FxHashMap<ExecutionId, OpenCallbacks>,
}

impl SubscriptionState {
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

/// Identifies a subscription, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    execution: ExecutionId,
    number: u64,
}

impl Subscriptions {
    /// Calls `callback` once, on the thread that runs the step, when the execution has ended or the runner is closed.
    pub fn subscribe(
        &self,
        execution: ExecutionId,
        callback: impl FnOnce(Result<Ended, Error>) + Send + 'static,
    ) -> Subscription {
        let mut state = self.state.lock();
        state.next += 1;
        let number = state.next;
        state
            .waiting
            .entry(execution)
            .or_default()
            .push((number, Box::new(callback)));
        Subscription { execution, number }
    }

    /// Cancels a subscription.
    pub fn unsubscribe(&self, subscription: Subscription) {
        let mut state = self.state.lock();
        if let Some(list) = state.waiting.get_mut(&subscription.execution) {
            list.retain(|(number, _)| *number != subscription.number);
            if list.is_empty() {
                state.waiting.remove(&subscription.execution);
            }
        }
    }

    /// Answers a single subscription, unless callbacks of the execution's tasks run here: it is answered after them.
    pub fn resolve(&self, subscription: Subscription, ended: Ended) {
        let mut state = self.state.lock();
        if let Some(open) = state.open_callbacks.get_mut(&subscription.execution)
            && !open.is_overdue
        {
            if open.end.is_none() {
                open.end = Some(ended);
                self.held.fetch_add(1, Ordering::AcqRel);
            }
            return;
        }
        let Some(list) = state.waiting.get_mut(&subscription.execution) else {
            return;
        };
        let index = list
            .iter()
            .position(|(number, _)| *number == subscription.number);
        let callback = index.map(|index| list.swap_remove(index).1);
        if list.is_empty() {
            state.waiting.remove(&subscription.execution);
        }
        drop(state);
        if let Some(callback) = callback {
            callback(Ok(ended));
        }
    }

    /// All executions with a subscription.
    pub fn awaited(&self) -> Vec<ExecutionId> {
        self.state.lock().waiting.keys().copied().collect()
    }

    /// Returns an execution that ended recently, as it was at its end.
    pub fn recent(&self, execution: ExecutionId) -> Option<Ended> {
        let mut state = self.state.lock();
        let ended = Arc::clone(&state.recent.get(&execution)?.0);
        state.hits += 1;
        Some(ended)
    }

    /// Notes executions that were submitted here and may end elsewhere.
    pub(super) fn note_submitted(&self, executions: &[ExecutionId]) {
        let mut state = self.state.lock();
        state.open.extend(executions);
        while state.open.len() > OPEN {
            state.open.pop_first();
        }
    }

    /// Returns the executions to read together with one that a caller asks for. Their number grows while callers ask for most
    /// of the executions that were read ahead, and shrinks otherwise.
    pub fn read_ahead(&self, execution: ExecutionId) -> ReadAhead {
        let mut state = self.state.lock();
        if state.hits >= state.read_ahead {
            state.read_ahead = (state.read_ahead * 2).clamp(1, MAX_READ_AHEAD);
        } else if state.hits < state.read_ahead / 4 {
            state.read_ahead /= 2;
        }
        state.hits = 0;
        let behind = (Bound::Excluded(execution), Bound::Unbounded);
        let following = state.open.range(behind).take(state.read_ahead).copied();
        ReadAhead {
            ids: std::iter::once(execution).chain(following).collect(),
            evictions: state.evictions,
        }
    }

    /// Remembers the ended executions that a read returned.
    pub fn note_read(&self, read: &ReadAhead, ended: &[Ended]) {
        let mut state = self.state.lock();
        if state.evictions != read.evictions {
            return;
        }
        for ended in ended {
            state.open.remove(&ended.record().id);
            state.remember(ended);
        }
    }

    /// Forgets the end of an execution that is retried, or all ends if other processes may have retried some.
    pub fn forget_recent(&self, execution: Option<ExecutionId>) {
        let mut state = self.state.lock();
        state.evictions += 1;
        if let Some(execution) = execution {
            state.forget(execution);
        } else {
            state.recent.clear();
            state.recent_order.clear();
            state.recent_bytes = 0;
        }
    }

    /// Notes a callback of one of the execution's tasks that is about to be called.
    pub(in crate::runtime) fn open_callback(
        self: &Arc<Self>,
        execution: ExecutionId,
    ) -> Arc<OpenCallback> {
        let mut state = self.state.lock();
        state.open_callbacks.entry(execution).or_default().count += 1;
        drop(state);
        let subscriptions = Arc::clone(self);
        Arc::new(OpenCallback::new(move || {
            subscriptions.note_returned(execution);
        }))
    }

    fn note_returned(&self, execution: ExecutionId) {
        let mut state = self.state.lock();
        let Some(open) = state.open_callbacks.get_mut(&execution) else {
            return;
        };
        open.count -= 1;
        if open.count > 0 {
            return;
        }
        let end = open.end.take();
        state.open_callbacks.remove(&execution);
        drop(state);
        if let Some(end) = end {
            self.held.fetch_sub(1, Ordering::AcqRel);
            self.answer(&end);
        }
    }

    /// The earliest time at which an end stops waiting for callbacks.
    pub(super) fn next_overdue(&self) -> Option<Monotonic> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let state = self.state.lock();
        let open = state.open_callbacks.values();
        open.filter(|open| open.end.is_some())
            .filter_map(|open| open.give_up)
            .min()
    }

    /// Answers the callers of executions whose callbacks take too long. Returns these executions.
    pub(super) fn release_overdue(&self, now: Monotonic) -> Vec<ExecutionId> {
        if self.next_overdue().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut released = Vec::new();
        for (id, open) in &mut self.state.lock().open_callbacks {
            if open.give_up.is_some_and(|due| due <= now)
                && let Some(end) = open.end.take()
            {
                open.is_overdue = true;
                released.push((*id, end));
            }
        }
        self.held.fetch_sub(released.len(), Ordering::AcqRel);
        let answered = released.into_iter().map(|(id, end)| {
            self.answer(&end);
            id
        });
        answered.collect()
    }

    /// Answers all subscriptions to this execution, and remembers its end for a while. If callbacks of its tasks run here, this
    /// is done after the last one has returned, or after `CALLBACK_PATIENCE`.
    pub fn notify(&self, ended: &Ended, now: Monotonic) {
        let mut state = self.state.lock();
        let id = ended.record().id;
        if let Some(open) = state.open_callbacks.get_mut(&id) {
            if open.end.replace(Arc::clone(ended)).is_none() {
                self.held.fetch_add(1, Ordering::AcqRel);
            }
            open.give_up = Some(now + CALLBACK_PATIENCE);
            open.is_overdue = false;
            return;
        }
        drop(state);
        self.answer(ended);
    }

    fn answer(&self, ended: &Ended) {
        let mut state = self.state.lock();
        let id = ended.record().id;
        let callbacks = state.waiting.remove(&id);
        state.open.remove(&id);
        state.remember(ended);
        drop(state);
        for (_, callback) in callbacks.into_iter().flatten() {
            callback(Ok(Arc::clone(ended)));
        }
    }

    /// Answers all subscriptions to this execution with an error: it has ended and cannot be read.
    pub(super) fn fail(&self, execution: ExecutionId, error: &Error) {
        let callbacks = self.state.lock().waiting.remove(&execution);
        for (_, callback) in callbacks.into_iter().flatten() {
            callback(Err(error.clone()));
        }
    }

    /// Answers all subscriptions with an error: the runner is closed.
    pub fn close(&self, error: &Error) {
        let mut state = self.state.lock();
        let open = state.open_callbacks.values_mut();
        let held: Vec<Ended> = open.filter_map(|open| open.end.take()).collect();
        drop(state);
        self.held.fetch_sub(held.len(), Ordering::AcqRel);
        for ended in &held {
            self.answer(ended);
        }
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        for (_, callback) in waiting.into_values().flatten() {
            callback(Err(error.clone()));
        }
    }
}
