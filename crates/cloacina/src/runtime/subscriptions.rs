//! Subscriptions: callers that wait for executions to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHashMap;

use super::open_callback::OpenCallback;
use super::remembered_ends::{Ended, ReadAhead, RememberedEnds};

use crate::types::sync::Mutex;
use crate::types::{Error, ExecutionId, Micros, Monotonic};

/// The function that answers a subscriber.
type OnEnd = Box<dyn FnOnce(Result<Ended, Error>) + Send>;

/// The subscriptions of callers, and the executions that have ended recently. In order to miss no end, a caller first
/// subscribes and then checks whether the execution has ended.
#[derive(Default)]
pub struct Subscriptions {
    state: Mutex<SubscriptionState>,
    /// The number of ended executions whose callers are not answered yet, because callbacks have not returned.
    held: AtomicUsize,
}

/// Maximum time, in microseconds, for which callbacks that have not returned delay the replies to callers that wait for an
/// execution's end.
const CALLBACK_PATIENCE: Micros = 30_000_000;

/// The callbacks of one execution that have not returned, and the execution's end, which waits for them.
#[derive(Default)]
struct OpenCallbacks {
    count: usize,
    end: Option<Ended>,
    /// The execution's revision at the last end that waited for callbacks.
    revision: Option<i64>,
    /// The time at which the callers are answered even if callbacks have not returned.
    give_up: Option<Monotonic>,
    /// Whether the wait timed out, so that callers were answered before the callbacks returned.
    is_overdue: bool,
}

impl OpenCallbacks {
    /// Delays an end until the callbacks have returned, at most for `CALLBACK_PATIENCE` from the first call for this end.
    /// Returns `false` if this time is over.
    fn hold(&mut self, ended: &Ended, now: Monotonic) -> bool {
        let revision = ended.record().revision;
        if self.revision.is_none_or(|held| held < revision) {
            self.end = Some(Arc::clone(ended));
            self.revision = Some(revision);
            self.give_up = Some(now + CALLBACK_PATIENCE);
            self.is_overdue = false;
        }
        !self.is_overdue
    }
}

#[derive(Default)]
struct SubscriptionState {
    next: u64,
    ends: RememberedEnds,
    waiting: FxHashMap<ExecutionId, Vec<(u64, OnEnd)>>,
    /// The callbacks that have not returned, by execution.
    open_callbacks: FxHashMap<ExecutionId, OpenCallbacks>,
}

/// Identifies a subscription, so that it can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    execution: ExecutionId,
    number: u64,
}

