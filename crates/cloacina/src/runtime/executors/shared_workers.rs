//! Workers that serve the runners of a tenant group in turn (semantics H4).
//!
//! Each runner keeps its own queues, so returning claims, cancelling and closing for one runner do not affect the
//! others. The workers take one task at a time from each runner that has work, in turn. The priority of a task affects
//! only the order of its own runner's tasks.
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

/// The part of the program that owns the shared worker threads and the event loop.
pub trait WorkerHost: Send + Sync {
    /// Starts another worker thread.
    fn worker_wanted(&self);
    /// Interrupts a worker whose task overran its timeout. Another worker gets the slot.
    fn interrupt(&self, worker: WorkerId, token: WorkToken);
    /// Wakes the event loop, because work or a notice is ready for it.
    fn loop_ready(&self);
    /// Ends the workers, because no runner is left.
    fn ended(&self);
}

/// A runner that shares workers.
pub struct RunnerSlot {
    number: u64,
    queues: WorkQueues,
    mailbox: Arc<Mailbox>,
    clock: Arc<dyn Clock>,
}

impl RunnerSlot {
    /// The runner's queue for an executor.
    pub fn queue(&self, executor: Executor) -> &Arc<WorkQueue> {
        self.queues.of(executor)
    }

    /// Sends a message to the runner's coordinator. If the coordinator is closed, the message is dropped.
    pub fn report(&self, message: Message) {
        drop(self.mailbox.send(message));
    }

    /// The runner's clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn has_work(&self, executor: Executor) -> bool {
        self.queues.of(executor).load().1 > 0
    }
}

/// The runners that have work, in the order in which workers serve them.
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

    /// Whether at least one runner has a callback.
    fn has_callbacks(&self, executor: Executor) -> bool {
        let mut queues = self.line.iter().map(|slot| slot.queue(executor));
        queues.any(|queue| queue.has_callbacks())
    }

    /// Takes one callback, from the first runner that has one.
    fn take_callback(&mut self, executor: Executor, worker: WorkerId) -> Option<SharedWork> {
        let mut line = self.line.iter();
        let index = line.position(|slot| slot.queue(executor).has_callbacks())?;
        let slot = self.line.remove(index)?;
        self.members.remove(&slot.number);
        // A queue returns its callbacks before its tasks.
        let work = slot.queue(executor).try_take(worker, slot.clock());
        if slot.has_work(executor) {
            self.join(&slot);
        }
        Some((slot, work?))
    }

    /// Takes one piece of work from the first runner that has any. If this runner has more, it moves to the end of the line.
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

/// A piece of work, with its runner.
pub type SharedWork = (Arc<RunnerSlot>, DispatchedWork);

#[derive(Default)]
struct Threads {
    turns: RoundRobin,
    runners: FxHashMap<u64, Arc<RunnerSlot>>,
    workers: WorkerSlots,
    /// The number of workers that will be requested from the host once the lock is released.
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

    /// Takes work for a worker. If a worker was started for a callback and there are now more workers than allowed, takes only
    /// callbacks.
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
    /// The runners that may have notices for the event loop, by number.
    noticed: FxHashMap<u64, Arc<RunnerSlot>>,
    /// The number of tasks that are running on the event loop.
    running: usize,
}

/// The worker threads and the event loop of a tenant group.
pub struct SharedWorkers {
    threads: Mutex<Threads>,
    work_ready: Condvar,
    event_loop: Mutex<EventLoop>,
    /// Maximum number of tasks that run on the event loop at the same time.
    max_async: usize,
    host: Option<Arc<dyn WorkerHost>>,
    last_number: Mutex<u64>,
}

impl SharedWorkers {
    /// Returns shared workers that serve no runner yet. Without a host, no worker threads are started.
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

    /// Returns the queues for a runner that will join, and the runner's number. The tokens of different runners never collide.
    pub fn queues(&self) -> (u64, WorkQueues) {
        let mut last = self.last_number.lock();
        *last += 1;
        (*last, WorkQueues::numbered(*last))
    }

    /// Adds a runner. The workers serve its queues until these are closed.
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
        // The worker slots are for threads. The event loop does not use them.
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

    /// Takes the next work for a worker thread, and waits for it up to `patience`. Returns `None` if no work arrives.
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

    /// Takes the next work for a worker thread, without waiting.
    pub fn try_take(&self, worker: WorkerId) -> Option<SharedWork> {
        let mut threads = self.threads.lock();
        let work = threads.take(worker)?;
        threads.call_worker(&self.work_ready);
        self.unlock(threads);
        Some(work)
    }

    /// Frees the slot of the calling worker if there are more workers than allowed and no callback is ready. There can be too
    /// many workers because one was started for a callback. Returns whether the worker must end.
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

    /// Takes up to `limit` pieces of work for the event loop. Does not exceed the number of tasks that it may run at the same
    /// time.
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

    /// Notes that a task on the event loop has ended.
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

    /// Takes the notices about tasks on the event loop.
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

    /// Handles new work, notices and the closing of a runner's queue for threads.
    fn serve_threads(&self, slot: &Arc<RunnerSlot>) {
        let queue = slot.queue(Executor::Threads);
        let notices = queue.notices(Duration::ZERO);
        let mut threads = self.threads.lock();
        for notice in &notices {
            match notice {
                Notice::Overrun { .. } | Notice::Cancelled { replaced: true, .. } => {
                    threads.workers.transition(SlotEvent::Leaves);
                }
                // The queue requested this worker before the queue was shared. The worker's slot is already counted.
                Notice::WorkerWanted => threads.wanted += 1,
                // The worker is not interrupted. The function that it runs can check the flag of its task handle.
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

    /// Releases the lock, then requests the wanted workers from the host.
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
