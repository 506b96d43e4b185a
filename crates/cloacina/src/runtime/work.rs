//! Claimed tasks on their way to workers, and those that run: one queue per executor of the process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::assignment::{
    Assignment, Callback, Completion, Executor, Notice, Running, Work, WorkToken, WorkerId,
};
use super::poll::PollQueue;
use crate::types::sync::{Condvar, Mutex};
use crate::types::{Claim, ExecutionId, Micros, Ordinal, Timestamp};

type Place = (Reverse<i16>, ExecutionId, Ordinal);

#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of a queue, each on its own"
)]
#[derive(Default)]
pub(super) struct Inner {
    waiting: BTreeMap<Place, Assignment>,
    callbacks: VecDeque<Callback>,
    pub(super) running: FxHashMap<WorkToken, Running>,
    /// How many of these have lent their slot.
    pub(super) deferred: usize,
    /// Workers that want their slot back.
    pub(super) regaining: usize,
    /// Attempts whose worker lost its slot to another one.
    replaced: FxHashSet<WorkToken>,
    notices: VecDeque<Notice>,
    idle_workers: usize,
    /// Wake-ups sent to idle workers that have not run yet.
    woken: usize,
    /// Workers that will take work in a moment without being woken.
    coming: usize,
    /// What waits is expected to be so short that one busy worker gets through it sooner than another one wakes up.
    is_short: bool,
    /// A wake-up was spared for that reason.
    spared: bool,
    /// How much work was taken, ever.
    taken: u64,
    /// The same at the last look of `attend`.
    attended: u64,
    /// Workers that have their slot, those that were asked for included.
    pub(super) workers: usize,
    pub(super) max_workers: usize,
    /// How many attempts may run at once where they are not bound to workers of their own (semantics C5).
    capacity: Option<usize>,
    /// Workers take in turn with those of other queues, and `SharedWorkers` wakes them.
    pub(super) shared: bool,
    closed: bool,
}

impl Inner {
    /// Attempts that occupy a slot.
    pub(super) fn busy(&self) -> usize {
        self.running.len() - self.deferred
    }

    /// Whether no more work may be taken for now: so much runs as may, or slots were lent and who wants one back goes first.
    fn is_full(&self) -> bool {
        self.capacity.is_some_and(|most| self.busy() >= most)
            || self.max_workers > 0 && self.busy() + self.regaining >= self.max_workers
    }

    fn remove_running(&mut self, token: WorkToken) -> Option<Running> {
        let running = self.running.remove(&token)?;
        self.deferred -= usize::from(running.deferred);
        Some(running)
    }
}

/// The queue between the coordinator and the workers of one executor.
pub struct WorkQueue {
    pub(super) inner: Mutex<Inner>,
    available: Condvar,
    noticed: Condvar,
    /// A slot was given back, or an attempt taken away.
    pub(super) regained: Condvar,
    /// There may be more workers than allowed, because some have lent their slots and have them back.
    pub(super) surplus: AtomicBool,
    next_token: AtomicU64,
    /// Earliest deadline among the running; the coordinator sleeps no longer.
    first_deadline: Mutex<Option<Timestamp>>,
    /// Called after work or a notice arrived, for executors that do not wait on the queue.
    on_arrival: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Default for WorkQueue {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            available: Condvar::new(),
            noticed: Condvar::new(),
            regained: Condvar::new(),
            surplus: AtomicBool::new(false),
            next_token: AtomicU64::new(1),
            first_deadline: Mutex::new(None),
            on_arrival: Mutex::new(None),
        }
    }
}

/// What taking work tells beside the work.
#[derive(Debug)]
pub struct Taken {
    /// The work.
    pub work: Work,
    /// Its deadline is closer than any other: the coordinator must hear of it.
    pub poke: bool,
}

impl WorkQueue {
    /// Sets what is called after work or a notice arrived.
    pub fn on_arrival(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        *self.on_arrival.lock() = Some(hook);
    }

    /// Leaves waking to `SharedWorkers`: workers that wait return. How many there are.
    pub(super) fn share(&self) -> usize {
        let mut inner = self.inner.lock();
        inner.shared = true;
        inner.max_workers = 0;
        inner.spared = false;
        self.available.notify_all();
        self.regained.notify_all();
        std::mem::take(&mut inner.workers)
    }