impl Subscriptions {
    /// Calls `on_end` once, when the execution has ended or the runner is closed. `on_end` runs on the thread that runs a
    /// step or calls `resolve`, or on the thread on which the last callback of the execution's tasks returns.
    pub fn subscribe(
        &self,
        execution: ExecutionId,
        on_end: impl FnOnce(Result<Ended, Error>) + Send + 'static,
    ) -> Subscription {
        let mut state = self.state.lock();
        state.next += 1;
        let number = state.next;
        state
            .waiting
            .entry(execution)
            .or_default()
            .push((number, Box::new(on_end)));
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

    /// Answers one subscription. If callbacks of the execution's tasks are running in this process, the answer waits
    /// for them as in [`notify`](Self::notify). In this case, returns `true`, and the coordinator must recompute the
    /// time of its next step.
    pub fn resolve(&self, subscription: Subscription, ended: Ended, now: Monotonic) -> bool {
        let mut state = self.state.lock();
        if self.hold(&mut state, &ended, now) {
            return true;
        }
        let Some(list) = state.waiting.get_mut(&subscription.execution) else {
            return false;
        };
        let index = list
            .iter()
            .position(|(number, _)| *number == subscription.number);
        let on_end = index.map(|index| list.swap_remove(index).1);
        if list.is_empty() {
            state.waiting.remove(&subscription.execution);
        }
        drop(state);
        if let Some(on_end) = on_end {
            on_end(Ok(ended));
        }
        false
    }

    /// All executions with a subscription, except those whose end is known and waits for callbacks.
    pub fn awaited(&self) -> Vec<ExecutionId> {
        let state = self.state.lock();
        let is_held = |id: &ExecutionId| {
            let open = state.open_callbacks.get(id);
            open.is_some_and(|open| open.end.is_some())
        };
        let awaited = state.waiting.keys().filter(|id| !is_held(id));
        awaited.copied().collect()
    }

    /// Returns an execution that has ended recently, as it was at its end. `None` if its end is not remembered.
    pub fn recent(&self, execution: ExecutionId) -> Option<Ended> {
        self.state.lock().ends.request(execution)
    }

    /// Like [`recent`](Self::recent), but also returns `None` while callbacks of the execution's tasks are running in this
    /// process, because callers get no answer before the callbacks have returned.
    pub fn recent_answer(&self, execution: ExecutionId) -> Option<Ended> {
        let mut state = self.state.lock();
        if state.open_callbacks.contains_key(&execution) {
            return None;
        }
        state.ends.request(execution)
    }

    /// Records executions that were submitted through this runner and may end in another process.
    pub(super) fn note_submitted(&self, executions: &[ExecutionId]) {
        self.state.lock().ends.note_submitted(executions);
    }

    /// Returns the executions to read together with the execution that a caller requests.
    pub fn read_ahead(&self, execution: ExecutionId) -> ReadAhead {
        self.state.lock().ends.read_ahead(execution)
    }

    /// Remembers the ended executions that a read has returned.
    pub fn note_read(&self, read: &ReadAhead, ended: &[Ended]) {
        self.state.lock().ends.note_read(read, ended);
    }

    /// Forgets the end of an execution that is retried. With `None`, forgets all ends, because other processes may have
    /// retried executions.
    pub fn forget_recent(&self, execution: Option<ExecutionId>) {
        self.state.lock().ends.forget(execution);
    }

    /// Forgets the last end of an execution, because a read of the execution has shown that it is open.
    pub fn note_open(&self, execution: ExecutionId) {
        let mut state = self.state.lock();
        if state.ends.contains(execution) {
            state.ends.forget(Some(execution));
        }
    }

    /// Records that a callback of one of the execution's tasks is about to be called.
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

    /// Delays an end if callbacks of the execution's tasks are running in this process. Returns whether the end waits for them.
    fn hold(&self, state: &mut SubscriptionState, ended: &Ended, now: Monotonic) -> bool {
        let Some(open) = state.open_callbacks.get_mut(&ended.record().id) else {
            return false;
        };
        let had_end = open.end.is_some();
        let waits = open.hold(ended, now);
        if !had_end && open.end.is_some() {
            self.held.fetch_add(1, Ordering::AcqRel);
        }
        waits
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

    /// Answers the callers of executions whose callbacks have taken too long. Returns these executions.
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

    /// Answers all subscriptions to an execution that has ended, and remembers its end for a while. If callbacks of its
    /// tasks are running in this process, delays the answers until the callbacks have returned, for at most
    /// `CALLBACK_PATIENCE`. A repeated call for the same end does not extend this delay.
    pub fn notify(&self, ended: &Ended, now: Monotonic) {
        if !self.hold(&mut self.state.lock(), ended, now) {
            self.answer(ended);
        }
    }

    /// Stops waiting for callbacks and answers the callers that wait for the last end. This is called when the
    /// execution runs again. Callers that subscribe later wait for the execution's next end.
    pub(super) fn release(&self, execution: ExecutionId) {
        let mut state = self.state.lock();
        let open = state.open_callbacks.get_mut(&execution);
        let Some(end) = open.and_then(|open| open.end.take()) else {
            return;
        };
        let waiting = state.waiting.remove(&execution);
        drop(state);
        self.held.fetch_sub(1, Ordering::AcqRel);
        for (_, on_end) in waiting.into_iter().flatten() {
            on_end(Ok(Arc::clone(&end)));
        }
    }

    fn answer(&self, ended: &Ended) {
        let mut state = self.state.lock();
        let id = ended.record().id;
        let waiting = state.waiting.remove(&id);
        state.ends.remember(ended, false);
        drop(state);
        for (_, on_end) in waiting.into_iter().flatten() {
            on_end(Ok(Arc::clone(ended)));
        }
    }

    /// Answers all subscriptions to an execution with an error, because it has ended but cannot be read.
    pub(super) fn fail(&self, execution: ExecutionId, error: &Error) {
        let waiting = self.state.lock().waiting.remove(&execution);
        for (_, on_end) in waiting.into_iter().flatten() {
            on_end(Err(error.clone()));
        }
    }

    /// Answers all subscriptions, because the runner is closed. If the end of an execution is known and only waits
    /// for callbacks, the callers get this end. All other callers get the error.
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
        for (_, on_end) in waiting.into_values().flatten() {
            on_end(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::remembered_ends::ended;
    use super::*;

    const PATIENCE_OVER: Monotonic = Monotonic(CALLBACK_PATIENCE);

    fn subscribe(
        subscriptions: &Subscriptions,
        id: ExecutionId,
    ) -> (Subscription, Arc<AtomicBool>) {
        let answered = Arc::new(AtomicBool::new(false));
        let answer = Arc::clone(&answered);
        let subscription =
            subscriptions.subscribe(id, move |_| answer.store(true, Ordering::SeqCst));
        (subscription, answered)
    }

    #[test]
    fn callbacks_delay_an_end_that_was_read_from_the_database() {
        let subscriptions = Arc::new(Subscriptions::default());
        let id = ExecutionId::generate();
        let _open = subscriptions.open_callback(id);
        let (subscription, answered) = subscribe(&subscriptions, id);
        assert!(subscriptions.resolve(subscription, ended(id), Monotonic(0)));
        assert!(!answered.load(Ordering::SeqCst));
        assert_eq!(subscriptions.next_overdue(), Some(PATIENCE_OVER));
        assert_eq!(subscriptions.release_overdue(PATIENCE_OVER), [id]);
        assert!(answered.load(Ordering::SeqCst));
    }

    #[test]
    fn end_that_has_waited_for_the_maximum_time_does_not_wait_again() {
        let subscriptions = Arc::new(Subscriptions::default());
        let id = ExecutionId::generate();
        let _open = subscriptions.open_callback(id);
        let end = ended(id);
        subscriptions.notify(&end, Monotonic(0));
        assert_eq!(subscriptions.release_overdue(PATIENCE_OVER), [id]);
        let (_, by_notice) = subscribe(&subscriptions, id);
        subscriptions.notify(&end, PATIENCE_OVER);
        assert!(by_notice.load(Ordering::SeqCst));
        let (subscription, by_read) = subscribe(&subscriptions, id);
        assert!(!subscriptions.resolve(subscription, end, PATIENCE_OVER));
        assert!(by_read.load(Ordering::SeqCst));
    }
}
