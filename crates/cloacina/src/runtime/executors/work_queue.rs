//! The queue between the coordinator and the workers of one executor: ready tasks, running attempts, worker slots.
//!
//! See docs/explanation/decisions/040-python-pulls.md

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::ready_queue::ReadyQueue;
use super::running_set::RunningSet;
use super::worker_slots::{SlotAction, SlotEvent, WorkerSlots};
use crate::runtime::assignment::{
    Assignment, Callback, Completion, Executor, Notice, Running, Work, WorkToken, WorkerId,
};
use crate::store::AttemptKey;
use crate::types::sync::{Condvar, Mutex};
use crate::types::{Claim, Clock, ExecutionId, Micros, Monotonic, Ordinal};

/// Maximum number of attempts that can have released their slots at the same time. Each of these attempts keeps a
/// thread.
const MAX_RELEASED: usize = 256;

#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags are independent of each other"
)]
pub(super) struct QueueState {
    pub(super) ready: ReadyQueue,
    pub(super) running: RunningSet,
    pub(super) slots: WorkerSlots,
    pub(super) notices: Vec<Notice>,
    /// Whether the coordinator will check for attempts whose start must be stored.
    pub(super) watches_starts: bool,
    /// Whether the ready tasks are expected to take less time than waking a worker.
    is_short: bool,
    /// The number of tasks that workers have taken since the last check for short tasks.
    taken: usize,
    /// Maximum number of running attempts, for a worker that runs many attempts at the same time (semantics C5).
    capacity: Option<usize>,
    /// Whether `SharedWorkers` serves this queue. Its workers take work from several queues in turn.
    shared: bool,
    closed: bool,
}

impl QueueState {
    fn is_full(&self) -> bool {
        let busy = self.running.busy();
        self.capacity.is_some_and(|most| busy >= most) || !self.slots.has_room(busy)
    }
}

/// The queue between the coordinator and the workers of one executor.
pub struct WorkQueue {
    pub(super) state: Mutex<QueueState>,
    work_ready: Condvar,
    pub(super) noticed: Condvar,
    /// A condition variable that is notified when a slot becomes free or when attempts are evicted. Workers that want
    /// to reacquire a slot wait on it.
    pub(super) slot_free: Condvar,
    next_token: AtomicU64,
    /// The hook that is called after work or a notice has arrived, for executors that do not block on the queue.
    on_arrival: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Default for WorkQueue {
    fn default() -> Self {
        Self::with_first_token(1)
    }
}

/// Work that a worker has taken.
#[derive(Debug)]
pub struct DispatchedWork {
    /// The work.
    pub work: Work,
    /// Whether the coordinator must set a timer for the attempt's deadline, for storing its start, or for the check for
    /// short tasks. If so, the worker must send [`Message::Poke`](crate::runtime::Message::Poke).
    pub poke: bool,
}

/// The result of a deferred attempt's wait for a free slot.
pub(super) enum Reacquired {
    /// The attempt has a slot and may continue.
    Yes(AttemptKey),
    /// The attempt was evicted.
    Gone,
    /// No slot became free in time.
    NotYet,
}

impl WorkQueue {
    pub(super) fn with_first_token(token: WorkToken) -> Self {
        Self {
            state: Mutex::default(),
            work_ready: Condvar::new(),
            noticed: Condvar::new(),
            slot_free: Condvar::new(),
            next_token: AtomicU64::new(token),
            on_arrival: Mutex::new(None),
        }
    }

    /// Sets the hook that is called after work or a notice has arrived.
    pub fn on_arrival(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        *self.on_arrival.lock() = Some(hook);
    }

    /// Moves the worker slots to a pool that serves several queues. Workers that wait on this queue return.
    pub(super) fn share(&self, pool: &mut WorkerSlots) {
        let mut state = self.state.lock();
        state.shared = true;
        pool.adopt(&mut state.slots);
        self.work_ready.notify_all();
        self.slot_free.notify_all();
    }

    /// Whether workers take this queue's work from `SharedWorkers`.
    pub fn is_shared(&self) -> bool {
        self.state.lock().shared
    }

    /// Sets the maximum number of workers. Without this call, the queue requests no workers.
    pub fn allow_workers(&self, max_workers: usize) {
        self.state.lock().slots.set_max(max_workers);
    }

    /// Sets the maximum number of running attempts. The hook of [`on_arrival`](Self::on_arrival) is then also called
    /// when there is room again.
    pub fn limit(&self, capacity: usize) {
        self.state.lock().capacity = Some(capacity);
    }