    /// Whether workers have to look for work at `SharedWorkers`.
    pub fn is_shared(&self) -> bool {
        self.inner.lock().shared
    }

    /// Allows so many workers; without this none is asked for.
    pub fn allow_workers(&self, max_workers: usize) {
        self.inner.lock().max_workers = max_workers;
    }

    /// Lets no more than so many attempts run at once. Who takes them is called when there is room again.
    pub fn limit(&self, capacity: usize) {
        self.inner.lock().capacity = Some(capacity);
    }

    /// Adds work and wakes one idle worker; each worker that takes work wakes the next while more waits.
    ///
    /// `is_short`: tasks take less than a wake-up does, as far as experience goes. Then a worker that is at it wakes no other
    /// one, and the coordinator must [`attend`](Self::attend) to the queue.
    pub fn push(&self, assignments: Vec<Assignment>, callbacks: Vec<Callback>, is_short: bool) {
        if assignments.is_empty() && callbacks.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.is_short = is_short;
        for assignment in assignments {
            let place = (
                Reverse(assignment.priority),
                assignment.execution,
                assignment.task,
            );
            inner.waiting.insert(place, assignment);
        }
        inner.callbacks.extend(callbacks);
        self.wake_one(&mut inner);
        drop(inner);
        self.call_hook();
    }

    /// Wakes another worker if nobody has taken work since the last look although some waits: a task is longer than
    /// expected. `true`: look again in a moment.
    pub fn attend(&self) -> bool {
        let mut inner = self.inner.lock();
        if !inner.spared {
            return false;
        }
        if inner.attended == inner.taken {
            inner.is_short = false;
            self.wake_one(&mut inner);
        }
        inner.attended = inner.taken;
        inner.spared = inner.is_short && !inner.waiting.is_empty();
        inner.spared
    }

    /// Whether [`attend`](Self::attend) has something to look at.
    pub fn needs_attention(&self) -> bool {
        self.inner.lock().spared
    }

