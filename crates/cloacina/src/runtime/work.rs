//! Claimed tasks on their way to workers, and those that run: one queue per executor of the process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::types::sync::{Condvar, Mutex};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::types::{Claim, Context, ExecutionId, Micros, Ordinal, Timestamp};
use crate::workflow::Workflow;

/// Who runs a task in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executor {
    /// Worker threads that pull (Python's).
    Threads,
    /// An event loop that pulls (Python's).
    Loop,
    /// Futures on the tokio runtime (Rust's).
    Futures,
}

impl Executor {
    /// Every executor, in the order of the queues.
    pub const ALL: [Self; 3] = [Self::Threads, Self::Loop, Self::Futures];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Threads => 0,
            Self::Loop => 1,
            Self::Futures => 2,
        }
    }
}

/// A claimed task with all that a worker needs.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The execution.
    pub execution: ExecutionId,
    /// Its workflow.
    pub workflow: Arc<Workflow>,
    /// The task.
    pub task: Ordinal,
    /// The fence.
    pub claim: Claim,
    /// What the task sees.
    pub context: Arc<Context>,
    /// Which handler of the executor runs it.
    pub handler: u64,
    /// Limit of the attempt.
    pub timeout: Option<Micros>,
    /// Whether the coordinator wants to hear of the start, for the execution's deadline.
    pub reports_start: bool,
    /// Its place among claims.
    pub priority: i16,
    /// Set when the execution is cancelled.
    pub cancelled: Arc<AtomicBool>,
}

/// A call that follows a durable outcome.
#[derive(Clone, Debug)]
pub struct Callback {
    /// Whose callback.
    pub handler: u64,
    /// The task.
    pub task: String,
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The execution.
    pub execution: ExecutionId,
    /// The error's text after a failure.
    pub error: Option<String>,
    /// The context after the task, or before it when it failed.
    pub context: Arc<Context>,
}

/// Something for a worker to do.
#[derive(Debug)]
pub enum Work {
    /// Run a task and report its end under the token.
    Task(WorkToken, Assignment),
    /// Call back; nothing is reported.
    Callback(Callback),
}

/// What the queue says to a worker whose task returned.
#[derive(Debug)]
pub enum Completion {
    /// The result counts, as far as this process knows.
    Accepted(Running),
    /// The attempt was taken away; the result is dropped.
    Dropped,
    /// The same, and the worker's slot went to another: it must end.
    Replaced,
}

/// Names a running attempt inside its queue.
pub type WorkToken = u64;
/// Names a worker: what a notice about it carries.
pub type WorkerId = u64;

/// What the executor's side must do outside a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The worker overran a timeout: interrupt it and give its slot to another.
    Overrun {
        /// Whom.
        worker: WorkerId,
        /// What it runs.
        token: WorkToken,
    },
    /// The attempt was cancelled: stop it if that is possible.
    Cancelled {
        /// Whom.
        worker: WorkerId,
        /// What it runs.
        token: WorkToken,
    },
    /// Work waits, nobody is free, and the limit allows another worker: start one.
    WorkerWanted,
}

/// An attempt that a worker runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The fence.
    pub claim: Claim,
    /// The workflow, for names in messages.
    pub workflow: Arc<Workflow>,
    /// Since when.
    pub started_at: Timestamp,
    /// Until when it may take.
    pub deadline: Option<Timestamp>,
    /// By whom.
    pub worker: WorkerId,
    cancelled: Arc<AtomicBool>,
}

type Place = (Reverse<i16>, ExecutionId, Ordinal);

#[derive(Default)]
struct Inner {
    waiting: BTreeMap<Place, Assignment>,
    callbacks: VecDeque<Callback>,
    running: FxHashMap<WorkToken, Running>,
    /// Attempts whose worker lost its slot to another one.
    replaced: FxHashSet<WorkToken>,
    notices: VecDeque<Notice>,
    idle_workers: usize,
    /// Wake-ups sent to idle workers that have not run yet.
    woken: usize,
    /// Workers that have their slot, those that were asked for included.
    workers: usize,
    max_workers: usize,
    closed: bool,
}

/// The queue between the coordinator and the workers of one executor.
pub struct WorkQueue {
    inner: Mutex<Inner>,
    available: Condvar,
    noticed: Condvar,
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

    /// Allows so many workers; without this none is asked for.
    pub fn allow_workers(&self, max_workers: usize) {
        self.inner.lock().max_workers = max_workers;
    }

    /// Adds work and wakes one idle worker; each worker that takes work wakes the next while more waits.
    pub fn push(&self, assignments: Vec<Assignment>, callbacks: Vec<Callback>) {
        if assignments.is_empty() && callbacks.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
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
            if inner.closed {
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
        let (_, assignment) = inner.waiting.pop_first()?;
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
                cancelled: Arc::clone(&assignment.cancelled),
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

    fn wake_one(&self, inner: &mut Inner) {
        if inner.waiting.is_empty() && inner.callbacks.is_empty() {
            return;
        }
        if inner.idle_workers > inner.woken {
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
        match inner.running.remove(&token) {
            Some(running) => Completion::Accepted(running),
            None if inner.replaced.remove(&token) => Completion::Replaced,
            None => Completion::Dropped,
        }
    }

    /// Attempts that run.
    pub fn running(&self) -> Vec<Running> {
        self.inner.lock().running.values().cloned().collect()
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
            if let Some(running) = inner.running.remove(&token) {
                inner.notices.push_back(Notice::Overrun {
                    worker: running.worker,
                    token,
                });
                inner.replaced.insert(token);
                inner.workers = inner.workers.saturating_sub(1);
                taken.push(running);
            }
        }
        self.wake_one(&mut inner);
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

    /// Takes all running attempts from their workers; their results will be refused.
    pub fn abandon(&self) -> Vec<Running> {
        let mut inner = self.inner.lock();
        let abandoned: Vec<(WorkToken, Running)> = inner.running.drain().collect();
        for (token, running) in &abandoned {
            running.cancelled.store(true, Ordering::Release);
            inner.notices.push_back(Notice::Cancelled {
                worker: running.worker,
                token: *token,
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

    fn call_hook(&self) {
        let hook = self.on_arrival.lock().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

/// The queues of a runner, one per executor.
#[derive(Clone, Default)]
pub struct WorkQueues {
    queues: [Arc<WorkQueue>; 3],
}

impl WorkQueues {
    /// The queue of an executor.
    pub fn of(&self, executor: Executor) -> &Arc<WorkQueue> {
        &self.queues[executor.index()]
    }
}