    /// Adds work, and wakes or requests a worker if needed. A worker that takes work wakes the next one if more is ready.
    ///
    /// `is_short`: whether the tasks are expected to take less time than waking a worker. If so, and if a worker is
    /// busy, no other worker is woken, because the busy worker will take the tasks. The coordinator must then call
    /// [`check_short_tasks`](Self::check_short_tasks).
    pub fn push(&self, assignments: Vec<Assignment>, callbacks: Vec<Callback>, is_short: bool) {
        if assignments.is_empty() && callbacks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.is_short = is_short;
        state.watches_starts |= !assignments.is_empty();
        state.ready.add(assignments, callbacks);
        self.call_worker(&mut state);
        drop(state);
        self.call_hook();
    }

    /// If no ready task was taken since the last check, wakes another worker, because a task is taking longer than expected.
    /// Returns whether a further check is needed.
    pub fn check_short_tasks(&self) -> bool {
        let mut state = self.state.lock();
        if !state.slots.take_postponed() {
            return false;
        }
        if std::mem::take(&mut state.taken) == 0 {
            state.is_short = false;
            self.call_worker(&mut state);
        }
        if state.is_short && state.ready.has_tasks() {
            state.slots.postpone();
        }
        state.slots.has_postponed()
    }

    /// Whether the coordinator must call [`check_short_tasks`](Self::check_short_tasks).
    pub fn must_check_short_tasks(&self) -> bool {
        self.state.lock().slots.has_postponed()
    }

    /// Announces that the calling worker is about to take work. Until the guard is dropped, no other worker is woken.
    pub fn incoming(&self) -> IncomingWorker<'_> {
        self.state.lock().slots.transition(SlotEvent::Approaches);
        IncomingWorker(self)
    }

    /// Takes work if work is ready.
    pub fn try_take(&self, worker: WorkerId, clock: &dyn Clock) -> Option<DispatchedWork> {
        self.take(&mut self.state.lock(), worker, clock)
    }

    /// Takes work, and waits for it up to `patience`. Returns `None` if no work arrives, or if the queue is closed or shared.
    pub fn wait_take(
        &self,
        worker: WorkerId,
        patience: Duration,
        clock: &dyn Clock,
    ) -> Option<DispatchedWork> {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        loop {
            if let Some(work) = self.take(&mut state, worker, clock) {
                return Some(work);
            }
            if state.closed || state.shared {
                return None;
            }
            state.slots.transition(SlotEvent::Waits);
            let timed_out = self.work_ready.wait_until(&mut state, until).timed_out();
            state.slots.transition(SlotEvent::StopsWaiting);
            if timed_out {
                return self.take(&mut state, worker, clock);
            }
        }
    }

    fn take(
        &self,
        state: &mut QueueState,
        worker: WorkerId,
        clock: &dyn Clock,
    ) -> Option<DispatchedWork> {
        if let Some(callback) = state.ready.pop_callback() {
            self.call_worker(state);
            return Some(DispatchedWork {
                work: Work::Callback(callback),
                poke: false,
            });
        }
        if state.is_full() {
            return None;
        }
        let assignment = state.ready.pop_task()?;
        state.taken += 1;
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let started = clock.monotonic();
        let running = Running {
            execution: assignment.execution,
            task: assignment.task,
            claim: assignment.claim,
            workflow: Arc::clone(&assignment.workflow),
            started_at: clock.now(),
            started,
            deadline: assignment.timeout.map(|timeout| started + timeout),
            worker,
            deferred: false,
            is_start_stored: false,
            cancelled: Arc::clone(&assignment.cancelled),
            pulse: Arc::clone(&assignment.pulse),
        };
        let is_first_deadline = state.running.start(token, running);
        let had_postponed = state.slots.has_postponed();
        self.call_worker(state);
        // No worker was woken for the remaining tasks, so the coordinator must check them.
        let has_postponed = !had_postponed && state.slots.has_postponed();
        let watches_starts = std::mem::replace(&mut state.watches_starts, true);
        let poke = !watches_starts || is_first_deadline || has_postponed;
        Some(DispatchedWork {
            work: Work::Task(token, assignment),
            poke,
        })
    }

    pub(super) fn call_worker(&self, state: &mut QueueState) {
        if state.shared || state.ready.is_empty() {
            return;
        }
        let event = SlotEvent::WorkReady {
            busy: state.running.busy(),
            is_short: state.is_short,
            is_callback: state.ready.has_callbacks(),
        };
        match state.slots.transition(event) {
            SlotAction::Nothing => {}
            SlotAction::Wake => {
                self.work_ready.notify_one();
            }
            SlotAction::Start => {
                state.notices.push(Notice::WorkerWanted);
                self.noticed.notify_one();
            }
        }
    }

    /// Ends an attempt after its worker has finished it.
    pub fn complete(&self, token: WorkToken) -> Completion {
        let mut state = self.state.lock();
        let completion = state.running.complete(token);
        if matches!(completion, Completion::Accepted(_)) {
            if state.slots.is_wanted() {
                self.slot_free.notify_one();
            } else if state.slots.has_surplus() {
                self.call_worker(&mut state);
            }
            let has_room = state.capacity.is_some() && state.ready.has_tasks();
            drop(state);
            if has_room {
                self.call_hook();
            }
        }
        completion
    }