    /// Says that the calling worker will take work in a moment, until the guard is dropped: nobody else is woken for it.
    pub fn coming(&self) -> Coming<'_> {
        self.inner.lock().coming += 1;
        Coming(self)
    }

    /// Takes work if there is some.
    pub fn try_take(&self, worker: WorkerId, now: Timestamp) -> Option<Taken> {
        let mut inner = self.inner.lock();
        self.take(&mut inner, worker, now)
    }

    /// Takes work, waiting for it up to `patience`. `None`: nothing came, or the queue is closed.
    pub fn wait_take(
        &self,
        worker: WorkerId,
        patience: Duration,
        now: &dyn Fn() -> Timestamp,
    ) -> Option<Taken> {
        let until = Instant::now() + patience;
        let mut inner = self.inner.lock();
        loop {
            if let Some(taken) = self.take(&mut inner, worker, now()) {
                return Some(taken);
            }
            if inner.closed || inner.shared {
                return None;
            }
            inner.idle_workers += 1;
            let timed_out = self.available.wait_until(&mut inner, until).timed_out();
            inner.idle_workers -= 1;
            inner.woken = inner.woken.saturating_sub(1);
            if timed_out {
                return self.take(&mut inner, worker, now());
            }
        }
    }

    fn take(&self, inner: &mut Inner, worker: WorkerId, now: Timestamp) -> Option<Taken> {
        if let Some(callback) = inner.callbacks.pop_front() {
            self.wake_one(inner);
            return Some(Taken {
                work: Work::Callback(callback),
                poke: false,
            });
        }
        if inner.is_full() {
            return None;
        }
        let (_, assignment) = inner.waiting.pop_first()?;
        inner.taken += 1;
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let deadline = assignment.timeout.map(|timeout| now + timeout);
        inner.running.insert(
            token,
            Running {
                execution: assignment.execution,
                task: assignment.task,
                claim: assignment.claim,
                workflow: Arc::clone(&assignment.workflow),
                started_at: now,
                deadline,
                worker,
                deferred: false,
                cancelled: Arc::clone(&assignment.cancelled),
                pulse: Arc::clone(&assignment.pulse),
            },
        );
        self.wake_one(inner);
        let poke = deadline.is_some_and(|deadline| {
            let mut first = self.first_deadline.lock();
            let closer = first.is_none_or(|first| deadline < first);
            if closer {
                *first = Some(deadline);
            }
            closer
        });
        Some(Taken {
            work: Work::Task(token, assignment),
            poke,
        })
    }

    pub(super) fn wake_one(&self, inner: &mut Inner) {
        if inner.shared {
            return;
        }
        if inner.waiting.is_empty() && inner.callbacks.is_empty() || inner.coming > 0 {
            return;
        }
        if inner.is_short && inner.busy() + inner.woken > 0 {
            inner.spared = true;
        } else if inner.idle_workers > inner.woken {
            inner.woken += 1;
            self.available.notify_one();
        } else if inner.workers < inner.max_workers {
            inner.workers += 1;
            inner.notices.push_back(Notice::WorkerWanted);
            self.noticed.notify_one();
        }
    }

    /// Ends an attempt on its worker's side.
    pub fn complete(&self, token: WorkToken) -> Completion {
        let mut inner = self.inner.lock();
        match inner.remove_running(token) {
            Some(running) => {
                self.after_lending(&mut inner);
                let has_room = inner.capacity.is_some() && !inner.waiting.is_empty();
                drop(inner);
                if has_room {
                    self.call_hook();
                }
                Completion::Accepted(running)
            }
            None if inner.replaced.remove(&token) => Completion::Replaced,
            None => Completion::Dropped,
        }
    }

    /// Where slots were lent, a free one has more to be told of than the worker that frees it.
    fn after_lending(&self, inner: &mut Inner) {
        if inner.regaining > 0 {
            self.regained.notify_one();
        } else if inner.workers > inner.max_workers {
            self.wake_one(inner);
        }
    }

    /// Attempts that run.
    pub fn running(&self) -> Vec<Running> {
        self.inner.lock().running.values().cloned().collect()
    }

    /// How long the attempt has run that was started first.
    pub(super) fn longest_run(&self, now: Timestamp) -> Micros {
        let inner = self.inner.lock();
        let first = (inner.running.values()).map(|running| running.started_at);
        first.min().map_or(0, |first| now.since(first))
    }

    /// Attempts that run and those that wait for a worker.
    pub fn load(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (
            inner.running.len(),
            inner.waiting.len() + inner.callbacks.len(),
        )
    }

    /// Takes the attempts whose deadline has passed from their workers, with a notice for each.
    pub fn take_overdue(&self, now: Timestamp) -> Vec<Running> {
        if self.first_deadline.lock().is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let overdue = |running: &Running| running.deadline.is_some_and(|deadline| deadline <= now);
        let tokens: Vec<WorkToken> = inner
            .running
            .iter()
            .filter(|(_, running)| overdue(running))
            .map(|(token, _)| *token)
            .collect();
        let mut taken = Vec::with_capacity(tokens.len());
        for token in tokens {
            if let Some(running) = inner.remove_running(token) {
                inner.notices.push_back(Notice::Overrun {
                    worker: running.worker,
                    token,
                });
                inner.replaced.insert(token);
                if !running.deferred {
                    inner.workers = inner.workers.saturating_sub(1);
                }
                taken.push(running);
            }
        }
        self.wake_one(&mut inner);
        self.regained.notify_all();
        *self.first_deadline.lock() = inner
            .running
            .values()
            .filter_map(|running| running.deadline)
            .min();
        self.noticed.notify_all();
        drop(inner);
        self.call_hook();
        taken
    }

    /// The earliest deadline among the running attempts.
    pub fn first_deadline(&self) -> Option<Timestamp> {
        *self.first_deadline.lock()
    }

    /// The lowest priority of what nobody has taken yet.
    pub(super) fn lowest_priority(&self) -> Option<i16> {
        let inner = self.inner.lock();
        inner.waiting.last_key_value().map(|(place, _)| place.0.0)
    }

    /// Drops an attempt that nobody has taken yet; `true` if there was one.
    pub fn withdraw(&self, execution: ExecutionId, task: Ordinal, priority: i16) -> bool {
        self.inner
            .lock()
            .waiting
            .remove(&(Reverse(priority), execution, task))
            .is_some()
    }

    /// Tells a running attempt that its execution was cancelled.
    pub fn interrupt(&self, execution: ExecutionId, task: Ordinal, claim: Claim) {
        let mut inner = self.inner.lock();
        let found = inner.running.iter().find(|(_, running)| {
            running.execution == execution && running.task == task && running.claim == claim
        });
        let Some((token, running)) = found.map(|(token, running)| (*token, running.clone())) else {
            return;
        };
        running.cancelled.store(true, Ordering::Release);
        inner.notices.push_back(Notice::Cancelled {
            worker: running.worker,
            token,
            replaced: false,
        });
        self.noticed.notify_all();
        drop(inner);
        self.call_hook();
    }

    /// Takes back everything that no worker has entered.
    pub fn take_waiting(&self) -> Vec<Assignment> {
        std::mem::take(&mut self.inner.lock().waiting)
            .into_values()
            .collect()
    }

    /// Takes back the last of what no worker has entered, at most so many.
    pub(super) fn take_last(&self, count: usize) -> Vec<Assignment> {
        let mut inner = self.inner.lock();
        let last = std::iter::from_fn(|| inner.waiting.pop_last());
        last.take(count).map(|(_, assignment)| assignment).collect()
    }

    /// Takes all running attempts from their workers; their results will be refused.
    pub fn abandon(&self) -> Vec<Running> {
        let mut inner = self.inner.lock();
        let abandoned: Vec<(WorkToken, Running)> = inner.running.drain().collect();
        let lent = std::mem::take(&mut inner.deferred);
        inner.workers += lent;
        self.surplus.fetch_or(lent > 0, Ordering::AcqRel);
        self.regained.notify_all();
        for (token, running) in &abandoned {
            running.cancelled.store(true, Ordering::Release);
            inner.notices.push_back(Notice::Cancelled {
                worker: running.worker,
                token: *token,
                replaced: true,
            });
            // Nobody watches their deadlines any more: one that is stuck must not keep its slot.
            inner.replaced.insert(*token);
            inner.workers = inner.workers.saturating_sub(1);
        }
        self.wake_one(&mut inner);
        self.noticed.notify_all();
        drop(inner);
        self.call_hook();
        abandoned.into_iter().map(|(_, running)| running).collect()
    }

    /// Notices, waiting for the first one up to `patience`.
    pub fn notices(&self, patience: Duration) -> Vec<Notice> {
        let mut inner = self.inner.lock();
        if inner.notices.is_empty() && !inner.closed && !patience.is_zero() {
            self.noticed.wait_for(&mut inner, patience);
        }
        inner.notices.drain(..).collect()
    }

    /// No work comes any more: waiting workers return.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.available.notify_all();
        self.noticed.notify_all();
        self.call_hook();
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.running.is_empty() && inner.waiting.is_empty() && inner.callbacks.is_empty()
    }

    /// Whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    pub(super) fn call_hook(&self) {
        let hook = self.on_arrival.lock().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

/// A worker on its way to the queue: see [`WorkQueue::coming`].
pub struct Coming<'a>(&'a WorkQueue);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().coming -= 1;
    }
}

/// The queues of a runner, one per executor.
#[derive(Clone, Default)]
pub struct WorkQueues {
    queues: [Arc<WorkQueue>; 3],
    polls: Arc<PollQueue>,
}

impl WorkQueues {
    /// Queues whose tokens differ from those of queues of another number.
    pub(super) fn numbered(number: u64) -> Self {
        let queue = || {
            Arc::new(WorkQueue {
                next_token: AtomicU64::new((number << 40) + 1),
                ..WorkQueue::default()
            })
        };
        Self {
            polls: Arc::default(),
            queues: [queue(), queue(), queue()],
        }
    }

    /// The queue of an executor.
    pub fn of(&self, executor: Executor) -> &Arc<WorkQueue> {
        &self.queues[executor.index()]
    }

    /// The polls of triggers.
    pub fn polls(&self) -> &Arc<PollQueue> {
        &self.polls
    }
}
