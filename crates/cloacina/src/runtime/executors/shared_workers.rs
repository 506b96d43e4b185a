//! Workers that serve the runners of a tenant group in turn (semantics H4).
//!
//! Each runner keeps its own queues, so that returning claims, cancelling and closing affect that runner only. The workers
//! take one task at a time from each runner with work, in turn. Priorities order the work within one runner only.
//!
//! See docs/explanation/decisions/061-shared-workers.md

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::queues::WorkQueues;
use super::work_queue::{DispatchedWork, WorkQueue};
use super::worker_slots::{SlotAction, SlotEvent, WorkerSlots};
use crate::runtime::assignment::{Executor, Notice, Work, WorkToken, WorkerId};
use crate::runtime::{Mailbox, Message};
use crate::types::Clock;
use crate::types::sync::{Condvar, Mutex, MutexGuard};

/// The owner of the shared worker threads and the event loop, in the program.
pub trait WorkerHost: Send + Sync {
    /// Starts another worker thread.
    fn worker_wanted(&self);
    /// Interrupts a worker whose task overran its timeout. Another worker gets its slot.
    fn interrupt(&self, worker: WorkerId, token: WorkToken);
    /// Wakes the event loop, for which work or a notice is ready.
    fn loop_ready(&self);
    /// Ends the workers, because no runner is left.
    fn ended(&self);
}

/// One of the runners that share workers.
pub struct RunnerSlot {
    number: u64,
    queues: WorkQueues,
    mailbox: Arc<Mailbox>,
    clock: Arc<dyn Clock>,
}

impl RunnerSlot {
    /// The runner's queue of an executor.
    pub fn queue(&self, executor: Executor) -> &Arc<WorkQueue> {
        self.queues.of(executor)
    }

    /// Sends a message to the runner's coordinator. A closed one ignores it.
    pub fn report(&self, message: Message) {
        drop(self.mailbox.send(message));
    }

    /// The runner's clocks.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn has_work(&self, executor: Executor) -> bool {
        self.queues.of(executor).load().1 > 0
    }
}

/// The runners that have work, in the order of their turns.
#[derive(Default)]
struct RoundRobin {
    line: VecDeque<Arc<RunnerSlot>>,
    members: FxHashSet<u64>,
}

impl RoundRobin {
    fn join(&mut self, slot: &Arc<RunnerSlot>) {
        if self.members.insert(slot.number) {
            self.line.push_back(Arc::clone(slot));
        }
    }

    /// Whether a runner has a callback.
    fn has_callbacks(&self, executor: Executor) -> bool {
        let mut queues = self.line.iter().map(|slot| slot.queue(executor));
        queues.any(|queue| queue.has_callbacks())
    }

    /// Takes one callback.
    fn take_callback(&mut self, executor: Executor, worker: WorkerId) -> Option<SharedWork> {
        let mut line = self.line.iter();
        let index = line.position(|slot| slot.queue(executor).has_callbacks())?;
        let slot = self.line.remove(index)?;
        self.members.remove(&slot.number);
        // A queue hands out callbacks first.
        let work = slot.queue(executor).try_take(worker, slot.clock());
        if slot.has_work(executor) {
            self.join(&slot);
        }
        Some((slot, work?))
    }

    /// Takes one piece of work. If its runner has more, the runner moves to the end of the line.
    fn take(&mut self, executor: Executor, worker: WorkerId) -> Option<SharedWork> {
        while let Some(slot) = self.line.pop_front() {
            self.members.remove(&slot.number);
            if let Some(work) = slot.queue(executor).try_take(worker, slot.clock()) {
                if slot.has_work(executor) {
                    self.join(&slot);
                }
                return Some((slot, work));
            }
        }
        None
    }
}

/// Work, and the runner that it belongs to.
pub type SharedWork = (Arc<RunnerSlot>, DispatchedWork);

#[derive(Default)]
struct Threads {
    turns: RoundRobin,
    runners: FxHashMap<u64, Arc<RunnerSlot>>,
    workers: WorkerSlots,
    /// The number of workers to request from the host once the lock is free.
    wanted: usize,
    ended: bool,
}