    /// The running attempts.
    pub fn running(&self) -> Vec<Running> {
        self.state.lock().running.all()
    }

    /// How long the oldest running attempt has been running, in microseconds.
    pub(in crate::runtime) fn longest_run(&self, now: Monotonic) -> Micros {
        self.state.lock().running.longest_run(now)
    }

    /// The number of running attempts, and the number of tasks and callbacks that wait for a worker.
    pub fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.running.len(), state.ready.len())
    }

    /// The earliest deadline of the running attempts, or an earlier time.
    pub fn first_deadline(&self) -> Option<Monotonic> {
        self.state.lock().running.first_deadline()
    }

    /// Marks a running attempt as cancelled, and notifies its worker.
    pub fn interrupt(&self, execution: ExecutionId, task: Ordinal, claim: Claim) {
        let mut state = self.state.lock();
        let Some((token, running)) = state.running.cancel((execution, task, claim)) else {
            return;
        };
        let notice = Notice::Cancelled {
            worker: running.worker,
            token,
            replaced: false,
        };
        state.notices.push(notice);
        drop(state);
        self.noticed.notify_all();
        self.call_hook();
    }

    /// Takes the notices. If there are none, waits for the first notice up to `patience`.
    pub fn notices(&self, patience: Duration) -> Vec<Notice> {
        let mut state = self.state.lock();
        if state.notices.is_empty() && !state.closed && !patience.is_zero() {
            self.noticed.wait_for(&mut state, patience);
        }
        std::mem::take(&mut state.notices)
    }

    /// Closes the queue, so that waiting workers return.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.work_ready.notify_all();
        self.noticed.notify_all();
        self.call_hook();
    }

    /// Whether the queue has nothing to do: no running attempt, no ready work, and no evicted attempt whose
    /// still-running function delays final tasks.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.running.len() == 0 && !state.running.delays_finals() && state.ready.is_empty()
    }

    /// Whether the queue has been closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Releases the slot of a deferred attempt. Returns `None` if the attempt has already released its slot or was
    /// evicted, if too many attempts have released their slots, or if the queue is shared.
    pub(super) fn release_slot(&self, token: WorkToken) -> Option<AttemptKey> {
        let mut state = self.state.lock();
        // A shared worker serves several runners, and the queue of one runner cannot start a replacement for the
        // worker.
        if state.shared || state.slots.starts_workers() && state.running.deferred() >= MAX_RELEASED
        {
            return None;
        }
        let attempt = state.running.set_deferred(token, true)?;
        state.slots.transition(SlotEvent::Releases);
        self.slot_free.notify_one();
        self.call_worker(&mut state);
        drop(state);
        self.call_hook();
        Some(attempt)
    }

    /// Reacquires a slot for a deferred attempt, and waits for a free slot up to `patience`.
    pub(super) fn reacquire_slot(
        &self,
        token: WorkToken,
        executor: Executor,
        patience: Duration,
    ) -> Reacquired {
        let must_wait = |state: &QueueState| {
            // A coroutine does not occupy a worker, so it continues immediately.
            executor == Executor::Threads
                && state.running.contains(token)
                && !state.shared
                && !state.slots.may_resume(state.running.busy())
        };
        let mut state = self.state.lock();
        if must_wait(&state) {
            state.slots.transition(SlotEvent::WantsSlot);
            self.slot_free.wait_for(&mut state, patience);
            state.slots.transition(SlotEvent::StopsWanting);
            if must_wait(&state) {
                return Reacquired::NotYet;
            }
        }
        let Some(attempt) = state.running.set_deferred(token, false) else {
            // While this attempt waited for a slot, it kept other workers from taking work.
            self.call_worker(&mut state);
            drop(state);
            self.call_hook();
            return Reacquired::Gone;
        };
        if !state.shared {
            state.slots.transition(SlotEvent::Reacquires);
        }
        Reacquired::Yes(attempt)
    }

    /// Frees the slot of the calling worker if there are more workers than allowed. There can be too many workers after a
    /// deferred attempt has reacquired a slot, or after a worker was started for a callback. Returns whether the worker must
    /// end.
    pub fn leave_if_surplus(&self) -> bool {
        let mut state = self.state.lock();
        // If a callback is ready, the extra worker must stay to call it.
        if !state.slots.has_surplus() || state.ready.has_callbacks() {
            return false;
        }
        state.slots.transition(SlotEvent::Leaves);
        self.call_worker(&mut state);
        true
    }

    pub(super) fn call_hook(&self) {
        let hook = self.on_arrival.lock().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

/// A worker that is about to take work: see [`WorkQueue::incoming`].
pub struct IncomingWorker<'a>(&'a WorkQueue);

impl Drop for IncomingWorker<'_> {
    fn drop(&mut self) {
        self.0.state.lock().slots.transition(SlotEvent::Arrives);
    }
}
