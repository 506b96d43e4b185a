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
    /// The revision of the last end that waited.
    revision: Option<i64>,
    /// The time at which the callers are answered without waiting any longer.
    give_up: Option<Monotonic>,
    /// Whether the wait timed out, so that the callers were answered before the callbacks returned.
    is_overdue: bool,
}

impl OpenCallbacks {
    /// Holds an end back until the callbacks have returned, or until `CALLBACK_PATIENCE` after it was first held back.
    /// Returns `false` if that time is over.
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

    /// Answers a single subscription. If callbacks of the execution's tasks run here, it is answered after them, as by
    /// [`notify`](Self::notify). This then returns `true`, and the coordinator must compute the time of its next step again.
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
        let callback = index.map(|index| list.swap_remove(index).1);
        if list.is_empty() {
            state.waiting.remove(&subscription.execution);
        }
        drop(state);
        if let Some(callback) = callback {
            callback(Ok(ended));
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

    /// Holds an end back if callbacks of the execution's tasks run here. Returns whether it waits for them.
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
    /// is done after the last one has returned, or after `CALLBACK_PATIENCE`. A later call for the same end changes nothing.
    pub fn notify(&self, ended: &Ended, now: Monotonic) {
        if !self.hold(&mut self.state.lock(), ended, now) {
            self.answer(ended);
        }
    }

    /// Answers the callers that wait for callbacks after an end, because the execution runs again. Callers that come later
    /// wait for its next end.
    pub(super) fn release(&self, execution: ExecutionId) {
        let mut state = self.state.lock();
        let open = state.open_callbacks.get_mut(&execution);
        let Some(end) = open.and_then(|open| open.end.take()) else {
            return;
        };
        let callbacks = state.waiting.remove(&execution);
        drop(state);
        self.held.fetch_sub(1, Ordering::AcqRel);
        for (_, callback) in callbacks.into_iter().flatten() {
            callback(Ok(Arc::clone(&end)));
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::NewExecution;
    use crate::types::{Context, DefinitionId, Timestamp};
    use crate::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
    const PATIENCE_OVER: Monotonic = Monotonic(CALLBACK_PATIENCE);

    fn ended(id: ExecutionId) -> Ended {
        let task = TaskDefinition {
            id: "a".into(),
            ..TaskDefinition::default()
        };
        let workflow = Workflow::new(WorkflowDefinition {
            name: "w".into(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks: vec![task],
            ..WorkflowDefinition::default()
        });
        let new = NewExecution {
            id,
            definition: DefinitionId(1),
            input: Arc::new(Context::new()),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
        };
        let (mut execution, _) = Execution::submit(Arc::new(workflow.unwrap()), new, NOW);
        execution.cancel(NOW).unwrap();
        Arc::new(execution)
    }

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
    fn read_end_waits_for_callbacks_up_to_the_limit() {
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
    fn end_that_has_waited_to_the_limit_does_not_wait_again() {
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