impl Threads {
    fn call_worker(&mut self, work_ready: &Condvar) {
        if self.turns.line.is_empty() {
            return;
        }
        let is_callback =
            !self.workers.has_free_worker() && self.turns.has_callbacks(Executor::Threads);
        let event = SlotEvent::WorkReady {
            busy: 0,
            is_short: false,
            is_callback,
        };
        match self.workers.transition(event) {
            SlotAction::Nothing => {}
            SlotAction::Wake => work_ready.notify_one(),
            SlotAction::Start => self.wanted += 1,
        }
    }

    /// Takes work for a worker. While there are more workers than allowed, because one was started for a callback, they take
    /// callbacks only.
    fn take(&mut self, worker: WorkerId) -> Option<SharedWork> {
        if self.workers.has_surplus() {
            self.turns.take_callback(Executor::Threads, worker)
        } else {
            self.turns.take(Executor::Threads, worker)
        }
    }
}

#[derive(Default)]
struct EventLoop {
    turns: RoundRobin,
    noticed: FxHashMap<u64, Arc<RunnerSlot>>,
    running: usize,
}

/// The worker threads and the event loop of a tenant group.
pub struct SharedWorkers {
    threads: Mutex<Threads>,
    work_ready: Condvar,
    event_loop: Mutex<EventLoop>,
    max_async: usize,
    host: Option<Arc<dyn WorkerHost>>,
    last_number: Mutex<u64>,
}

impl SharedWorkers {
    /// Returns shared workers without a runner.
    pub fn new(
        max_workers: usize,
        max_async: usize,
        host: Option<Arc<dyn WorkerHost>>,
    ) -> Arc<Self> {
        let max_workers = if host.is_some() { max_workers } else { 0 };
        Arc::new(Self {
            threads: Mutex::new(Threads {
                workers: WorkerSlots::with_max(max_workers),
                ..Threads::default()
            }),
            work_ready: Condvar::new(),
            event_loop: Mutex::default(),
            max_async,
            host,
            last_number: Mutex::new(0),
        })
    }

    /// Returns queues for a runner that will join, and the runner's number. No other runner has the same tokens.
    pub fn queues(&self) -> (u64, WorkQueues) {
        let mut last = self.last_number.lock();
        *last += 1;
        (*last, WorkQueues::numbered(*last))
    }

    /// Adds a runner. Its queues are served until they are closed.
    pub fn join(
        self: &Arc<Self>,
        number: u64,
        queues: WorkQueues,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
    ) -> Arc<RunnerSlot> {
        let slot = Arc::new(RunnerSlot {
            number,
            queues,
            mailbox,
            clock,
        });
        let hook = |serve: fn(&Self, &Arc<RunnerSlot>)| -> Arc<dyn Fn() + Send + Sync> {
            let (shared, slot) = (Arc::downgrade(self), Arc::downgrade(&slot));
            Arc::new(move || {
                if let Some((shared, slot)) = Weak::upgrade(&shared).zip(Weak::upgrade(&slot)) {
                    serve(&shared, &slot);
                }
            })
        };
        (self.threads.lock().runners).insert(number, Arc::clone(&slot));
        let queue = slot.queue(Executor::Threads);
        queue.on_arrival(hook(Self::serve_threads));
        queue.share(&mut self.threads.lock().workers);
        let queue = slot.queue(Executor::Loop);
        queue.on_arrival(hook(Self::serve_loop));
        // The event loop does not use the worker slots.
        queue.share(&mut WorkerSlots::default());
        // Work may have arrived before the hooks were set.
        self.serve_threads(&slot);
        self.serve_loop(&slot);
        slot
    }

    /// The runners that share the workers.
    pub fn runners(&self) -> Vec<Arc<RunnerSlot>> {
        self.threads.lock().runners.values().cloned().collect()
    }

    /// Takes a thread's next work, waiting for it up to `patience`. `None`: no work arrived.
    pub fn wait_take(&self, worker: WorkerId, patience: Duration) -> Option<SharedWork> {
        let until = Instant::now() + patience;
        let mut threads = self.threads.lock();
        loop {
            if let Some(work) = threads.take(worker) {
                threads.call_worker(&self.work_ready);
                self.unlock(threads);
                return Some(work);
            }
            if threads.ended {
                return None;
            }
            threads.workers.transition(SlotEvent::Waits);
            let timed_out = self.work_ready.wait_until(&mut threads, until).timed_out();
            threads.workers.transition(SlotEvent::StopsWaiting);
            if timed_out {
                let work = threads.take(worker);
                threads.call_worker(&self.work_ready);
                self.unlock(threads);
                return work;
            }
        }
    }

    /// Takes a thread's next work without waiting.
    pub fn try_take(&self, worker: WorkerId) -> Option<SharedWork> {
        let mut threads = self.threads.lock();
        let work = threads.take(worker)?;
        threads.call_worker(&self.work_ready);
        self.unlock(threads);
        Some(work)
    }

    /// Frees the slot of the calling worker if there are more workers than allowed, because one was started for a callback, and
    /// no callback is ready. Returns whether the worker must end.
    pub fn leave_if_surplus(&self) -> bool {
        let mut threads = self.threads.lock();
        if !threads.workers.has_surplus() || threads.turns.has_callbacks(Executor::Threads) {
            return false;
        }
        threads.workers.transition(SlotEvent::Leaves);
        threads.call_worker(&self.work_ready);
        self.unlock(threads);
        true
    }

    /// Takes up to `limit` pieces of work for the event loop, within the number that it may run at once.
    pub fn take_async(&self, worker: WorkerId, limit: usize) -> Vec<SharedWork> {
        let mut event_loop = self.event_loop.lock();
        let mut all = Vec::new();
        while all.len() < limit && event_loop.running < self.max_async {
            let Some((slot, dispatched)) = event_loop.turns.take(Executor::Loop, worker) else {
                break;
            };
            if matches!(dispatched.work, Work::Task(..)) {
                event_loop.running += 1;
            }
            all.push((slot, dispatched));
        }
        all
    }

    /// Notes that a task of the event loop has ended.
    pub fn finished_async(&self) {
        let mut event_loop = self.event_loop.lock();
        let was_full = event_loop.running >= self.max_async;
        event_loop.running = event_loop.running.saturating_sub(1);
        let more = was_full && !event_loop.turns.line.is_empty();
        drop(event_loop);
        if let Some(host) = self.host.as_ref().filter(|_| more) {
            host.loop_ready();
        }
    }

    /// Returns the notices about tasks that the event loop runs.
    pub fn async_notices(&self) -> Vec<Notice> {
        let noticed = std::mem::take(&mut self.event_loop.lock().noticed);
        let notices = noticed
            .into_values()
            .flat_map(|slot| slot.queue(Executor::Loop).notices(Duration::ZERO));
        notices.collect()
    }

    /// Whether no runner is left.
    pub fn has_ended(&self) -> bool {
        self.threads.lock().ended
    }

    /// Handles work, notices and the closing of a runner's thread queue.
    fn serve_threads(&self, slot: &Arc<RunnerSlot>) {
        let queue = slot.queue(Executor::Threads);
        let notices = queue.notices(Duration::ZERO);
        let mut threads = self.threads.lock();
        for notice in &notices {
            match notice {
                Notice::Overrun { .. } | Notice::Cancelled { replaced: true, .. } => {
                    threads.workers.transition(SlotEvent::Leaves);
                }
                // The queue requested the worker, and took a slot for it, before it was shared.
                Notice::WorkerWanted => threads.wanted += 1,
                // The function reads the flag of its handle.
                Notice::Cancelled { .. } => {}
            }
        }
        if queue.is_closed() {
            threads.runners.remove(&slot.number);
            threads.ended = threads.runners.is_empty();
        }
        if slot.has_work(Executor::Threads) {
            threads.turns.join(slot);
        }
        threads.call_worker(&self.work_ready);
        let ended = threads.ended;
        self.unlock(threads);
        let Some(host) = &self.host else {
            return;
        };
        for notice in notices {
            if let Notice::Overrun { worker, token } = notice {
                host.interrupt(worker, token);
            }
        }
        if ended {
            self.work_ready.notify_all();
            host.ended();
        }
    }

    fn serve_loop(&self, slot: &Arc<RunnerSlot>) {
        let mut event_loop = self.event_loop.lock();
        event_loop.noticed.insert(slot.number, Arc::clone(slot));
        if slot.has_work(Executor::Loop) {
            event_loop.turns.join(slot);
        }
        drop(event_loop);
        if let Some(host) = &self.host {
            host.loop_ready();
        }
    }

    /// Releases the lock, and then requests workers from the host.
    fn unlock(&self, mut threads: MutexGuard<'_, Threads>) {
        let wanted = std::mem::take(&mut threads.wanted);
        drop(threads);
        if let Some(host) = &self.host {
            for _ in 0..wanted {
                host.worker_wanted();
            }
        }
    }
}
